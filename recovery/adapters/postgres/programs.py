"""PostgreSQL's own programs: the right ones for a server, run without a password on any command line.

They are chosen by the server's major version. Failures become sentences: a server that is away is `Transient`, and what
this machine lacks, a program or room on its disk, is `Hindered`.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from changecontrol.errors import Hindered, Permanent, Transient
from changecontrol.processes import Account, run_as, stop_child
from recovery.ports.postgres import DatabaseServer, parse_lsn

CONNECT_SECONDS = 10
PIPE_BYTES = 1024 * 1024
STOP_STEPS = ((signal.SIGTERM, 10.0),)
FOLDERS = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/opt/homebrew/opt/postgresql@{major}/bin")
OLDEST_MAJOR = 15
VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "channel_binding": "PGCHANNELBINDING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""What may stand in a database's address, and the variable that tells it to a program."""
UNDISTURBED = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "default_transaction_read_only": "off",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "role": "none",
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        # Nothing that somebody made in the database stands in for what is PostgreSQL's own.
        "search_path": "pg_catalog",
    }.items()
)
"""With what a superuser enters a restored server: it goes before whatever its databases and roles set."""
AWAY = re.compile(
    r"could not connect|connection refused|timeout expired|the database system is|closed the connection|"
    r"terminating connection|remaining connection slots|too many connections|could not receive|No route to host",
    re.IGNORECASE,
)
LOBBIES = ("postgres", "template1")
"""The databases that a server is made with and whoever means no other is let into; either may be gone or closed."""
NO_ROOM = "No space left on device"
"""What a program says, and the log of a server, where a disk is full."""
ROWS = re.compile(r"\s*(?:\S+: )?(?:DETAIL|CONTEXT|HINT|STATEMENT|QUERY):", re.IGNORECASE)
"""Begins a line in which PostgreSQL repeats what somebody wrote: it belongs into no sentence and no message."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one major version in one folder."""

    folder: Path
    major: int

    def path(self, name: str) -> Path:
        found = self.folder / name
        if not found.is_file():
            raise Hindered(f"PostgreSQL {self.major} has no program '{name}' in {self.folder}; install it there.")
        return found


def find_programs(*, major: int, folders: Sequence[str] = ()) -> Programs:
    """Return the programs of this major version from the folders given, the usual places, or PATH.

    A folder may say `{major}`. Raises `Permanent` naming the version where none has them.
    """
    candidates = [Path(folder.replace("{major}", str(major))) for folder in (*folders, *FOLDERS)]
    on_path = shutil.which("pg_basebackup")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if (folder / "pg_basebackup").is_file() and _major_of(folder / "pg_basebackup") == major:
            return Programs(folder=folder, major=major)
    raise Permanent(f"The programs of PostgreSQL {major} are not installed on this machine (pg_basebackup and others).")


def connection_environment(url: str) -> dict[str, str]:
    """Return the environment in which a program finds this database: nothing of it stands on a command line."""
    try:
        options = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise Permanent("The address of the database is not one that PostgreSQL's programs accept.") from None
    if is_ours := options.get("options") == UNDISTURBED:
        del options["options"]
    unknown = sorted(set(options) - set(VARIABLES) - {"application_name", "connect_timeout"})
    if unknown:
        raise Permanent(f"The address of the database says '{unknown[0]}', which backups do not know.")
    environment = {VARIABLES[name]: str(value) for name, value in options.items() if name in VARIABLES}
    if is_ours:
        environment["PGOPTIONS"] = UNDISTURBED
    return plain_environment() | environment | {"PGCONNECT_TIMEOUT": str(CONNECT_SECONDS)}


def undisturbed(url: str) -> str:
    """Return the address of a restored server by which its superuser's session is as we want it, and nobody else's."""
    return make_conninfo(url, options=UNDISTURBED)


