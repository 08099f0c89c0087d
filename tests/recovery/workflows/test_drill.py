from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changecontrol import clock
from changecontrol.errors import Hindered
from changecontrol.models import AuditEvent, Job, User
from recovery.actions.backups import ask_backup
from recovery.actions.drills import start_drill
from recovery.adapters.postgres import fetching
from recovery.adapters.postgres.sandbox import make_sandbox
from recovery.jobs.sabotage import sabotaged
from recovery.jobs.saying import Saying
from recovery.models import BackupPolicy, Drill, RecoveryPoint
from recovery.models.drill import Sabotage
from recovery.queries.freshness import freshness_of
from recovery.queries.points import coverage_of
from recovery.workflows.backup import Backup
from recovery.workflows.drill import DrillRun
from tests.factories import small_estate
from tests.factories.estate import NOW, actor
from tests.factories.recovery import HOUR, backup_policy, finished_drill, recorded_point, recovery_owner
from tests.recovery.workflows.conftest import Shop
from tests.recovery.workflows.refusing import SENTENCE, refuse

pytestmark = pytest.mark.slow

CANARIES = ("AGE-SECRET-KEY", "canary-mail")


def backed_up(shop: Shop, rio: User) -> RecoveryPoint:
    """Take a point, sell something after it, and wait until that can be restored."""
    shop.sell()
    ask_backup(actor=actor(rio), environment_id=shop.estate.production.pk, reason="A point.", at=clock.now())
    shop.work(lambda: RecoveryPoint.objects.exists())
    shop.sell()
    at = shop.now()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))
    return RecoveryPoint.objects.get()


def drilled(shop: Shop, rio: User, *, level: int, target_at: datetime, sabotage: str = "") -> Drill:
    drill = start_drill(
        actor=actor(rio),
        environment_id=shop.estate.production.pk,
        level=level,
        target_at=target_at,
        sabotage=sabotage,
        at=clock.now(),
    )
    shop.work(lambda: Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists())
    drill.refresh_from_db()
    return drill


def answers(drill: Drill) -> dict[str, bool]:
    return {one.name: one.is_passed for one in drill.checks.all()}


def test_a_drill_restores_questions_and_clears_away_and_the_point_is_verified(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    target_at = coverage_of(shop.estate.production).last_safe_before(clock.now())
    assert target_at is not None

    drill = drilled(shop, rio, level=3, target_at=target_at)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, drill.leftovers, wrong) == ("passed", "", "", [])
    assert answers(drill) == dict.fromkeys(
        (
            "Base backup",
            "Attachments of that time",
            "Attachments in the store",
            "One set",
            "Unpacked against its manifest",
            "Restored and started",
            "Structure and every row",
            "Database of the environment",
            "Newest sentinel",
            "Newest orders",
            "Every attachment, by its SHA-1",
        ),
        True,
    )
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 3)
    assert freshness_of(shop.estate.production, clock.now()).level == 3
    assert drill.newest_sentinel_at is not None
    times = [drill.declared_at, drill.provisioned_at, drill.restored_at, drill.validated_at, drill.finished_at]
    assert times == sorted(one for one in times if one is not None)
    assert shop.left_over() == []
    kept = " ".join(
        map(str, [*AuditEvent.objects.values_list("body", flat=True), *Job.objects.values_list("result", "order")])
    )
    assert not [one for one in CANARIES if one in kept]


@pytest.mark.parametrize("sabotage", list(Sabotage))
def test_sabotage_of_a_copy_is_caught_and_says_nothing_of_the_point(shop: Shop, rio: User, sabotage: str) -> None:
    point = backed_up(shop, rio)  # BCK-9

    drill = drilled(shop, rio, level=1, target_at=point.consistent_at, sabotage=sabotage)

    assert drill.state == "passed", drill.sentence
    assert drill.sentence.startswith("The sabotage was caught by:")
    point.refresh_from_db()
    assert point.state == "copied"
    assert shop.left_over() == []


