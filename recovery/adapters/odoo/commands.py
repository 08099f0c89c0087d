"""Odoo's own program on this machine: which it is, whose code it has, and how it is run against one database.

Passwords travel in the environment, never in a file or on a command line. What Odoo prints may repeat rows, so of its
log nothing but the names of errors is ever told.
"""

from __future__ import annotations

import hashlib
import re
import resource
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from changecontrol.errors import Permanent, Transient
from changecontrol.processes import end_with_parent, run_as, stop_child, unprivileged_account
from recovery.adapters.odoo.places import STOP_STEPS, Place, make_place, tear_down_odoo
from recovery.adapters.postgres.programs import connected, connection_environment, one_row, plain_environment

VERSION_SECONDS = 60
NEUTRALISE_SECONDS = 900.0
MEMORY_BYTES = 2560 * 1024**2
"""What Odoo itself allows a worker unless told otherwise."""
CPU_SECONDS = 1800
LOG_LINES = 1000
SERIES = re.compile(r"(saas~)?\d+\.\d+")
DATABASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
PLAIN_ERROR = re.compile(r"^((?:[a-z_0-9]+\.)*[A-Za-z]*(?:Error|Exception|Violation|Undefined[A-Z]\w*|Exit))\b")
NOT_LOADED = re.compile(r"Some modules are not loaded, some dependencies or manifest may be missing: \[(.*)\]")
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody is: what a copy would send over HTTP in spite of all ends here."""


def has_command() -> bool:
    """Tell whether an Odoo is configured on this machine."""
    return bool(settings.ODOO_COMMAND)


def series_of(version: str) -> str:
    """Return the series of a version, such as `19.0` of `19.0.1.3`; empty where there is none in it."""
    found = SERIES.search(version)
    return found.group() if found else ""


def observe_series() -> str:
    """Return the series of the code that `ODOO_COMMAND` runs. Raises `Permanent` where it does not run."""
    command = _command()
    try:
        done = subprocess.run(  # noqa: S603
            [*command, "--version"],
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=VERSION_SECONDS,
            **run_as(unprivileged_account()),
        )
    except subprocess.TimeoutExpired:
        raise Transient(f"'{command[0]} --version' did not answer within {VERSION_SECONDS} s.") from None
    except OSError as error:
        raise Permanent(f"ODOO_COMMAND names {command[0]}, which could not be started: {error.strerror}.") from None
    series = series_of(done.stdout) if "odoo" in done.stdout.lower() else ""
    if done.returncode != 0 or not series:
        raise Permanent(f"ODOO_COMMAND names {command[0]}, which does not say which Odoo it is.")
    return series


def neutralise_by_command(url: str, *, version: str, run_id: str, folder: Path) -> bool:
    """Let `odoo neutralize` do its part; return whether there is an Odoo of the database's series here to do it.

    Raises `Permanent` where the command fails: it does all or nothing, so the copy is as it was.
    """
    if not has_command() or observe_series() != series_of(version):
        return False
    place = make_place(folder, run_id=run_id)
    try:
        with role_for_odoo(url, run_id=run_id) as own_url:
            configure(place, url=own_url, more={"log_level": "warn"})
            child = spawn(place, ["neutralize", "-c", str(place.configuration)], url=own_url)
            try:
                code = child.wait(NEUTRALISE_SECONDS)
            except subprocess.TimeoutExpired:
                raise Transient(f"'odoo neutralize' was not done after {NEUTRALISE_SECONDS:.0f} s.") from None
            finally:
                stop_child(child, steps=STOP_STEPS)
        if code != 0:
            raise Permanent(f"'odoo neutralize' ended with code {code}{trouble(place)}; the copy is not neutralised.")
    finally:
        tear_down_odoo(folder, run_id=run_id)
    return True


def configure(place: Place, *, url: str, more: dict[str, str]) -> None:
    """Write the configuration of a run: one database that nobody lists, no cron, no job runner, no mail server."""
    options = conninfo_to_dict(url)
    lines = {
        "admin_passwd": secrets.token_urlsafe(24),
        "db_name": database_of(url),
        "db_host": str(options.get("host") or options.get("hostaddr") or ""),
        "db_port": str(options.get("port") or 5432),
        "db_user": str(options.get("user") or ""),
        "db_sslmode": str(options.get("sslmode") or "prefer"),
        "data_dir": str(place.data),
        "list_db": "False",
        "workers": "0",
        "max_cron_threads": "0",
        # Whatever a retailer's own configuration loads besides, such as a job runner, stays out.
        "server_wide_modules": "base,rpc,web",
        "smtp_server": "invalid",
        "smtp_port": "1",
        "limit_memory_hard": str(MEMORY_BYTES),
        "limit_memory_soft": "0",
        "limit_time_real": "0",
        **({"addons_path": ",".join(settings.ODOO_ADDONS)} if settings.ODOO_ADDONS else {}),
        **more,
    }
    if any("\n" in value or "\r" in value for value in lines.values()):
        raise Permanent("The address of the database has a line break, which Odoo's configuration would not bear.")
    place.write(place.configuration, "[options]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))


def spawn(place: Place, arguments: Sequence[str], *, url: str) -> subprocess.Popen[bytes]:
    """Start Odoo as a child with limits that ends with this process. Start it from the main thread."""
    known = connection_environment(url)
    environment = plain_environment() | {
        **{name: known[name] for name in known if name.startswith("PGSSL") or name == "PGPASSWORD"},
        "LC_ALL": "C.UTF-8",
        "HOME": str(place.work),
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE),
        "no_proxy": "127.0.0.1,localhost",
    }
    try:
        with place.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [*_command(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place.work,
                env=environment,
                start_new_session=True,
                preexec_fn=_limited(end_with_parent(signal.SIGTERM)),
                **run_as(place.account),
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise Permanent(f"ODOO_COMMAND names {_command()[0]}, which could not be started ({error}).") from None


def trouble(place: Place) -> str:
    """Return the name of the last error in Odoo's log, in brackets, or nothing: its words may repeat rows."""
    names = [found.group(1) for line in _logged(place) if (found := PLAIN_ERROR.match(line.strip()))]
    return f" ({names[-1]})" if names else ""


