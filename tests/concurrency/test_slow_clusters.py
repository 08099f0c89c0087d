"""A cluster that answers slowly holds its share of the workers and no more: the targets of others go on."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from changecontrol import clock
from changecontrol.models import Cluster, Environment, RunTarget
from changecontrol.project.local.processes import wait_until
from changecontrol.workflow import engine
from changecontrol.workflow.engine import Settlement
from deployments.workflows.target import TargetUpdate
from tests.changecontrol.workflow.toy import make_runs
from tests.concurrency.test_votes import together
from tests.plugin import TestDatabase

WORKERS = 5
SHARE = 2
SLOW, QUICK = 40, 30
SLOW_SECONDS, QUICK_SECONDS = 0.5, 0.01


class Working(TargetUpdate):
    """Takes as long over a target as its cluster takes to answer, and counts who is where."""

    patience = 20.0

    def __init__(self) -> None:
        self.lock_of_counts = threading.Lock()
        self.busy: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def _advance(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        name = row.environment.cluster.name
        with self.lock_of_counts:
            self.busy[name] += 1
            self.most[name] = max(self.most[name], self.busy[name])
        if name == "slow":
            # Under load too they are at it together once: how many may be is what is asked.
            wait_until(lambda: self.most[name] >= SHARE, seconds=self.patience)
        time.sleep(SLOW_SECONDS if name == "slow" else QUICK_SECONDS)
        with self.lock_of_counts:
            self.busy[name] -= 1
            self.done[name] += 1
        return Settlement(write=None, due_in=None)


class WorkingAlone(Working):
    """Of a class of its own, since the claim of a class is built once."""

    patience = 0.0


def targets_of(name: str, *, count: int, since: timedelta) -> None:
    """Make targets of a cluster of their own that have been due for so long."""
    (run,) = make_runs(1, at=clock.now(), targets=count)
    first = run.targets.select_related("environment").first()
    assert first is not None
    environment = first.environment
    environment.pk, environment.slug, environment.namespace = None, name, name
    environment.cluster = Cluster.objects.create(slug=name, name=name, credential=f"env:{name.upper()}")
    environment.save(force_insert=True)
    run.targets.update(environment=environment, state="updating", next_due_at=clock.now() - since)


def test_a_slow_cluster_does_not_hold_up_the_targets_of_another(fresh_db: TestDatabase, settings: Any) -> None:
    settings.WORKERS_PER_CLUSTER = SHARE
    targets_of("slow", count=SLOW, since=timedelta(minutes=10))
    targets_of("quick", count=QUICK, since=timedelta(minutes=1))
    assert Environment.objects.filter(runtarget__isnull=False).distinct().count() == 2
    workflow = Working()
    quick = RunTarget.objects.filter(environment__cluster__name="quick", next_due_at__isnull=False)

    def work() -> None:
        ends_at = time.monotonic() + 60
        # Five that claim at one moment turn each other away: they go on until two were at it together.
        while (quick.exists() or workflow.most["slow"] < SHARE) and time.monotonic() < ends_at:
            if not engine.tick(workflow):
                time.sleep(0.02)

    together(*[work] * WORKERS)

    assert workflow.done["quick"] == QUICK
    assert workflow.most["slow"] == SHARE
    # Those of the slow cluster were due first, and yet most of them are still to come.
    assert workflow.done["slow"] < SLOW / 2


def test_a_target_that_is_turned_away_keeps_its_attempts(fresh_db: TestDatabase, settings: Any) -> None:
    settings.WORKERS_PER_CLUSTER = 1
    targets_of("slow", count=2, since=timedelta(minutes=10))
    workflow = WorkingAlone()
    RunTarget.objects.update(attempts=3)
    (one,) = engine.claim(workflow, at=clock.now())
    # Claimed at the very same moment by another worker, as far as this worker's claim could see.
    token = uuid.uuid4()
    RunTarget.objects.exclude(pk=one.row.pk).update(lease_token=token, lease_until=one.row.lease_until)
    other = engine.Claim(row=RunTarget.objects.exclude(pk=one.row.pk).get(), token=token)

    settlement = workflow.meet([other.row], clock.now())
    assert settlement is not None
    engine.settle(workflow, other, settlement, at=clock.now())

    other.row.refresh_from_db()
    assert workflow.done == Counter()
    assert (other.row.attempts, other.row.lease_token) == (3, None)
    assert engine.claim(workflow, at=clock.now()) == []


@pytest.fixture(autouse=True)
def no_connection_stays() -> Any:
    yield
    connections.close_all()