def test_a_missing_attachment_breaks_the_point_and_opens_a_corrective_action(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    for path in (shop.objects / "northwind/production/filestore/packs").glob("*.tar.zst.age"):
        path.unlink()

    drill = drilled(shop, rio, level=3, target_at=point.consistent_at)

    assert drill.state == "failed"
    assert drill.checks.get(is_passed=False).sentence.endswith(".tar.zst.age is not in the store.")
    point.refresh_from_db()
    assert point.state == "broken"
    assert drill.corrective_actions.count() == 1


def test_an_attachment_that_the_shop_itself_lost_is_named_and_breaks_no_point(shop: Shop, rio: User) -> None:
    shop.sell()
    (shop.folder / "filestore" / shop.files[0]).unlink()
    point = backed_up(shop, rio)

    drill = drilled(shop, rio, level=3, target_at=point.consistent_at)

    found = drill.checks.get(is_passed=False)
    assert found.name == "Attachments that the shop has"
    assert found.sentence.startswith(
        f"The shop itself had lost 1 attachment when they were copied. {shop.files[0]} is named by the database"
    )
    assert answers(drill)["Every attachment, by its SHA-1"] is True
    assert drill.state == "failed"
    point.refresh_from_db()
    # It is all there is of that time, and nobody calls it verified.
    assert (point.state, point.level) == ("copied", 0)
    assert coverage_of(shop.estate.production).holds(point.consistent_at)
    assert drill.corrective_actions.count() == 1


def test_a_drill_that_is_ended_in_the_middle_of_a_question_proves_nothing(
    shop: Shop, rio: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = backed_up(shop, rio)

    def told_to_end(self: Saying, count: int) -> None:
        raise Hindered("It took longer than it may, and was stopped.")

    monkeypatch.setattr(Saying, "moved", told_to_end)

    drill = drilled(shop, rio, level=3, target_at=point.consistent_at)

    point.refresh_from_db()
    assert (drill.state, point.state, drill.checks.count()) == ("failed", "copied", 0)
    assert drill.sentence == "It could not be carried out: It took longer than it may, and was stopped."
    assert coverage_of(shop.estate.production).holds(point.consistent_at)


def test_what_a_killed_upload_left_is_never_what_is_sabotaged(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    folder = next(path for path in shop.objects.glob(f"northwind/production/base/{point.key}/base.tar.zst.age.parts"))
    for number in range(50):
        place = folder / f"killed{number}" / "00000000"
        place.parent.mkdir()
        place.write_bytes(b"left")
    drill = start_drill(
        actor=actor(rio),
        environment_id=shop.estate.production.pk,
        level=1,
        target_at=point.consistent_at,
        sabotage="remove",
        at=clock.now(),
    )

    drawn = [sabotaged(drill_of(drill)).key for _ in range(40)]

    assert not [key for key in drawn if "killed" in key]


def drill_of(drill: Drill) -> Drill:
    """Return the drill with a key of its own, from which is drawn."""
    drill.key = uuid.uuid4()
    return drill


def test_a_point_older_than_the_first_sentinel_is_not_blamed_for_having_none(shop: Shop, rio: User) -> None:
    with psycopg.connect(shop.url) as connection:
        connection.execute("DROP TABLE changecontrol_sentinel")
    BackupPolicy.objects.update(created_at=clock.now())
    point = backed_up(shop, rio)

    drill = drilled(shop, rio, level=2, target_at=point.consistent_at)

    said = drill.checks.get(name="Newest sentinel").sentence
    assert (drill.state, said) == ("passed", "At that time none had been written yet.")
    BackupPolicy.objects.update(created_at=clock.now() - timedelta(days=1))
    late = drilled(shop, rio, level=2, target_at=point.consistent_at)
    assert (late.state, answers(late)["Newest sentinel"]) == ("failed", False)


def test_another_key_is_trouble_and_proves_nothing_of_the_point(shop: Shop, rio: User) -> None:
    from recovery.adapters.encryption import make_key_pair

    point = backed_up(shop, rio)
    (shop.folder / "owner").write_text(make_key_pair().identity)

    drill = drilled(shop, rio, level=2, target_at=point.consistent_at)

    point.refresh_from_db()
    assert (drill.state, point.state) == ("failed", "copied")
    assert drill.sentence.startswith("It could not be carried out: The identity of the backup policy")
    assert shop.left_over() == []


def test_no_room_is_trouble_and_proves_nothing_of_the_point(
    shop: Shop, rio: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = backed_up(shop, rio)
    monkeypatch.setattr(fetching, "SPARE_BYTES", 2**60)

    drill = drilled(shop, rio, level=2, target_at=point.consistent_at)

    point.refresh_from_db()
    assert (drill.state, point.state) == ("failed", "copied")
    assert "GB" in drill.sentence


def test_a_limit_that_is_too_low_is_trouble_before_anything_is_fetched(shop: Shop, rio: User, settings: Any) -> None:
    point = backed_up(shop, rio)
    settings.JOB_DISK_GIB = 1 / 64

    drill = drilled(shop, rio, level=2, target_at=point.consistent_at)

    point.refresh_from_db()
    assert (drill.state, point.state) == ("failed", "copied")
    assert drill.sentence.endswith(" GB of disk and may take 0.0 GB.")
    assert shop.left_over() == []


@pytest.mark.parametrize(("verb", "part"), [("observe_object", "base.tar.zst.age"), ("observe_objects", "/wal")])
def test_store_that_refuses_is_trouble_and_proves_nothing_of_the_point(
    shop: Shop, rio: User, settings: Any, verb: str, part: str
) -> None:
    point = backed_up(shop, rio)
    shop.quiet()
    refuse(settings, verb=verb, part=part)

    drill = drilled(shop, rio, level=2, target_at=point.consistent_at)

    point.refresh_from_db()
    assert (drill.state, drill.sentence) == ("failed", f"It could not be carried out: {SENTENCE}")
    assert (point.state, drill.checks.count()) == ("copied", 0)


def test_no_key_is_trouble_and_prove_nothing(shop: Shop, rio: User, settings: object) -> None:
    point = backed_up(shop, rio)
    Path(shop.folder / "owner").unlink()

    drill = drilled(shop, rio, level=2, target_at=point.consistent_at)

    assert drill.state == "failed"
    assert drill.sentence.startswith("It could not be carried out: The secret file")
    point.refresh_from_db()
    assert point.state == "copied"


def test_what_a_run_left_that_is_over_is_cleared_by_the_next_and_nothing_else(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    ended = drilled(shop, rio, level=1, target_at=point.consistent_at)
    for run_id in (str(ended.key), "restore-7-1", "of-somebody"):
        make_sandbox(shop.sandboxes, run_id=run_id)

    drilled(shop, rio, level=1, target_at=point.consistent_at)

    assert sorted(shop.left_over()) == ["of-somebody", "restore-7-1"]


def test_finding_what_is_due_takes_the_same_statements_for_one_environment_and_for_all(db: None) -> None:
    estate = small_estate()
    rio = recovery_owner(estate)
    for environment in (estate.production, estate.staging):
        backup_policy(environment)
        recorded_point(environment, f"of-{environment.slug}", NOW - HOUR, by=rio)
    finished_drill(estate.production, by=rio, target_at=NOW - HOUR)
    finished_drill(estate.staging, by=rio, target_at=NOW - HOUR)

    def statements() -> int:
        with CaptureQueriesContext(connection) as found:
            for workflow in (DrillRun(), Backup()):
                workflow.find(NOW + HOUR)
        return len(found)

    statements()  # begins the backups that are due
    both = statements()
    BackupPolicy.objects.filter(environment=estate.staging).update(is_active=False)

    assert both == statements() == 7  # two of them are the savepoint of asking after what was mended


def test_a_cadence_begins_a_drill_of_the_newest_time_once(shop: Shop, rio: User) -> None:
    backed_up(shop, rio)

    for _ in range(2):
        DrillRun().find(clock.now())

    drill = Drill.objects.get()
    assert (drill.asked_by, drill.level, drill.scope) == (None, 3, "By schedule.")
    shop.work(lambda: Drill.objects.filter(state="passed").exists())
    DrillRun().find(clock.now() + timedelta(days=1))
    assert Drill.objects.count() == 1
    DrillRun().find(clock.now() + timedelta(days=shop.policy.verify_days, hours=1))
    assert Drill.objects.count() == 2
