"""From a backup to a restore and a drill on the practice estate, with the least rights.

The estate's clusters have no PostgreSQL behind them, so its Secrets are made to name one that the test started.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from changecontrol import clock, wiring
from changecontrol.models import User
from changecontrol.ports import Kubernetes
from changecontrol.project.local.distribution import shared_folder
from changecontrol.project.local.postgres import Postgres
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import JobWork
from recovery import doors
from recovery.actions.backups import ask_backup
from recovery.actions.drills import start_drill
from recovery.actions.restores import ask_restore
from recovery.adapters.encryption import make_key_pair
from recovery.models import Drill, RecoveryPoint, Restore
from recovery.queries.points import coverage_of
from tests.contracts.cloudnativepg.conftest import Estate
from tests.factories.estate import SmallEstate, actor, small_estate
from tests.factories.recovery import backup_policy, recovery_owner

pytestmark = pytest.mark.slow

KEY = make_key_pair()
CLUSTER: list[Kubernetes] = []


def open_estate(**_: Any) -> Kubernetes:
    return CLUSTER[0]


@dataclass
class Shop:
    """An environment whose database is the estate's, and the server that stands for every recovered one."""

    estate: Estate
    places: SmallEstate
    rio: User
    server: Postgres

    @property
    def words(self) -> dict[str, Any]:
        return {"actor": actor(self.rio), "environment_id": self.places.production.pk, "at": clock.now()}

    def work(self, holds: Callable[[], Any], *, seconds: float = 150) -> None:
        """Let everything that is due happen, until something holds."""
        ends_at = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends_at
            engine.look_for_work(wiring.workflows()["upkeep"])
            for name in ("backup", "restore", "drill", "upkeep"):
                engine.tick(wiring.workflows()[name])
            engine.tick(JobWork())
            self.lead_to_server()
            # Nobody waits here as long as a worker would.
            clock.set_offset(clock._offset + timedelta(seconds=1))

    def lead_to_server(self) -> None:
        """Have the Secrets of recovered clusters name a server that is there."""
        data = {"uri": b64encode(self.server.superuser_url.encode()).decode()}
        for kind in ("drill", "restore"):
            name = f"changecontrol-{kind}-superuser"
            if self.estate.kubernetes.observe_secret(namespace=self.estate.namespace, name=name):
                body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
                self.estate.apply(f"/api/v1/namespaces/{self.estate.namespace}/secrets", body)

    def rows(self, database: str, statement: str) -> list[Any]:
        with psycopg.connect(doors.url_of(self.server.superuser_url, database=database)) as connection:
            return [row[0] for row in connection.execute(statement).fetchall()]

    def clusters(self) -> list[str]:
        answer = self.estate.admin.call("GET", self.estate.path("clusters"), doing="list clusters")
        return [one["metadata"]["name"] for one in answer.body["items"]]


@pytest.fixture
def sandboxes(settings: Any) -> Iterator[Path]:
    """A place that the user whom PostgreSQL runs as can reach."""
    folder = (shared_folder() if os.geteuid() == 0 else Path("/tmp")) / f"whole-{uuid.uuid4().hex[:6]}"
    folder.mkdir(mode=0o755)
    settings.RECOVERY_SANDBOXES = str(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def shop(estate: Estate, fresh_db: object, sandboxes: Path, tmp_path: Path, settings: Any) -> Iterator[Shop]:
    server = Postgres(tmp_path / "server", durable=False).start()
    with psycopg.connect(server.superuser_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE northwind")
    with psycopg.connect(doors.url_of(server.superuser_url, database="northwind")) as connection:
        connection.execute("CREATE TABLE orders AS SELECT generate_series(1, 100) AS id")
    for name, secret in {"owner": KEY.identity, "target": server.superuser_url}.items():
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    settings.POSTGRES_PROGRAMS = [str(server.tool("pg_dump").parent)]
    settings.ADAPTERS = {**settings.ADAPTERS, "kubernetes": f"{__name__}.open_estate"}
    CLUSTER[:] = [estate.kubernetes]
    places = small_estate()
    places.production.namespace, places.production.database = estate.namespace, "northwind"
    places.production.save(update_fields=["namespace", "database"])
    backup_policy(
        places.production,
        at=clock.now(),
        engine="cloudnativepg",
        source="",
        filestore="",
        filestore_seconds=None,
        store=f"file://{tmp_path}/objects",
        copy_store="",
        restore_credential="",
        identity=f"file:{tmp_path}/owner",
        index_identity="",
        restore_target=f"file:{tmp_path}/target",
        restore_filestore="",
        recipients=(KEY.recipient,),
    )
    estate.database()
    yield Shop(estate, places, recovery_owner(places), server)
    clock.set_offset(timedelta())
    CLUSTER.clear()
    server.destroy()


def test_point_is_taken_restored_and_drilled_and_nothing_is_left(shop: Shop, sandboxes: Path) -> None:  # BCK-5
    ask_backup(**shop.words, reason="Before the release.")
    shop.work(RecoveryPoint.objects.exists)
    point = RecoveryPoint.objects.get()
    shop.work(lambda: coverage_of(shop.places.production).holds(point.consistent_at))

    restore = ask_restore(
        **shop.words, target_at=point.consistent_at, target_database="northwind_back", reason="To look."
    )
    shop.work(lambda: Restore.objects.filter(finished_at__isnull=False).exists())
    drill = start_drill(**shop.words, level=2, target_at=point.consistent_at)
    shop.work(lambda: Drill.objects.filter(finished_at__isnull=False).exists())
    shop.work(lambda: Restore.objects.get().data == {})

    for row in (restore, drill, point):
        row.refresh_from_db()
    assert (restore.state, drill.state) == ("succeeded", "passed"), (restore.sentence, drill.sentence)
    assert (point.state, point.level) == ("verified", 2)
    assert shop.rows("northwind_back", "SELECT count(*) FROM orders") == [100]
    assert (shop.clusters(), list(sandboxes.iterdir())) == (["odoo-db"], [])
