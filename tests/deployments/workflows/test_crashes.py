"""A crash after any line of a rollout's own code: the next worker carries on, and no effect is lost or repeated.

Every fourth line by default; EVERY_LINE=1 takes them all.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest
from django.db import transaction

from changecontrol import clock
from changecontrol.actions.runs import ask_run
from changecontrol.models import AuditEvent, RunLog
from changecontrol.workflow import engine
from deployments.actions import rollouts
from deployments.workflows import crowding, ending, obeying, reverting, rollout, settling, steps, target
from tests.deployments.workflows.scene import BAD, NEW, Scene, pass_time
from tests.factories import actor

FILES = {one.__file__ for one in (rollout, settling, target, steps, crowding, reverting, ending, obeying, rollouts)}
SHARDS = 4
EVERY = 1 if os.environ.get("EVERY_LINE") else 4
"""How many lines apart the crashes are: each takes a rollout from start to end, so all of them take ten minutes."""
BACK = frozenset(
    {
        "_begin",
        "_expected",
        "_move_back",
        "_own_up",
        "_taken_back",
        "_verify",
        "begin_rollback",
        "finish_rollback",
        "own_up",
        "roll_back",
        "rolled_back",
    }
)
"""The functions of the way back, beside all of `reverting`; the way there is crashed through by the other story."""
Within = Callable[[str, str], bool]
"""Whether a story is crashed in a function, by its file and its name."""


def anywhere(file: str, name: str) -> bool:
    return True


def going_back(file: str, name: str) -> bool:
    return name in BACK or file == reverting.__file__


def obeying_a_person(file: str, name: str) -> bool:
    return file == obeying.__file__


STORIES = [
    pytest.param(NEW, [("", "succeeded")], anywhere, 60, id="there"),
    pytest.param(BAD, [("", "rolled_back")], going_back, 60, id="back"),
    pytest.param(
        NEW,
        [("", "running"), ("pause", "paused"), ("resume", "succeeded")],
        obeying_a_person,
        15,
        id="asked",
    ),
]
"""What is brought; what a person asks, and what the run comes to; where it is crashed, at how many lines at least."""


class Crash(BaseException):
    """The process is gone: nothing may catch it, and nothing after it runs."""


class CrashAt:
    """Raises at the first execution of each chosen line; with none chosen, lists the lines that are reached."""

    def __init__(self, chosen: tuple[str, int] | None = None, *, within: Within) -> None:
        self.chosen = chosen
        self.within = within
        self.lines: dict[tuple[str, int], None] = {}
        self.is_spent = False

    def __enter__(self) -> CrashAt:
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter_frame(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        return self._line if file in FILES and self.within(file, name) else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        if event == "line":
            here = (frame.f_code.co_filename, frame.f_lineno)
            self.lines[here] = None
            if here == self.chosen and not self.is_spent:
                self.is_spent = True
                sys.settrace(None)
                raise Crash
        return self._line


def effects_of(scene: Scene) -> list[str]:
    return sorted(f"{effect.verb} {effect.ref}" for effect in scene.cluster.effects if effect.verb != "unchanged")


def events_of() -> list[tuple[str, ...]]:
    """Return what the trail says was done to objects and to Git: each once, whatever worker died in the middle."""
    found = AuditEvent.objects.filter(tag__in=["run:object:applied", "run:object:pruned"])
    bodies = [json.loads(one) for one in found.values_list("body", flat=True)]
    keys = ("target", "object", "reverting", "is_certain")
    moved = AuditEvent.objects.filter(tag="run:git:moved").count()
    return [("git", str(moved)), *sorted((one["tag"], *(str(one["data"].get(key)) for key in keys)) for one in bodies)]


def obeyed_of(scene: Scene) -> list[str]:
    """Return what the run's log says was done for a person, in its order."""
    found = RunLog.objects.filter(run=scene.run(), sentence__contains=" by Cy").order_by("pk")
    return list(found.values_list("sentence", flat=True))


def play(
    scene: Scene, legs: Sequence[tuple[str, str]], *, within: Within, crash_at: tuple[str, int] | None = None
) -> CrashAt:
    """Carry the rollout out to its end, leg by leg, with one crash on the way."""
    tracer = CrashAt(crash_at, within=within)
    for verb, state in legs:
        if verb:
            cy = actor(scene.estate.cy)
            ask_run(actor=cy, run_id=scene.run().pk, verb=verb, reason="Because.", at=clock.now())
        try:
            with tracer:
                scene.until(state, step=15)
        except Crash:
            pass_time(engine.LEASE_SECONDS + 1)
            scene.until(state, step=15)
    return tracer


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize(("image", "legs", "within", "least"), STORIES)
def test_a_crash_after_every_line_changes_nothing_but_time(  # RUN-1
    scene: Scene, image: str, legs: Sequence[tuple[str, str]], within: Within, least: int, shard: int
) -> None:
    scene.cluster.spoil_image(BAD)
    waves = [{"name": "All", "environments": ["production"], "bake_seconds": 5}]
    scene.scheduled(image, waves=waves)
    world = scene.remember()
    start = clock._offset

    def again(crash_at: tuple[str, int] | None) -> tuple[CrashAt, tuple[Any, ...]]:
        scene.recall(world)
        clock.set_offset(start)
        with transaction.atomic():
            tracer = play(scene, legs, within=within, crash_at=crash_at)
            found = (effects_of(scene), events_of(), obeyed_of(scene), scene.images(), scene.git_content())
            transaction.set_rollback(True)
        return tracer, found

    tracer, expected = again(None)
    obeyed = expected[2]
    lines = list(tracer.lines)
    assert len(lines) > least
    assert len(obeyed) == len([verb for verb, _ in legs if verb])

    for line in lines[shard::SHARDS][::EVERY]:
        assert again(line)[1] == expected, line
