"""The whole path on an object store of each kind: backed up, copied, drilled, brought back by who only reads."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from changecontrol.models import Job, User
from changecontrol.project.local.postgres import Postgres
from recovery import doors
from recovery.models import PointCopy
from recovery.models.drill import Sabotage
from recovery.queries.points import coverage_of
from tests.plugin import TestDatabase
from tests.recovery.workflows.conftest import Shop, archived, founded
from tests.recovery.workflows.test_drill import backed_up, drilled
from tests.recovery.workflows.test_restore import asked, over, rows
from tests.stores import KINDS, Place, place

pytestmark = pytest.mark.slow


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "server").mkdir()
    with place(request.param, tmp_path / "server") as found:
        yield found


@pytest.fixture
def shop(
    server: Place, fresh_db: TestDatabase, shop_server: Postgres, sandboxes: Path, tmp_path: Path, settings: Any
) -> Iterator[Shop]:
    for who in ("writer", "reader"):
        (tmp_path / who).write_text(getattr(server, who) or server.writer)
        (tmp_path / who).chmod(0o600)
    prefix = uuid.uuid4().hex
    estate, policy = founded(
        shop_server,
        tmp_path,
        settings,
        wal_seconds=1,
        filestore_seconds=1,
        store=server.address(prefix=f"{prefix}/first"),
        store_credential=f"file:{tmp_path}/writer",
        copy_store=server.address(prefix=f"{prefix}/second"),
        copy_credential=f"file:{tmp_path}/writer",
        restore_credential=f"file:{tmp_path}/reader",
    )
    yield from archived(estate, policy, shop_server, tmp_path, sandboxes)


def test_a_shop_is_backed_up_drilled_and_brought_back(shop: Shop, server: Place, rio: User) -> None:
    point = backed_up(shop, rio)
    shop.work(lambda: PointCopy.objects.filter(point=point).count() == 2)
    target_at = shop.now()
    before = rows(shop, "northwind", "SELECT name FROM sale_order ORDER BY id")
    shop.sell()
    shop.work(lambda: coverage_of(shop.estate.production).holds(target_at))

    first = drilled(shop, rio, level=1, target_at=target_at)
    caught = drilled(shop, rio, level=1, target_at=target_at, sabotage=Sabotage.FLIP)
    second = drilled(shop, rio, level=3, target_at=target_at)
    restore = over(shop, asked(shop, rio, target_at=target_at))

    assert [(one.state, one.trouble_found) for one in (first, second)] == [("passed", ""), ("passed", "")]
    assert caught.sentence.startswith("The sabotage was caught by:")
    assert restore.state == "succeeded", restore.sentence
    assert rows(shop, "northwind_yesterday", "SELECT name FROM sale_order ORDER BY id") == before
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 3)
    first_store, second_store = doors.open_store(shop.policy), doors.open_copy_store(shop.policy)
    folder = doors.folder_of(point)
    of_point = {one.key: one.size for one in first_store.observe_objects(folder)}
    assert {one.key: one.size for one in second_store.observe_objects(folder)} == of_point != {}
    kept = " ".join(map(str, Job.objects.values_list("result", "order")))
    assert not [secret for secret in (server.writer, server.reader) if secret and secret in kept]
