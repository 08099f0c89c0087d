"""A real shop in a real Odoo, for tests marked `odoo`: made once and kept below .local, copied for every test.

`make test-odoo` says in TEST_ODOO_COMMAND which program it has set up; without it these tests are skipped.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from changecontrol.project.local.distribution import shared_folder
from changecontrol.project.local.postgres import Postgres
from changecontrol.project.local.processes import Account, run_as, unprivileged_account
from tests.plugin import ROOT

COMMAND = os.environ.get("TEST_ODOO_COMMAND", "")
MODULES = "rpc,iap_mail,sale_stock,point_of_sale,delivery,base_automation,payment_stripe --skip-auto-install"
"""What the tests ask for. With all that installs itself beside these, the shop takes twice the time."""
TEMPLATE = "shop"
ROLE = "odoo"
INSTALL_SECONDS = 900
SET_UP = r"""
SELECT 'CREATE ROLE {role} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \gexec
ALTER ROLE {role} PASSWORD '{password}';
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname LIKE 'copy\_%' \gexec
"""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the shop as a restore leaves it."""

    url: str
    filestore: Path
    folder: Path


@dataclass(frozen=True, slots=True)
class Shop:
    """The installed shop, on a PostgreSQL of its own."""

    server: Postgres
    folder: Path
    account: Account | None
    password: str

    @contextmanager
    def copied(self) -> Iterator[Copy]:
        """Give a copy of database and filestore of its own, gone with the block."""
        name = f"copy_{uuid.uuid4().hex[:8]}"
        place = self.folder / name
        place.mkdir(mode=0o755)
        shutil.copytree(self.folder / "data" / "filestore" / TEMPLATE, place / "files")
        # As a drill has it: made by whoever restores, readable by nobody else.
        (place / "files").chmod(0o700)
        self._administer(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY OWNER {}"), name, TEMPLATE, ROLE)
        try:
            yield Copy(
                url=f"postgresql://{ROLE}:{self.password}@127.0.0.1:{self.server.port}/{name}",
                filestore=place / "files",
                folder=place,
            )
        finally:
            self._administer(sql.SQL("DROP DATABASE {} WITH (FORCE)"), name)
            shutil.rmtree(place)

    def _administer(self, statement: sql.SQL, *names: str) -> None:
        with psycopg.connect(self.server.superuser_url, autocommit=True) as connection:
            connection.execute(statement.format(*map(sql.Identifier, names)))


@contextmanager
def running_shop() -> Iterator[Shop]:
    """Start the PostgreSQL of the shop, installing the shop first where there is none, and stop it with the block."""
    account = unprivileged_account()
    folder = _folder(account)
    server = Postgres(ROOT / ".local" / "test-odoo" / "postgres", durable=False).start()
    password = secrets.token_urlsafe(18)
    try:
        shop = Shop(server=server, folder=folder, account=account, password=password)
        server.run_sql(SET_UP.format(role=ROLE, password=password))
        _ensure_installed(shop)
        yield shop
    finally:
        server.stop()


def _folder(account: Account | None) -> Path:
    """Return the folder of the shop's files, which the user that Odoo runs as can reach, without old copies."""
    if account is None:
        folder = ROOT / ".local" / "test-odoo" / "shop"
    else:
        folder = shared_folder() / f"test-odoo-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("copy_*"):
        shutil.rmtree(old)
    return folder


def _ensure_installed(shop: Shop) -> None:
    mark = shop.folder / "installed"
    wanted = f"{COMMAND} {MODULES} {shop.server.cluster}"
    if mark.is_file() and mark.read_text() == wanted:
        return
    mark.unlink(missing_ok=True)
    data = shop.folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    if shop.account is not None:
        os.chown(data, shop.account.uid, shop.account.gid)
    shop.server.run_sql(
        f"DROP DATABASE IF EXISTS {TEMPLATE};\nCREATE DATABASE {TEMPLATE} OWNER {ROLE} TEMPLATE template0;\n"
    )
    done = subprocess.run(
        [
            *f"{COMMAND} -d {TEMPLATE} -i {MODULES} --with-demo --stop-after-init".split(),
            "--log-level=warn",
            "--max-cron-threads=0",
            f"--data-dir={data}",
        ],
        cwd=data,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(data),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(shop.server.port),
            "PGUSER": ROLE,
            "PGPASSWORD": shop.password,
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
        **run_as(shop.account),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    mark.write_text(wanted)
