"""Sets the scene before Django reads its settings: real PostgreSQL and Valkey, a database from a migrated template.

Tests connect as the application's role, so what the database forbids it is forbidden in tests too. Each worker has a
database of its own. `db` (a rolled-back transaction) is the usual way; `fresh_db` commits for real and puts a new copy
of the template in place afterwards.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from changecontrol.project.local.services import services_for_tests

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".local" / "test"

SERVICES = services_for_tests(FOLDER)


def with_name(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _set_environment() -> None:
    os.environ.update(
        DJANGO_SETTINGS_MODULE="changecontrol.project.settings",
        DATABASE_URL=SERVICES.app_url,
        MIGRATION_DATABASE_URL=SERVICES.owner_url,
        REDIS_URL=SERVICES.redis_url,
        SECRET_KEY="only-for-tests-" + "x" * 40,
        OBJECT_STORE_URL=f"file://{FOLDER}/objects",
        GIT_MIRRORS=str(FOLDER / "mirrors"),
        GIT_LOCAL_PATHS_ALLOWED="1",
        EMAIL_URL="memory://",
        LOG_LEVEL="WARNING",
        STATIC_AUTOREFRESH="1",
        DATABASE_CONNECTION_SECONDS="0",
    )
    for name in ("DEMO", "DEBUG", "BASE_URL", "ODOO_COMMAND", "ODOO_ADDONS"):
        os.environ.pop(name, None)


_set_environment()


def _template_name() -> str:
    """Name the template after everything that decides its content."""
    seen = hashlib.sha256()
    for path in sorted(ROOT.glob("*/migrations/*.py")):
        seen.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    seen.update((ROOT / "requirements" / "dev.lock").read_bytes())
    return f"template_{seen.hexdigest()[:16]}"


class Server(Protocol):
    """A PostgreSQL, as its owner and as the application see it."""

    @property
    def owner_url(self) -> str: ...
    @property
    def app_url(self) -> str: ...


def _owner(server: Server) -> psycopg.Connection[Any]:
    return psycopg.connect(with_name(server.owner_url, "postgres"), autocommit=True)


def _ensure_template(name: str, *, server: Server) -> None:
    with (FOLDER / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _owner(server) as owner:
            if owner.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                return
            half_made = f"{name}_{os.getpid()}"
            owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(half_made)))
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
                cwd=ROOT,
                check=True,
                env={
                    **os.environ,
                    "DATABASE_URL": with_name(server.app_url, half_made),
                    "MIGRATION_DATABASE_URL": with_name(server.owner_url, half_made),
                },
            )
            owner.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(half_made), sql.Identifier(name))
            )


class TestDatabase:
    """The database of this process: made from the template, made again on request, gone at the end."""

    __test__ = False

    def __init__(self, server: Server = SERVICES) -> None:
        self.server = server
        self.template = _template_name()
        self.name = f"test_{uuid.uuid4().hex[:12]}"

    def create(self) -> None:
        _ensure_template(self.template, server=self.server)
        with _owner(self.server) as owner:
            owner.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(self.name), sql.Identifier(self.template)
                )
            )

    def drop(self) -> None:
        # Served pages may hold on to a connection. Only the application's role may end what it has opened itself.
        with psycopg.connect(self.server.app_url, autocommit=True) as application:
            application.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = %s AND usename = current_user AND pid <> pg_backend_pid()",
                [self.name],
            )
        with _owner(self.server) as owner:
            owner.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name)))

    def is_empty(self) -> bool:
        """Tell whether nobody has made a tenant in it."""
        with psycopg.connect(self.owner_url, autocommit=True) as owner:
            return owner.execute("SELECT FROM changecontrol_tenant LIMIT 1").fetchone() is None

    @property
    def url(self) -> str:
        """The database as the application's role sees it, for processes that tests start."""
        return with_name(self.server.app_url, self.name)

    @property
    def owner_url(self) -> str:
        return with_name(self.server.owner_url, self.name)
