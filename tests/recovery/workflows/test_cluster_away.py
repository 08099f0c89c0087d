"""While a Kubernetes cluster does not answer, what its operator is at goes on, and is not given up for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.errors import Transient
from changecontrol.models import Job
from changecontrol.ports import NotAllowed
from changecontrol.workflow import engine
from recovery.models import BackupRun, Drill, RecoveryPoint, Restore
from recovery.workflows.backup import Backup
from recovery.workflows.drill import DrillRun
from recovery.workflows.restore import RestoreRun
from recovery.workflows.steps import UNREMOVED
from tests.recovery.workflows.operated import do_job
from tests.recovery.workflows.test_cluster_recovery import (  # noqa: F401  fixtures
    Shop,
    answers,
    drilled,
    recovered_server,
    shop,
)

AWAY = Transient("The cluster cannot be reached.")
DENIED = NotAllowed("The executor may not delete Cluster.")


def stay_away(shop: Shop, length: timedelta) -> None:  # noqa: F811
    """Have the cluster not answer for so long."""
    ends_at = clock.now() + length
    shop.scene.kubernetes.script.fail_before("*", AWAY, times=10_000, when=lambda call: clock.now() < ends_at)


def pass_minutes(count: int, *, step: int = 1, until: Callable[[], bool] = lambda: False) -> None:
    """Let restores, drills, backups and their jobs act once a minute, or less often."""
    for _ in range(0, count, step):
        if until():
            return
        engine.tick(RestoreRun())
        engine.tick(DrillRun())
        engine.tick(Backup())
        do_job()
        clock.set_offset(clock.now() + timedelta(minutes=step) - datetime.now(UTC))


def test_restore_goes_on_after_an_hour_without_the_cluster(shop: Shop) -> None:  # noqa: F811
    restore = shop.ticked(shop.asked(), times=2)
    shop.say("Setting up primary")
    stay_away(shop, timedelta(hours=1))

    pass_minutes(40)
    restore.refresh_from_db()
    during = (restore.state, restore.trouble)
    pass_minutes(25)

    restore.refresh_from_db()
    assert during == ("provisioning", AWAY.reason)
    assert (restore.state, restore.trouble, shop.clusters()) == ("restoring", "", ["changecontrol-restore"])


@pytest.mark.slow
def test_job_of_a_restore_waits_for_the_cluster_as_long(shop: Shop) -> None:  # noqa: F811
    restore = shop.ticked(shop.asked(), times=2)
    shop.recover()
    engine.tick(RestoreRun())
    stay_away(shop, timedelta(hours=1))

    pass_minutes(40)
    waiting = Job.objects.get(kind="restore")
    pass_minutes(30)

    restore.refresh_from_db()
    assert (waiting.state, waiting.trouble, waiting.attempts) == ("open", AWAY.reason, 0)
    assert restore.state == "succeeded", restore.sentence


@pytest.mark.slow
def test_restore_whose_cluster_never_answers_fails_within_a_day(shop: Shop) -> None:  # noqa: F811
    restore = shop.ticked(shop.asked(), times=2)
    stay_away(shop, timedelta(days=3))

    def is_over() -> bool:
        restore.refresh_from_db()
        return restore.state == "failed"

    pass_minutes(27 * 60, step=10, until=is_over)

    assert restore.sentence == AWAY.reason
    assert restore.finished_at is not None
    assert timedelta(hours=24) <= restore.finished_at - restore.decided_at <= timedelta(hours=26)


@pytest.mark.parametrize("model", [Restore, Drill, BackupRun])
def test_what_kills_its_workers_comes_before_a_person(shop: Shop, model: Any) -> None:  # noqa: F811
    asked: dict[Any, Callable[[], Any]] = {
        Restore: shop.asked,
        Drill: lambda: drilled(shop, level=2),
        BackupRun: shop.scene.asked,
    }
    row = asked[model]()
    pass_minutes(2)
    held: dict[str, Any] = {"lease_token": uuid.uuid4(), "lease_until": clock.now(), "next_due_at": clock.now()}
    model.objects.filter(pk=row.pk).update(attempts=engine.ATTEMPTS_LIMIT - 1, **held)

    pass_minutes(1)

    row.refresh_from_db()
    assert row.state == "failed"
    assert "Its workers ended in the middle of this step, again and again." in row.sentence


def test_backup_that_is_completed_meanwhile_becomes_a_point(shop: Shop) -> None:  # noqa: F811
    before = RecoveryPoint.objects.count()
    run = shop.scene.asked()
    pass_minutes(2)
    stay_away(shop, timedelta(hours=1))
    pass_minutes(40)
    shop.scene.complete(run)

    pass_minutes(30)

    run.refresh_from_db()
    assert (run.state, run.trouble, RecoveryPoint.objects.count()) == ("succeeded", "", before + 1)


def test_drill_goes_on_after_an_hour_without_the_cluster(shop: Shop) -> None:  # noqa: F811
    drill = shop.ticked(drilled(shop, level=2), times=2)
    stay_away(shop, timedelta(hours=1))

    pass_minutes(65)

    drill.refresh_from_db()
    assert (drill.state, drill.trouble) == ("provisioning", "")


@pytest.mark.slow
def test_drill_that_cannot_clear_away_for_an_hour_passes_once_it_can(shop: Shop) -> None:  # noqa: F811
    drill = shop.ticked(drilled(shop, level=2), times=2)
    shop.recover(kind="drill")
    pass_minutes(20, until=lambda: Drill.objects.filter(state="tearing_down").exists())
    stay_away(shop, timedelta(hours=1))

    pass_minutes(70)

    drill.refresh_from_db()
    assert (drill.state, drill.leftovers, shop.clusters(), drill.data) == ("passed", "", [], {})


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [AWAY, DENIED], ids=["away", "denied"])
def test_drill_that_never_clears_away_keeps_its_answers_and_has_left_something(
    shop: Shop,  # noqa: F811
    trouble: Any,
) -> None:
    drill = shop.ticked(drilled(shop, level=2), times=2)
    shop.recover(kind="drill")
    pass_minutes(20, until=lambda: Drill.objects.filter(state="tearing_down").exists())
    shop.scene.kubernetes.script.fail_before("ensure_deleted", trouble, times=10_000)

    pass_minutes(27 * 60, step=10, until=lambda: Drill.objects.filter(state="failed").exists())

    drill.refresh_from_db()
    assert (drill.state, drill.leftovers) == ("failed", f"{UNREMOVED} {trouble.reason}")
    assert drill.sentence.startswith("It left something behind: ")
    assert set(answers(drill).values()) == {True}
    assert "cluster" in drill.data
