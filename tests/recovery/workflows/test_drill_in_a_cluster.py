"""A drill whose sandbox is a pod: carried out for real, cleared away, and failed where something of it stays."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.conf import settings

from changecontrol import clock, wiring
from changecontrol.adapters.jobs import open_cluster
from changecontrol.models import Job, User
from changecontrol.ports import JobRunner
from changecontrol.workflow import engine
from changecontrol.workflows.placing import look_after
from recovery.actions.drills import start_drill
from recovery.models import Drill
from recovery.queries.points import coverage_of
from tests.contracts.jobs.conftest import Ground
from tests.factories.estate import actor
from tests.plugin import TestDatabase
from tests.recovery.workflows.conftest import Shop
from tests.recovery.workflows.test_drill import answers, backed_up

pytestmark = pytest.mark.slow


def drilled(shop: Shop, rio: User, ground: Ground, database: TestDatabase) -> Drill:
    backed_up(shop, rio)
    # The pod goes by the database's clock, and so does whoever looks after it.
    clock.set_offset(timedelta())
    target_at = coverage_of(shop.estate.production).last_safe_before(clock.now())
    assert target_at is not None
    drill = start_drill(
        actor=actor(rio),
        environment_id=shop.estate.production.pk,
        level=2,
        target_at=target_at,
        sabotage="",
        at=clock.now(),
    )
    environment = {
        "DATABASE_URL": database.url,
        "RECOVERY_SANDBOXES": str(shop.sandboxes),
        "POSTGRES_PROGRAMS": ",".join(settings.POSTGRES_PROGRAMS),
    }

    def open_runner() -> JobRunner:
        return open_cluster(ground.kubernetes, place=ground.place)

    with ground.kubelet(environment) as kubelet:
        ends_at = time.monotonic() + 200
        while not Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists():
            assert time.monotonic() < ends_at, (list(Job.objects.values()), drill.sentence)
            engine.tick(wiring.workflows()["drill"])
            look_after(open_runner, kinds=["drill"], at_once=1, at=clock.now())
            time.sleep(0.2)
        assert len(kubelet.begun) == 1
    drill.refresh_from_db()
    return drill


def test_a_drill_is_carried_out_in_a_pod_and_nothing_is_left(
    shop: Shop,
    rio: User,
    ground: Ground,
    fresh_db: TestDatabase,
) -> None:
    drill = drilled(shop, rio, ground, fresh_db)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, drill.leftovers, wrong) == ("passed", "", "", [])
    assert answers(drill)["Restored and started"] is True
    assert (ground.jobs(), ground.pods(), shop.left_over()) == ([], [], [])


def test_a_pod_that_cannot_be_cleared_away_fails_its_drill(
    shop: Shop,
    rio: User,
    ground: Ground,
    fresh_db: TestDatabase,
) -> None:
    path = ground.path("jobs", base="/apis/batch/v1")
    ground.fault(kind="403", method="DELETE", path=path, times=None)

    drill = drilled(shop, rio, ground, fresh_db)

    assert drill.state == "failed"
    assert drill.leftovers.startswith("The executor may not delete Job ")
    assert shop.left_over() == []
