"""The engine `pg_dump`: one database of a server that lets nobody replicate, each point its own moment alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from changecontrol import clock
from changecontrol.errors import Conflict
from changecontrol.models import AuditEvent, Job, User
from recovery import doors
from recovery.actions.backups import ask_backup
from recovery.actions.retention import ask_retention
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres import scratch
from recovery.models import BackupPolicy, BackupRun, Drill, FilestoreCopy, RecoveryPoint, Upkeep
from recovery.models.drill import Sabotage
from recovery.queries.alarms import alarms_of
from recovery.queries.freshness import freshness_of
from recovery.queries.points import coverage_of
from recovery.rules.coverage import Span
from recovery.workflows.backup import Backup
from recovery.workflows.drill import DrillRun
from recovery.workflows.upkeep import UpkeepWork
from tests.factories.estate import actor
from tests.factories.recovery import recovery_owner, seen_removal
from tests.recovery.workflows.conftest import READER, Shop
from tests.recovery.workflows.test_comparison import compared
from tests.recovery.workflows.test_drill import answers, drilled
from tests.recovery.workflows.test_restore import asked, databases, over, rows
from tests.recovery.workflows.test_upkeep import back_up, objects_of

pytestmark = pytest.mark.slow

CANARIES = ("AGE-SECRET-KEY", "canary-mail", f"{READER}-canary")


@pytest.fixture
def rio(dumped: Shop) -> User:
    return recovery_owner(dumped.estate)


def test_a_dump_becomes_a_point_that_is_one_set_in_both_places(dumped: Shop, rio: User) -> None:  # BCK-2
    dumped.sell()
    before = dumped.now()

    point = back_up(dumped, rio)

    run = BackupRun.objects.get()
    assert (run.state, run.kind, run.sentence) == ("succeeded", "dump", f"Point {point.key} is copied.")
    assert (point.state, point.kind, point.parent) == ("copied", "dump", None)
    assert [one.kind for one in point.parts.all()] == ["database", "filestore_manifest", "configuration"]
    assert (point.system_identifier, point.timeline, point.start_lsn, point.stop_lsn) == ("", 0, 0, 0)
    assert before <= point.consistent_at <= dumped.now()
    assert point.modules == {"base": "19.0.1.3", "sale": "19.0.1.2"}
    assert point.filestore_copy.file_count == 1
    assert sorted(one.store for one in point.copies.all()) == sorted([dumped.policy.store, dumped.policy.copy_store])
    here, elsewhere = (sizes(dumped.folder / name) for name in ("objects", "elsewhere"))
    assert here == elsewhere
    # One moment, and nothing that leads on from it.
    assert coverage_of(dumped.estate.production).spans == (Span(point.consistent_at, point.consistent_at),)
    assert alarms_of(dumped.policy, at=clock.now()) == ()


def sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_the_schedule_dumps_and_nothing_is_copied_between(dumped: Shop, rio: User) -> None:
    Backup().find(clock.now() + timedelta(hours=1))
    UpkeepWork().find(clock.now())

    assert [one.kind for one in BackupRun.objects.all()] == ["dump"]
    assert {one.kind for one in Upkeep.objects.all()} == {"retention", "comparison", "copies"}


def test_a_dump_that_is_whole_is_gone_on_with_when_its_job_is_tried_again(dumped: Shop, rio: User) -> None:
    dumped.sell()
    back_up(dumped, rio)
    (dumped.folder / "filestore").rename(dumped.folder / "not mounted")
    (dumped.folder / "filestore").mkdir()
    run = ask_backup(actor=actor(rio), environment_id=dumped.estate.production.pk, reason="A point.", at=clock.now())
    dumped.work(lambda: Job.objects.filter(key=f"backup/{run.pk}", attempts__gte=1).exists())
    facts = max((dumped.objects / "northwind/production/dump").rglob("facts.json"))
    first = facts.read_bytes()

    (dumped.folder / "filestore").rmdir()
    (dumped.folder / "not mounted").rename(dumped.folder / "filestore")
    Job.objects.update(next_due_at=clock.now())
    dumped.work(lambda: RecoveryPoint.objects.filter(run=run).exists())

    assert facts.read_bytes() == first
    assert RecoveryPoint.objects.get(run=run).consistent_at.isoformat() in first.decode()


def test_a_drill_restores_questions_and_clears_away_and_the_point_is_verified(dumped: Shop, rio: User) -> None:
    dumped.sell()
    point = back_up(dumped, rio)
    dumped.sell()

    drill = drilled(dumped, rio, level=3, target_at=point.consistent_at)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, drill.leftovers, wrong) == ("passed", "", "", [])
    assert answers(drill) == dict.fromkeys(
        (
            "Dump",
            "Attachments of that time",
            "Attachments in the store",
            "One set",
            "Restored and started",
            "Structure and every row",
            "Database of the environment",
            "Newest sentinel",
            "Newest orders",
            "Every attachment, by its SHA-1",
        ),
        True,
    )
    assert "no WAL to have a hole" in drill.checks.get(name="Dump").sentence
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 3)
    assert freshness_of(dumped.estate.production, clock.now()).level == 3
    assert drill.newest_sentinel_at is not None
    assert drill.newest_sentinel_at <= point.consistent_at
    times = [drill.declared_at, drill.provisioned_at, drill.restored_at, drill.validated_at, drill.finished_at]
    assert times == sorted(one for one in times if one is not None)
    assert dumped.left_over() == []
    kept = " ".join(
        map(str, [*AuditEvent.objects.values_list("body", flat=True), *Job.objects.values_list("result", "order")])
    )
    assert not [one for one in CANARIES if one in kept]


def test_a_cadence_begins_a_drill_of_the_newest_dump(dumped: Shop, rio: User) -> None:
    back_up(dumped, rio)
    newest = back_up(dumped, rio)

    DrillRun().find(clock.now())

    drill = Drill.objects.get()
    assert (drill.point, drill.target_at, drill.scope) == (newest, newest.consistent_at, "By schedule.")


@pytest.mark.parametrize("sabotage", list(Sabotage))
def test_sabotage_of_a_copy_is_caught_and_says_nothing_of_the_point(dumped: Shop, rio: User, sabotage: str) -> None:
    dumped.sell()
    point = back_up(dumped, rio)  # BCK-9

    drill = drilled(dumped, rio, level=1, target_at=point.consistent_at, sabotage=sabotage)

    assert drill.state == "passed", drill.sentence
    assert drill.sentence.startswith("The sabotage was caught by:")
    point.refresh_from_db()
    assert point.state == "copied"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: random.randrange(path.stat().st_size)])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("of", "damage", "words"),
    [
        ("*.parts/*/*", Path.unlink, "missing from the store"),
        ("*.parts/*/*", cut, "and should have"),
        ("*.parts/*/*", flip, "was changed"),
        ("dump.pgdump.zst.age", flip, "dump.pgdump.zst.age"),
        ("facts.json", Path.unlink, "There is no dump"),
        ("facts.json", flip, "The facts of the dump"),
    ],
    ids=["part removed", "part cut", "part flipped", "head flipped", "facts removed", "facts flipped"],
)
def test_damage_is_named_and_never_called_verified(
    dumped: Shop, rio: User, of: str, damage: Callable[[Path], None], words: str
) -> None:
    point = back_up(dumped, rio)
    damage(random.choice(sorted((dumped.objects / "northwind/production/dump" / point.key).rglob(of))))

    drill = drilled(dumped, rio, level=2, target_at=point.consistent_at)

    point.refresh_from_db()
    assert (drill.state, point.state) == ("failed", "broken")
    assert words in drill.checks.get(is_passed=False).sentence
    assert dumped.left_over() == []


def test_another_dump_in_its_place_is_not_the_one_that_was_recorded(dumped: Shop, rio: User) -> None:
    first, second = back_up(dumped, rio), back_up(dumped, rio)
    below = dumped.objects / "northwind/production/dump"
    moved = (below / second.key / "facts.json").read_bytes()
    (below / first.key / "facts.json").write_bytes(moved)

    drill = drilled(dumped, rio, level=1, target_at=first.consistent_at)

    assert drill.checks.get(is_passed=False).sentence.startswith(f"The facts of the dump {first.key} are those of")


def test_what_the_machine_lacks_is_trouble_and_proves_nothing(
    dumped: Shop, rio: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = back_up(dumped, rio)
    good = (dumped.folder / "owner").read_text()

    with monkeypatch.context() as patch:
        patch.setattr(scratch, "SPARE_BYTES", 2**60)
        no_room = drilled(dumped, rio, level=2, target_at=point.consistent_at)
    (dumped.folder / "owner").write_text(make_key_pair().identity)
    no_key = drilled(dumped, rio, level=2, target_at=point.consistent_at)
    (dumped.folder / "owner").write_text(good)

    point.refresh_from_db()
    assert (no_room.state, no_key.state, point.state) == ("failed", "failed", "copied")
    assert "GB free" in no_room.sentence
    assert "The identity of the backup policy" in no_key.sentence
    assert dumped.left_over() == []


def test_a_database_comes_back_beside_the_old_as_of_its_dump_and_harmless(dumped: Shop, rio: User) -> None:
    dumped.sell()
    point = back_up(dumped, rio)
    before = rows(dumped, "northwind", "SELECT name FROM sale_order ORDER BY id")
    dumped.sell()

    restore = over(dumped, asked(dumped, rio, target_at=point.consistent_at))

    assert restore.state == "succeeded", restore.sentence
    assert rows(dumped, "northwind_yesterday", "SELECT name FROM sale_order ORDER BY id") == before
    active = "SELECT active FROM ir_mail_server WHERE name = 'out'"
    assert (rows(dumped, "northwind", active), rows(dumped, "northwind_yesterday", active)) == ([True], [False])
    restored = dumped.folder / "restored" / "northwind_yesterday"
    assert [str(path.relative_to(restored)) for path in restored.glob("*/*")] == dumped.files[:1]
    assert dumped.left_over() == []


def test_a_time_that_is_no_dump_s_own_is_refused_with_the_last_safe_one(dumped: Shop, rio: User) -> None:
    first, second = back_up(dumped, rio), back_up(dumped, rio)
    safe = f"{first.consistent_at:%d %b %Y %H:%M:%S.%f} UTC"

    with pytest.raises(Conflict, match=f"in a gap. The last safe time before it is {safe}"):
        asked(dumped, rio, target_at=first.consistent_at + timedelta(microseconds=1))
    with pytest.raises(Conflict, match="after the last time that can be restored"):
        asked(dumped, rio, target_at=second.consistent_at + timedelta(seconds=1))


def test_damage_ends_a_restore_with_its_words_and_leaves_nothing(dumped: Shop, rio: User) -> None:
    point = back_up(dumped, rio)
    flip(next((dumped.objects / "northwind/production/dump" / point.key).rglob("00000000")))

    restore = over(dumped, asked(dumped, rio, target_at=point.consistent_at))

    assert restore.state == "failed"
    assert "changed" in restore.sentence
    assert databases(dumped) == ["northwind"]
    assert dumped.left_over() == []


def test_what_was_asked_to_go_goes_from_every_store(dumped: Shop, rio: User) -> None:
    BackupPolicy.objects.update(keep_last=1)
    dumped.sell()
    first = back_up(dumped, rio)
    dumped.sell()
    second = back_up(dumped, rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": dumped.estate.production.pk, "at": clock.now()}
    ask_retention(**words, **seen_removal(dumped.estate.production, at=words["at"]))

    dumped.work(lambda: RecoveryPoint.objects.filter(pk=first.pk, state="removed").exists())

    assert not objects_of(dumped, f"dump/{first.key}")
    assert not [path for path in objects_of(dumped, "sets") if first.key in path.name]
    assert len(objects_of(dumped, f"dump/{second.key}")) == 6
    assert FilestoreCopy.objects.get(point=first).removed_at is not None
    assert FilestoreCopy.objects.get(point=second).removed_at is None
    assert coverage_of(dumped.estate.production).spans == (Span(second.consistent_at, second.consistent_at),)


def test_what_the_store_lost_of_a_dump_is_found_and_breaks_its_point(dumped: Shop, rio: User) -> None:
    first, second = back_up(dumped, rio), back_up(dumped, rio)
    as_recorded = compared(dumped)
    facts = dumped.objects / "northwind/production/dump" / first.key / "facts.json"
    facts.unlink()

    found = compared(dumped)

    assert as_recorded == []
    assert found == [("missing", first.key)]
    assert RecoveryPoint.objects.get(pk=first.pk).state == "broken"
    assert RecoveryPoint.objects.get(pk=second.pk).state == "copied"


def test_a_table_that_may_not_be_read_fails_the_dump_in_words(dumped: Shop, rio: User) -> None:
    with psycopg.connect(doors.url_of(dumped.server.superuser_url, database="northwind")) as connection:
        connection.execute("ALTER TABLE sale_order ENABLE ROW LEVEL SECURITY")

    run = ask_backup(actor=actor(rio), environment_id=dumped.estate.production.pk, reason="Try.", at=clock.now())
    dumped.work(lambda: BackupRun.objects.filter(pk=run.pk, state="failed").exists())

    run.refresh_from_db()
    assert "pg_dump did not succeed" in run.sentence
    assert f"{READER}-canary" not in run.sentence
    assert not RecoveryPoint.objects.exists()
