"""The other destination follows the first within minutes, and says how far behind it is."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from changecontrol.models import Job, User
from recovery.actions.points import drop_copy
from recovery.jobs.elsewhere import copy_onward
from recovery.models import PointCopy, Upkeep
from recovery.queries.points import coverage_of
from tests.recovery.workflows.conftest import Shop
from tests.recovery.workflows.test_upkeep import back_up

pytestmark = pytest.mark.slow


def copied(shop: Shop) -> datetime | None:
    """Let upkeep copy once more, from now on; return up to when the other destination covers."""
    row = Upkeep.objects.filter(kind="copies")
    shop.work(lambda: row.exists() and not Job.objects.filter(kind="copy").exists())
    count = row.get().count
    row.update(next_due_at=clock.now())
    shop.work(lambda: row.get().count > count)
    return row.get().reached_at


def be_still(shop: Shop) -> None:
    """Let nothing be written to the first destination any more, and what was written be recorded."""
    shop.quiet()
    shop.work(lambda: not Job.objects.filter(kind="attachments").exists())
    Upkeep.objects.filter(kind="attachments").update(next_due_at=clock.now() + timedelta(days=99))


def below(shop: Shop, folder: str) -> dict[str, bytes]:
    place = shop.folder / folder / "northwind/production"
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def missing_there(shop: Shop) -> set[str]:
    return below(shop, "objects").keys() - below(shop, "elsewhere").keys()


def test_wal_and_attachments_reach_the_other_destination_between_backups(shop: Shop, rio: User) -> None:
    back_up(shop, rio)
    shop.sell()
    at = shop.now()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))
    be_still(shop)

    reached_at = copied(shop)

    assert reached_at is not None
    assert reached_at >= at
    assert reached_at <= coverage_of(shop.estate.production).spans[-1].end
    there = below(shop, "elsewhere")
    assert {key: there[key] for key in below(shop, "objects") if key in there} == {
        key: data for key, data in below(shop, "objects").items() if key in there
    }
    assert [key for key in missing_there(shop) if not key.startswith("wal/")] == []


def test_a_copy_that_was_lost_is_made_again_and_recorded(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    facts = shop.folder / f"elsewhere/northwind/production/base/{point.key}/facts.json"
    facts.unlink()
    with transaction.atomic():
        drop_copy(point, store=shop.policy.copy_store, sentence="Lost.", actor=system_actor(), at=clock.now())

    copied(shop)

    assert facts.exists()
    assert PointCopy.objects.filter(point=point, store=shop.policy.copy_store).exists()


class Killed(BaseException):
    pass


class Dying:
    """The other destination, under which the process is killed at the fifth object."""

    def __init__(self, store: Any) -> None:
        self._store, self._left = store, 4

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def ensure_object(self, key: str, data: bytes) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Killed
        return self._store.ensure_object(key, data)


def open_dying(url: str, **words: Any) -> Any:
    store = open_store(url, **words)
    return Dying(store) if url.endswith("/elsewhere") else store


def test_an_attempt_that_was_killed_is_gone_on_with(shop: Shop, rio: User, settings: Any) -> None:
    back_up(shop, rio)
    be_still(shop)
    before = {key for key in below(shop, "elsewhere") if not key.startswith("wal/")}
    shutil.rmtree(shop.folder / "elsewhere/northwind")
    adapters = settings.ADAPTERS

    settings.ADAPTERS = {**adapters, "object_store": f"{__name__}.open_dying"}
    with pytest.raises(Killed):
        copy_onward({"policy": shop.policy.pk}, lambda _: None)
    half = set(below(shop, "elsewhere"))
    settings.ADAPTERS = adapters
    copy_onward({"policy": shop.policy.pk}, lambda _: None)

    assert 0 < len(half) < 5
    assert before <= set(below(shop, "elsewhere"))
    assert missing_there(shop) <= {key for key in below(shop, "objects") if key.startswith("wal/")}


def test_what_lies_there_with_another_size_is_never_overwritten_and_is_told(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    wrong = next(Path(shop.folder / "elsewhere/northwind/production/sets").iterdir())
    wrong.write_bytes(b"other")

    with pytest.raises(Permanent, match="at the other destination has another size"):
        copy_onward({"policy": shop.policy.pk}, lambda _: None)

    assert wrong.read_bytes() == b"other"
    assert point.key in wrong.name