def unloaded_modules(place: Place) -> tuple[str, ...]:
    """Return the installed modules for which Odoo had no code; it says so in its log alone."""
    found = [names for line in _logged(place) for names in NOT_LOADED.findall(line)]
    return tuple(sorted({name for names in found for name in re.findall(r"'(\w+)'", names)}))


def _logged(place: Place) -> list[str]:
    try:
        return place.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []


def database_of(url: str) -> str:
    """Return the database's name. Raises `Permanent` for one that Odoo itself would not take."""
    name = str(conninfo_to_dict(url).get("dbname") or "")
    if not DATABASE.fullmatch(name):
        raise Permanent("Odoo takes a database whose name is made of letters, digits, dots, hyphens and underscores.")
    return name


@contextmanager
def role_for_odoo(url: str, *, run_id: str) -> Iterator[str]:
    """Give the address under which Odoo may use a copy: Odoo refuses the role `postgres`, and none should be superuser.

    For such a role one is made that may do what the owner of the tables may, and is dropped afterwards.
    """
    with connected(url) as connection:
        name, is_superuser = one_row(connection, "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user")
        if name != "postgres" and not is_superuser:
            yield url
            return
        role = f"changecontrol_{hashlib.sha256(run_id.encode()).hexdigest()[:12]}"
        owners = _owners(connection)
        password = secrets.token_urlsafe(24)
        _drop_role(connection, role, owner=owners[0])
        # Only its hash is in the statement: a server may log what makes roles.
        hidden = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}")
        members = sql.SQL(", ").join(map(sql.Identifier, owners))
        connection.execute(statement.format(sql.Identifier(role), sql.Literal(hidden), members))
        try:
            yield make_conninfo(url, user=role, password=password)
        finally:
            _drop_role(connection, role, owner=owners[0])


def _owners(connection: psycopg.Connection[Any]) -> list[str]:
    """Return who owns Odoo's tables and the database."""
    rows = connection.execute(
        "SELECT DISTINCT pg_get_userbyid(owner) FROM ("
        " SELECT relowner AS owner FROM pg_class WHERE oid = to_regclass('public.ir_module_module')"
        " UNION SELECT datdba FROM pg_database WHERE datname = current_database()) AS owners"
    )
    return sorted(owner for (owner,) in rows)


def _drop_role(connection: psycopg.Connection[Any], role: str, *, owner: str) -> None:
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount == 0:
        return
    connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [role])
    names = {"role": sql.Identifier(role), "owner": sql.Identifier(owner)}
    for statement in ("REASSIGN OWNED BY {role} TO {owner}", "DROP OWNED BY {role}", "DROP ROLE {role}"):
        connection.execute(sql.SQL(statement).format(**names))


def _command() -> list[str]:
    if not settings.ODOO_COMMAND:
        raise Permanent("No Odoo is configured here: set ODOO_COMMAND, such as ODOO_COMMAND=/usr/bin/odoo.")
    return list(settings.ODOO_COMMAND)


def _limited(prepare: Callable[[], None]) -> Callable[[], None]:
    def limit() -> None:
        prepare()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return limit