def plain_environment() -> dict[str, str]:
    """Return what programs see: none of the caller's variables, English messages."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def run_program(
    command: Sequence[str | Path], *, environment: Mapping[str, str], account: Account | None = None, seconds: float
) -> str:
    """Run a program and return what it printed. Raises `Permanent`, `Transient` or `Hindered` with its last words."""
    name = Path(command[0]).name
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603
            [str(word) for word in command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
            **run_as(account),
        )
    except subprocess.TimeoutExpired:
        raise Transient(f"{name} was not done after {seconds:.0f} seconds.") from None
    except OSError as error:
        raise Hindered(f"{name} could not be started: {error.strerror}.") from None
    if done.returncode != 0:
        raise _ended(name, words=done.stderr or done.stdout, environment=environment)
    return done.stdout


def output_of(
    command: Sequence[str | Path], *, environment: Mapping[str, str], part_bytes: int
) -> Generator[memoryview, None, None]:
    """Yield what a program writes in parts of this size but for the last; close it where not everything is read.

    Raises `Permanent`, `Transient` or `Hindered` with its last words, at the end, where it did not succeed.
    """
    name = Path(command[0]).name
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(  # noqa: S603
            [str(word) for word in command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        assert child.stdout is not None
        try:
            with child.stdout as pipe:
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                yield from _parts_of(pipe.fileno(), part_bytes=part_bytes)
            if child.wait() != 0:
                raise _ended(name, words=_all_of(said), environment=environment)
        finally:
            stop_child(child, steps=STOP_STEPS)


def _parts_of(pipe: int, *, part_bytes: int) -> Iterator[memoryview]:
    """Read straight into what is yielded: a part gathered from pieces would be copied once more."""
    is_open = True
    while is_open:
        part = memoryview(bytearray(part_bytes))
        filled = 0
        while filled < part_bytes and (count := os.readv(pipe, [part[filled:]])):
            filled += count
        is_open = filled == part_bytes
        if filled:
            yield part[:filled]


def feed_program(
    command: Sequence[str | Path],
    *,
    content: Iterable[bytes],
    environment: Mapping[str, str],
    account: Account | None = None,
    name: str = "",
) -> int:
    """Run a program on content that comes in parts, and return the number of bytes. `name` says what it does.

    Raises `Permanent`, `Transient` or `Hindered` with its last words; it is ended where the content raises.
    """
    size = 0
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(  # noqa: S603
            [str(word) for word in command],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            **run_as(account),
        )
        assert child.stdin is not None
        try:
            # A program that ends early says why itself.
            with suppress(BrokenPipeError), child.stdin as pipe:
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                for data in content:
                    size += len(data)
                    pipe.write(data)
            if child.wait() != 0:
                raise _ended(name or Path(command[0]).name, words=_all_of(said), environment=environment)
        finally:
            stop_child(child, steps=())
    return size


def _all_of(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode(errors="replace")


def _ended(name: str, *, words: str, environment: Mapping[str, str]) -> Transient | Permanent | Hindered:
    found = failure(name, words=words, environment=environment)
    # It says nothing of what the program was given.
    return Hindered(found.reason) if NO_ROOM in found.reason else found


def failure(name: str, *, words: str, environment: Mapping[str, str]) -> Transient | Permanent:
    """Return what a program's last words mean, without the password of its environment and without anybody's rows."""
    told = itertools.takewhile(lambda line: "Command was:" not in line, words.strip().splitlines())
    lines = [line.strip() for line in told if line.strip() and not ROWS.match(line)]
    last = " ".join(lines[-3:])[-600:] or "it says nothing"
    secret = environment.get("PGPASSWORD")
    if secret:
        last = last.replace(secret, "…")
    sentence = f"{name} did not succeed: {last}"
    return Transient(sentence) if AWAY.search(last) else Permanent(sentence)


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect to a database; what goes wrong is `Transient` or `Permanent`, without the address."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
            yield connection
    except psycopg.Error as error:
        raise _refused("The database", error, url=url) from None


def entrance_of(url: str, *, database: str) -> str:
    """Return the address at which a server lets us in: of a lobby that it has, else of the database named.

    Raises what it said of the first.
    """
    refusals: list[Permanent] = []
    for name in dict.fromkeys(filter(None, (*LOBBIES, database))):
        address = make_conninfo(url, dbname=name)
        try:
            with connected(address):
                return address
        except Permanent as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _refused(name: str, error: psycopg.Error, *, url: str) -> Transient | Permanent:
    """Return what a connection's error means. What is no address at all is not quoted: its words may be a password."""
    try:
        secret = str(conninfo_to_dict(url).get("password") or "")
    except psycopg.ProgrammingError:
        return Permanent("The address of the database is not one that PostgreSQL accepts.")
    return failure(name, words=str(error), environment={"PGPASSWORD": secret})


def observe_server(url: str) -> DatabaseServer:
    """Ask a server who it is. Raises `Permanent` for a version before 15."""
    with connected(url) as connection:
        major, version = observe_version(connection)
        segment = one_row(connection, "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'")[0]
    try:
        with psycopg.connect(
            url, autocommit=True, connect_timeout=CONNECT_SECONDS, replication="database"
        ) as replication:
            found = replication.execute("IDENTIFY_SYSTEM").fetchone()
    except psycopg.Error as error:
        raise _refused("A replication connection", error, url=url) from None
    if found is None:
        raise Permanent("The server does not identify itself over the replication protocol.")
    return DatabaseServer(
        system_identifier=str(found[0]),
        version=version,
        major=major,
        timeline=int(found[1]),
        segment_bytes=int(segment),
    )


def observe_version(connection: psycopg.Connection[Any]) -> tuple[int, str]:
    """Return a server's major version and its version in words. Raises `Permanent` for one before 15."""
    number, version = one_row(
        connection, "SELECT current_setting('server_version_num')::int, current_setting('server_version')"
    )
    major = int(number) // 10_000
    if major < OLDEST_MAJOR:
        raise Permanent(f"The server is PostgreSQL {major}; backups need {OLDEST_MAJOR} or newer.")
    return major, str(version)


def one_row(connection: psycopg.Connection[Any], statement: str, *values: object) -> tuple[Any, ...]:
    """Return the first row of a statement that always has one."""
    row = connection.execute(statement, values or None).fetchone()
    if row is None:
        raise Permanent("The database gave no answer where it always has one.")
    return tuple(row)


def lsn_of(value: object) -> int:
    """Return a position from a column; 0 for none."""
    return parse_lsn(str(value)) if value is not None else 0


def _major_of(program: Path) -> int:
    try:
        printed = subprocess.run(  # noqa: S603
            [program, "--version"], capture_output=True, text=True, check=False, env=plain_environment(), timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\(PostgreSQL\) (\d+)", printed)
    return int(found.group(1)) if found else 0
