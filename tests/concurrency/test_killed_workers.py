"""Workers that are killed, stopped and too many: every effect happens once."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from changecontrol import clock
from changecontrol.models import RunTarget
from changecontrol.project.local.processes import send
from changecontrol.workflow import engine
from tests.changecontrol.workflow.toy import (
    STEPS,
    FolderFarSide,
    Gate,
    ToyTarget,
    expected_effects,
    make_runs,
    rows_of,
    unfinished_count,
)
from tests.concurrency.conftest import Workshop, until
from tests.plugin import TestDatabase

SHORT_LEASE_SECONDS = 4


@pytest.mark.slow
def test_two_hundred_runs_survive_workers_killed_at_random(fresh_db: TestDatabase, workshop: Workshop) -> None:  # RUN-1
    runs = make_runs(200, at=clock.now(), targets=5)
    crew = workshop.start_crew(10)
    chance = random.Random(20261123)
    killed = 0
    ends_at = time.monotonic() + 200

    while unfinished_count(runs) and time.monotonic() < ends_at:
        time.sleep(chance.uniform(0.1, 0.6))
        if killed < 60 and (workers := crew.workers()):
            send(chance.choice(workers), signal.SIGKILL)
            killed += 1

    assert unfinished_count(runs) == 0, workshop.log[-3000:]
    assert killed >= 20
    assert FolderFarSide(workshop.far_side).counts() == expected_effects(runs)
    closed = ("succeeded", "closed", 0, None, None, None)
    healthy = ("healthy", "", list(STEPS), 0, None, None, None)
    assert rows_of(runs) == [closed] * 200 + [healthy] * 1000


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before-effect", "after-effect"])
def test_a_worker_stopped_past_its_lease_is_fenced(
    fresh_db: TestDatabase, workshop: Workshop, place: str
) -> None:  # RUN-1
    (run,) = make_runs(1, at=clock.now(), targets=1)
    RunTarget.objects.update(next_due_at=clock.now())
    gate = Gate(workshop.folder / "gate")
    gate.close(place)
    crew = workshop.start_crew(1)
    until(lambda: bool(gate.arrivals(place)), seconds=30, log=lambda: workshop.log)
    (late,) = gate.arrivals(place)
    assert crew.workers() == [late]

    os.kill(late, signal.SIGSTOP)
    gate.open(place)
    ours = ToyTarget(FolderFarSide(workshop.far_side))
    until(lambda: engine.tick(ours) > 0, seconds=SHORT_LEASE_SECONDS + 10, log=lambda: workshop.log)
    settled = RunTarget.objects.values_list("applied", "attempts").get()
    os.kill(late, signal.SIGCONT)

    until(lambda: "tick.lease_lost" in workshop.log, seconds=20, log=lambda: workshop.log)
    assert settled == (["apply"], 0)
    until(lambda: not unfinished_count([run]), seconds=30, log=lambda: workshop.log)
    assert FolderFarSide(workshop.far_side).counts() == expected_effects([run])
