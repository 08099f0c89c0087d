"""What catalogue and stores disagree on is found, told, and collected after a grace; trouble is no loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from changecontrol import clock
from changecontrol.models import AuditEvent, Job, Message, User
from recovery.actions.backups import ask_backup
from recovery.actions.comparisons import ask_unknown_removal
from recovery.actions.holds import place_hold
from recovery.models import Disagreement, FilestoreCopy, PointCopy, RecoveryPoint, Upkeep, Verification, WalSegment
from recovery.queries.alarms import alarms_of
from recovery.queries.points import coverage_of
from recovery.rules.comparison import GRACE
from tests.factories.estate import actor
from tests.recovery.workflows.conftest import Shop
from tests.recovery.workflows.test_upkeep import back_up, objects_of

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def real_time() -> Iterator[None]:
    yield
    clock.set_offset(timedelta())


def later(shop: Shop, by: timedelta) -> None:
    """Let time pass in which no attachments are copied: to a clock set forward, what is new is old at once."""
    shop.work(lambda: not Job.objects.filter(kind="attachments").exists())
    copy_no_more()
    clock.set_offset(clock._offset + by)


def compared(shop: Shop) -> list[tuple[str, str]]:
    """Compare once more, from now on; return what the catalogue and the primary store disagree on."""
    shop.work(lambda: not Job.objects.filter(kind="compare").exists())
    row = Upkeep.objects.filter(kind="comparison")
    count = row.get().count if row.exists() else 0
    row.update(next_due_at=clock.now())
    shop.work(lambda: row.exists() and row.get().count > count)
    return told(shop)


def told(shop: Shop, *, store: str = "") -> list[tuple[str, str]]:
    rows = Disagreement.objects.filter(store=store or shop.policy.store)
    return list(rows.order_by("kind", "name").values_list("kind", "name"))


def primary(shop: Shop, folder: str) -> list[Path]:
    return [path for path in objects_of(shop, folder) if shop.objects in path.parents]


def stranger(shop: Shop, point: RecoveryPoint, *, folders: tuple[str, ...]) -> str:
    """Lay what a point has below some folders beside it under a name of no row, and return the name."""
    name = "20261101T020000Z-777"
    place = shop.objects / "northwind/production"
    found = {
        "base": f"base/{point.key}",
        "sets": next(path for path in (place / "sets").iterdir() if point.key in path.name).name,
        "filestore/points": f"filestore/points/{point.key}.files.zst.age",
    }
    shutil.copytree(place / found["base"], place / "base" / name)
    if "sets" in folders:
        shutil.copy(place / "sets" / found["sets"], place / "sets" / found["sets"].replace(point.key, name))
    if "filestore/points" in folders:
        shutil.copy(place / found["filestore/points"], place / f"filestore/points/{name}.files.zst.age")
    return name


def copy_no_more() -> None:
    """Let no attachments be copied, nor anything to the other destination, from now on."""
    Upkeep.objects.filter(kind__in=["attachments", "copies"]).update(next_due_at=clock.now() + 99 * GRACE)


def test_what_is_as_recorded_is_no_difference(shop: Shop, rio: User) -> None:
    shop.sell()
    back_up(shop, rio)
    later(shop, 2 * HOUR)

    assert compared(shop) == []

    assert told(shop, store=shop.policy.copy_store) == []
    assert Upkeep.objects.get(kind="comparison").done_at is not None
    assert not Job.objects.filter(kind="compare").exists()
    assert not AuditEvent.objects.filter(tag="recovery:store:compared").exists()


@pytest.mark.parametrize("loss", ["part", "facts", "set", "list", "short part"])
def test_an_object_that_is_gone_or_of_another_size_breaks_its_point_once_and_alarms(
    shop: Shop, rio: User, loss: str
) -> None:
    point, other = back_up(shop, rio), back_up(shop, rio)
    places = {
        "part": ("base/{}/base.tar.zst.age.parts", "is missing"),
        "short part": ("base/{}/base.tar.zst.age.parts", "bytes and should have"),
        "facts": ("base/{}/facts.json", "is missing"),
        "set": ("sets/{}-*", "is missing"),
        "list": ("filestore/points/{}.files.zst.age", "is missing"),
    }
    pattern, words = places[loss]
    found = sorted((shop.objects / "northwind/production").glob(pattern.format(point.key)))
    victim = next(
        path for one in found for path in (sorted(filter(Path.is_file, one.rglob("0*"))) if one.is_dir() else [one])
    )
    victim.write_bytes(victim.read_bytes()[:-1]) if loss == "short part" else victim.unlink()
    Message.objects.all().delete()

    found_first = compared(shop)
    compared(shop)

    assert ("missing", point.key) in found_first
    assert RecoveryPoint.objects.get(pk=point.pk).state == "broken"
    assert RecoveryPoint.objects.get(pk=other.pk).state == "copied"
    assert words in Verification.objects.get().sentence
    assert point.key not in coverage_of(shop.estate.production).reaches
    assert other.key in coverage_of(shop.estate.production).reaches
    told_rio = Message.objects.filter(recipient=rio).values_list("subject", flat=True)
    assert f"Northwind production: Recovery point {point.key} is broken" in told_rio
    alarm = next(one for one in alarms_of(shop.policy, at=clock.now()) if one.kind == "objects_lost")
    assert (alarm.subject, words in alarm.sentence) == (shop.policy.store, True)
    events = AuditEvent.objects.filter(tag="recovery:store:compared")
    assert [f"missing: {point.key}" in json.loads(one.body)["data"]["new"] for one in events] == [True]


def test_a_list_of_attachments_that_is_gone_is_let_go_and_the_reach_shrinks(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    until = point.filestore_at
    assert until is not None
    shop.work(lambda: any(span.end > until for span in coverage_of(shop.estate.production).spans))
    copy_no_more()
    for path in primary(shop, "filestore/points"):
        if path.name.startswith("between"):
            path.unlink()

    assert compared(shop) == [("missing", "filestore/points")]

    assert not FilestoreCopy.objects.filter(point__isnull=True, removed_at__isnull=True).exists()
    assert coverage_of(shop.estate.production).spans[-1].end <= until


def test_files_that_are_gone_break_the_points_that_name_them_and_are_copied_anew(shop: Shop, rio: User) -> None:
    shop.sell()
    point = back_up(shop, rio)
    later(shop, 2 * HOUR)
    for path in primary(shop, "filestore/packs"):
        if path.name.endswith(".tar.zst.age"):
            path.unlink()

    assert sorted(compared(shop)) == sorted([("missing", "filestore/points"), ("missing", point.key)])

    point.refresh_from_db()
    assert point.state == "broken"
    assert Verification.objects.get().sentence.endswith(".tar.zst.age is missing.")
    assert not FilestoreCopy.objects.filter(removed_at__isnull=True).exists()
    other = back_up(shop, rio)
    later(shop, 2 * HOUR)
    assert "missing" not in dict(compared(shop))
    other.refresh_from_db()
    assert other.state == "copied"
    assert coverage_of(shop.estate.production).holds(other.consistent_at)


def test_a_copy_that_lacks_an_object_is_no_copy_any_more_and_breaks_nothing(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    assert PointCopy.objects.filter(point=point).count() == 2
    copy_no_more()
    (shop.folder / "elsewhere/northwind/production/base" / point.key / "facts.json").unlink()

    assert compared(shop) == []

    assert told(shop, store=shop.policy.copy_store) == [("missing", point.key)]
    assert list(PointCopy.objects.filter(point=point).values_list("store", flat=True)) == [shop.policy.store]
    assert RecoveryPoint.objects.get(pk=point.pk).state == "copied"
    assert AuditEvent.objects.filter(tag="recovery:point:copy_lost").count() == 1
    assert Message.objects.filter(recipient=rio, tag="recovery:point:copy_lost").exists()


def test_what_a_killed_run_left_is_shown_and_collected_after_the_grace(shop: Shop, rio: User) -> None:
    kept = back_up(shop, rio)
    killed = stranger(shop, kept, folders=("base", "filestore/points"))
    later(shop, 2 * HOUR)

    assert compared(shop) == [("orphan", killed)]
    row = Disagreement.objects.get(store=shop.policy.store)
    assert (row.object_count, row.size > 100_000, row.stored_at is not None) == (
        len(primary(shop, f"base/{killed}")) + 1,
        True,
        True,
    )
    assert row.goes_at == row.found_at + GRACE
    later(shop, GRACE - HOUR)
    assert compared(shop) == [("orphan", killed)]
    later(shop, 2 * HOUR)

    assert compared(shop) == []

    assert primary(shop, f"base/{killed}") == []
    assert not [path for path in primary(shop, "filestore/points") if killed in path.name]
    assert len(primary(shop, f"base/{kept.key}")) > 4
    assert RecoveryPoint.objects.get(pk=kept.pk).state == "copied"
    event = AuditEvent.objects.get(tag="recovery:orphan:removed")
    assert json.loads(event.body)["data"]["names"] == [killed]


def test_a_whole_point_that_no_row_names_stays_until_somebody_lets_it_go(shop: Shop, rio: User) -> None:
    lost = stranger(shop, back_up(shop, rio), folders=("base", "sets", "filestore/points"))
    later(shop, 2 * HOUR)
    assert compared(shop) == [("unknown_set", lost)]
    later(shop, 30 * GRACE)
    assert compared(shop)[-1] == ("unknown_set", lost)
    assert len(primary(shop, f"base/{lost}")) > 4

    row = Disagreement.objects.get(store=shop.policy.store, kind="unknown_set")
    hold = place_hold(
        actor=actor(rio), environment_id=shop.estate.production.pk, name="Case 7", reason="Tax.", at=clock.now()
    )
    Disagreement.objects.filter(pk=row.pk).update(asked_at=clock.now())
    assert ("unknown_set", lost) in compared(shop)
    hold.delete()
    Disagreement.objects.filter(pk=row.pk).update(asked_at=None)
    ask_unknown_removal(actor=actor(rio), disagreement_id=row.pk, reason="It is of a test.", at=clock.now())

    assert ("unknown_set", lost) not in compared(shop)

    assert primary(shop, f"base/{lost}") == []
    assert not [path for path in primary(shop, "sets") if lost in path.name]


def test_a_store_that_is_gone_altogether_breaks_no_point_and_alarms(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    copy_no_more()
    shop.quiet()
    away = shop.objects / "northwind"
    shutil.move(away, shop.folder / "away")

    assert [kind for kind, _ in compared(shop)] == ["empty"]

    assert RecoveryPoint.objects.get(pk=point.pk).state == "copied"
    alarm = next(one for one in alarms_of(shop.policy, at=clock.now()) if one.kind == "objects_lost")
    assert "Nothing at all lies there, where 1 point should." in alarm.sentence
    shutil.rmtree(away, ignore_errors=True)
    shutil.move(shop.folder / "away", away)
    assert compared(shop) == []
    assert not [one for one in alarms_of(shop.policy, at=clock.now()) if one.kind == "objects_lost"]


def test_a_backup_that_is_under_way_is_no_orphan(shop: Shop, rio: User) -> None:
    first = back_up(shop, rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": shop.estate.production.pk}
    run = ask_backup(**words, reason="A point.", at=clock.now())
    base = shop.objects / "northwind/production/base"
    (base / run.label).mkdir()
    shutil.copy(base / first.key / "facts.json", base / run.label / "base.tar.zst.age")
    run.next_due_at = None
    run.save(update_fields=["next_due_at"])
    later(shop, 2 * HOUR)

    assert compared(shop) == []


def test_wal_that_the_store_has_lost_is_told_and_no_longer_counted_on(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    at = shop.now()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        for _ in range(3):
            connection.execute("SELECT pg_logical_emit_message(false, 'fill', 'x'), pg_switch_wal()")
    end = WalSegment.objects.get().end_lsn
    shop.work(lambda: WalSegment.objects.get().end_lsn > end + 2 * 16 * 1024 * 1024)
    copy_no_more()
    finished = sorted(path for path in primary(shop, "wal") if path.name.startswith("full"))
    lost = finished[-1].parent
    shutil.rmtree(lost)

    assert [kind for kind, _ in compared(shop)] == ["wal_missing"]

    reach = coverage_of(shop.estate.production).reaches[point.key]
    alarm = next(one for one in alarms_of(shop.policy, at=clock.now()) if one.kind == "objects_lost")
    assert "is missing: no point before it leads to a time behind it." in alarm.sentence
    shop.sell()
    shop.work(lambda: WalSegment.objects.count() == 2)
    assert coverage_of(shop.estate.production).reaches[point.key] == reach
    assert RecoveryPoint.objects.get(pk=point.pk).state == "copied"
    assert compared(shop) == []


def test_wal_that_is_there_and_not_catalogued_is_catalogued(shop: Shop, rio: User) -> None:
    back_up(shop, rio)
    at = shop.now()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))
    row = WalSegment.objects.get()
    WalSegment.objects.update(start_lsn=row.end_lsn - 1)
    assert not coverage_of(shop.estate.production).holds(at)

    assert compared(shop) == []

    assert WalSegment.objects.get().start_lsn == row.start_lsn
    assert coverage_of(shop.estate.production).holds(at)
