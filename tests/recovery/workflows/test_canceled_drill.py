"""Drills that somebody cancels: what is at work stops, what was made goes, and no tick that was under way undoes it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import transaction

from changecontrol import clock
from changecontrol.actions.jobs import end_job, ensure_job, place_job
from changecontrol.models import Cluster, Job, Message, Rehearsal, User
from changecontrol.workflow import engine
from recovery import doors
from recovery.actions.drills import cancel_drill
from recovery.adapters.postgres.sandbox import make_sandbox
from recovery.jobs.saying import Saying
from recovery.models import BackupPolicy, CorrectiveAction, Drill, RecoveryPoint
from recovery.workflows.drill import AFTER_CANCELED, DrillRun
from recovery.workflows.steps import CLEARED_WITHIN
from tests.factories import SmallEstate, small_estate
from tests.factories.estate import actor
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    canceled_drill,
    finished_drill,
    recorded_point,
    recovery_owner,
    started_drill,
)
from tests.recovery.workflows.conftest import Shop
from tests.recovery.workflows.test_drill import backed_up
from tests.recovery.workflows.test_rehearsed_drill import NAME, Elsewhere, elsewhere

__all__ = ["elsewhere"]

FAILED = {"name": "sentinel", "level": 2, "is_passed": False, "sentence": "It is old.", "at": "2026-11-23T10:12:00Z"}
DONE: dict[str, Any] = {"trouble": "", "leftovers": "", "newest_sentinel_at": None, "phases": {}}


def cancel(drill: Drill, by: User) -> Drill:
    return cancel_drill(actor=actor(by), drill_id=drill.pk, reason="The wrong level.", at=clock.now())


def over(shop: Shop, drill: Drill) -> Drill:
    shop.work(lambda: Drill.objects.filter(pk=drill.pk, finished_at__isnull=False).exists())
    drill.refresh_from_db()
    return drill


@pytest.mark.slow
def test_a_drill_that_is_canceled_in_the_middle_of_its_work_stops_and_clears_away(
    shop: Shop, rio: User, monkeypatch: pytest.MonkeyPatch
) -> None:  # BCK-8
    point = backed_up(shop, rio)
    drill = started_drill(shop.estate.production, by=rio, target_at=point.consistent_at, level=3, at=clock.now())
    begin, seen = Saying.begin, []

    def canceled_meanwhile(self: Saying, phase: str, *words: Any, **more: Any) -> None:
        begin(self, phase, *words, **more)
        if phase == "checking":
            seen.extend(shop.left_over())
            cancel(drill, rio)
            time.sleep(60)  # Its process looks every ten seconds whether it is to stop.

    monkeypatch.setattr(Saying, "begin", canceled_meanwhile)

    over(shop, drill)

    assert seen == [str(drill.key)]
    assert (drill.state, drill.sentence, drill.leftovers, drill.trouble_found) == (
        "canceled",
        "Rio canceled it: The wrong level.",
        "",
        "",
    )
    point.refresh_from_db()
    assert (point.state, drill.checks.count(), CorrectiveAction.objects.count()) == ("copied", 0, 0)
    assert shop.left_over() == []
    assert Job.objects.get(key=f"drill/{drill.pk}").result["trouble"] == "Stopped because somebody asked for it."


@pytest.mark.slow
def test_what_a_killed_process_left_goes_with_its_canceled_drill(shop: Shop, rio: User) -> None:  # BCK-8
    point = backed_up(shop, rio)
    drill = started_drill(shop.estate.production, by=rio, target_at=point.consistent_at, at=clock.now())
    engine.tick(DrillRun())
    job = Job.objects.filter(key=f"drill/{drill.pk}")
    # As a process leaves it that is killed once its sandbox is there.
    make_sandbox(shop.sandboxes, run_id=str(drill.key))
    job.update(started_at=clock.now(), attempts=1)

    cancel(drill, rio)
    over(shop, drill)

    assert (drill.state, drill.leftovers, job.get().state) == ("canceled", "", "stopped")
    assert shop.left_over() == []


@pytest.mark.slow
def test_a_sandbox_that_cannot_be_cleared_is_told_of_a_canceled_drill(shop: Shop, rio: User) -> None:  # BCK-8
    point = backed_up(shop, rio)
    drill = started_drill(shop.estate.production, by=rio, target_at=point.consistent_at, at=clock.now())
    engine.tick(DrillRun())
    Job.objects.filter(key=f"drill/{drill.pk}").update(started_at=clock.now())
    folder = shop.sandboxes / str(drill.key)
    folder.mkdir()

    cancel(drill, rio)
    over(shop, drill)

    assert (drill.state, folder.exists()) == ("canceled", True)
    assert drill.leftovers == (
        f"What was brought back is perhaps still there. {folder} does not carry the run's id, so it stays."
    )
    assert Message.objects.filter(recipient=rio, subject__endswith="A drill left something behind").count() == 1
    folder.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("state", ["bringing_up", "up"])
def test_what_a_canceled_drill_brought_up_elsewhere_goes(elsewhere: Elsewhere, state: str) -> None:  # BCK-8
    shop = elsewhere.shop
    point = elsewhere.back_up(elsewhere.commit())
    drill = elsewhere.start(point)
    shop.work(lambda: Rehearsal.objects.filter(state=state).exists())
    placed = elsewhere.databases()

    cancel(drill, elsewhere.rio)
    over(shop, drill)

    point.refresh_from_db()
    assert placed == [NAME]
    assert (drill.state, drill.leftovers, point.state) == ("canceled", "", "copied")
    gone = Rehearsal.objects.get()
    assert (gone.state, elsewhere.databases(), elsewhere.beside(), shop.left_over()) == ("gone", [], [], [])
    assert elsewhere.cluster.objects() == {}
    assert CorrectiveAction.objects.count() == 0


@pytest.mark.slow
def test_a_copy_that_a_killed_process_placed_elsewhere_goes_with_its_canceled_drill(
    elsewhere: Elsewhere,
) -> None:  # BCK-8
    shop = elsewhere.shop
    drill = elsewhere.start(elsewhere.back_up(elsewhere.commit()))
    engine.tick(DrillRun())
    Job.objects.filter(key=f"drill/{drill.pk}").update(started_at=clock.now())
    elsewhere.make_database(f"changecontrol drill {drill.key}")

    cancel(drill, elsewhere.rio)
    over(shop, drill)

    assert (drill.state, drill.leftovers, elsewhere.databases()) == ("canceled", "", [])
    with psycopg.connect(doors.url_of(shop.server.superuser_url, database="northwind")) as connection:
        assert connection.execute("SELECT count(*) FROM sale_order").fetchone() == (1,)


@pytest.fixture
def estate(db: None) -> SmallEstate:
    found = small_estate()
    backup_policy(found.production, at=clock.now() - timedelta(days=100))
    return found


@pytest.fixture
def owner(estate: SmallEstate) -> User:
    """Rio, of an estate whose jobs nobody does."""
    person = recovery_owner(estate)
    recorded_point(estate.production, "p1", clock.now() - HOUR, by=person)
    return person


def asked(estate: SmallEstate, by: User, *, level: int = 2) -> Drill:
    target_at = RecoveryPoint.objects.get().consistent_at
    return started_drill(estate.production, by=by, target_at=target_at, level=level, at=clock.now())


def passing(span: timedelta) -> None:
    clock.set_offset(clock._offset + span)


def ticked(drill: Drill, *, times: int = 3) -> Drill:
    for _ in range(times):
        passing(timedelta(seconds=5))
        engine.tick(DrillRun())
    drill.refresh_from_db()
    return drill


def claimed() -> engine.Claim[Drill]:
    [found] = engine.claim(DrillRun(), at=clock.now())
    passing(timedelta(seconds=1))
    return found


def settle(one: engine.Claim[Drill], settlement: engine.Settlement[Drill]) -> None:
    engine.settle(DrillRun(), one, settlement, at=clock.now())


def test_a_drill_that_waits_is_canceled_and_nothing_was_begun(estate: SmallEstate, owner: User) -> None:
    drill = asked(estate, owner)

    cancel(drill, owner)

    assert (ticked(drill, times=1).state, Job.objects.count()) == ("canceled", 0)


def test_work_that_a_tick_orders_while_its_drill_is_canceled_is_stopped(estate: SmallEstate, owner: User) -> None:
    drill = asked(estate, owner)
    under_way = claimed()

    cancel(drill, owner)
    settle(under_way, engine.step(DrillRun(), under_way.row, at=clock.now()))

    job = Job.objects.get(key=f"drill/{drill.pk}")
    assert (job.state, job.stop_asked_at) == ("open", None)
    assert ticked(drill).state == "canceled"
    job.refresh_from_db()
    assert (job.state, job.started_at) == ("stopped", None)


def test_an_answer_that_a_tick_met_while_its_drill_was_canceled_does_not_count(
    estate: SmallEstate, owner: User
) -> None:
    drill = asked(estate, owner)
    job = ensure_job(key=f"drill/{drill.pk}", kind="drill", order={"drill": drill.pk}, at=clock.now())
    Job.objects.update(lease_until=clock.now() + HOUR)
    under_way = claimed()

    cancel(drill, owner)
    phases = dict.fromkeys(("provisioning", "restoring", "checking", "tearing_down", "over"), FAILED["at"])
    with transaction.atomic():
        end_job(job, "finish", result={**DONE, "checks": [FAILED], "phases": phases}, at=clock.now())
    settle(under_way, engine.step(DrillRun(), under_way.row, at=clock.now()))

    assert (ticked(drill).state, drill.checks.count(), drill.trouble) == ("canceled", 0, "")
    assert (RecoveryPoint.objects.get().state, CorrectiveAction.objects.exists()) == ("copied", False)


def test_a_refusal_that_a_tick_met_while_its_drill_was_canceled_skips_no_clearing(
    estate: SmallEstate, owner: User
) -> None:
    drill = asked(estate, owner)
    under_way = claimed()

    cancel(drill, owner)
    settle(under_way, DrillRun().refused(under_way.row, "The operator refuses.", clock.now()))
    drill.refresh_from_db()
    before = drill.state

    assert (before, ticked(drill).state, drill.leftovers) == ("tearing_down", "canceled", "")


def test_nothing_is_brought_up_elsewhere_for_a_drill_that_is_canceled_meanwhile(
    estate: SmallEstate, owner: User
) -> None:
    Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential="env:KUBECONFIG_DE_1")
    BackupPolicy.objects.update(rehearsal_cluster="de-1", rehearsal_target="file:/run/secrets/falkenstein")
    drill = asked(estate, owner, level=5)
    job = ensure_job(key=f"drill/{drill.pk}", kind="drill", order={"drill": drill.pk}, at=clock.now())
    end_job(job, "finish", result={**DONE, "checks": []}, at=clock.now())
    under_way = claimed()

    cancel(drill, owner)
    settle(under_way, engine.step(DrillRun(), under_way.row, at=clock.now()))
    ticked(drill)

    assert (drill.state, Rehearsal.objects.exists()) == ("tearing_down", False)
    clearing = Job.objects.get(key=f"drill/{drill.pk}/clearing")
    end_job(clearing, "finish", result={}, at=clock.now())
    assert (ticked(drill).state, drill.leftovers) == ("canceled", "")


def test_a_pod_that_stays_is_told_of_a_canceled_drill(estate: SmallEstate, owner: User) -> None:  # BCK-8
    drill = asked(estate, owner)
    engine.tick(DrillRun())
    job = Job.objects.get()
    place_job(pk=job.pk, at=clock.now())

    cancel(drill, owner)
    waiting = ticked(drill).state
    passing(CLEARED_WITHIN)

    assert (waiting, ticked(drill).state) == ("tearing_down", "canceled")
    assert drill.leftovers == "What it ran in was not cleared away in time."


def test_clearing_that_ends_its_workers_again_and_again_is_told(estate: SmallEstate, owner: User) -> None:  # BCK-8
    drill = cancel(asked(estate, owner), owner)
    Drill.objects.update(attempts=engine.ATTEMPTS_LIMIT)

    assert ticked(drill).state == "canceled"
    assert drill.leftovers == (
        "What it made is perhaps not all cleared away. Its workers ended in the middle of this step, again and again."
    )


def found_at(at: Any) -> int:
    """Return how many drills begin by schedule at a time."""
    before = Drill.objects.count()
    DrillRun().find(at)
    return Drill.objects.count() - before


def test_the_next_drill_by_schedule_begins_a_day_after_one_that_was_canceled(estate: SmallEstate, owner: User) -> None:
    point, at = RecoveryPoint.objects.get(), clock.now()
    drill = canceled_drill(estate.production, by=owner, target_at=point.consistent_at, at=at)
    ended = drill.finished_at
    assert ended is not None

    assert found_at(ended + AFTER_CANCELED - timedelta(seconds=1)) == 0
    assert found_at(ended + AFTER_CANCELED) == 1


def test_a_canceled_drill_makes_none_due_before_its_time(estate: SmallEstate, owner: User) -> None:
    point, at = RecoveryPoint.objects.get(), clock.now()
    passed = finished_drill(estate.production, by=owner, target_at=point.consistent_at, at=at)
    canceled_drill(estate.production, by=owner, target_at=point.consistent_at, at=at + HOUR)
    due_at = (passed.finished_at or at) + timedelta(days=point.policy.verify_days)

    assert found_at(at + timedelta(days=2)) == 0
    assert found_at(due_at) == 1


@pytest.mark.parametrize("words", [{"sabotage": "flip"}, {"level": 1}])
def test_a_canceled_drill_that_would_prove_no_way_back_puts_off_none(
    estate: SmallEstate, owner: User, words: dict[str, Any]
) -> None:
    point, at = RecoveryPoint.objects.get(), clock.now()
    canceled_drill(estate.production, by=owner, target_at=point.consistent_at, at=at, **words)

    assert found_at(at + HOUR) == 1
