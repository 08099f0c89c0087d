"""A crash after any line of a rollout's own code: the next worker carries on, and no effect is lost or repeated.

Every fourth line by default; EVERY_LINE=1 takes them all.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from django.db import transaction

from changecontrol import clock
from changecontrol.models import AuditEvent
from changecontrol.workflow import engine
from deployments.actions import rollouts
from deployments.workflows import crowding, ending, reverting, rollout, settling, steps, target
from tests.deployments.workflows.scene import BAD, NEW, Scene, pass_time

FILES = {one.__file__ for one in (rollout, settling, target, steps, crowding, reverting, ending, rollouts)}
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
STORIES = [pytest.param(NEW, "succeeded", frozenset(), id="there"), pytest.param(BAD, "rolled_back", BACK, id="back")]


class Crash(BaseException):
    """The process is gone: nothing may catch it, and nothing after it runs."""


class CrashAt:
    """Raises at the first execution of each chosen line; with none chosen, lists the lines that are reached."""

    def __init__(self, chosen: tuple[str, int] | None = None, *, functions: frozenset[str] = frozenset()) -> None:
        self.chosen = chosen
        self.functions = functions
        self.lines: dict[tuple[str, int], None] = {}
        self.is_spent = False

    def __enter__(self) -> CrashAt:
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter_frame(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        is_named = not self.functions or name in self.functions or file == reverting.__file__
        return self._line if file in FILES and is_named else None

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


def play(scene: Scene, end: str, *, functions: frozenset[str], crash_at: tuple[str, int] | None = None) -> CrashAt:
    """Carry the rollout out to its end, with one crash on the way."""
    tracer = CrashAt(crash_at, functions=functions)
    try:
        with tracer:
            scene.until(end, step=15)
    except Crash:
        pass_time(engine.LEASE_SECONDS + 1)
        scene.until(end, step=15)
    return tracer


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize(("image", "end", "functions"), STORIES)
def test_a_crash_after_every_line_changes_nothing_but_time(  # RUN-1
    scene: Scene, image: str, end: str, functions: frozenset[str], shard: int
) -> None:
    scene.cluster.spoil_image(BAD)
    waves = [{"name": "All", "environments": ["production"], "bake_seconds": 5}]
    scene.scheduled(image, waves=waves)
    world = scene.remember()
    start = clock._offset

    def again(crash_at: tuple[str, int] | None) -> tuple[CrashAt, tuple[object, ...]]:
        scene.recall(world)
        clock.set_offset(start)
        with transaction.atomic():
            tracer = play(scene, end, functions=functions, crash_at=crash_at)
            found = (effects_of(scene), events_of(), scene.images(), scene.git_content())
            transaction.set_rollback(True)
        return tracer, found

    tracer, expected = again(None)
    lines = list(tracer.lines)
    assert len(lines) > 60

    for line in lines[shard::SHARDS][::EVERY]:
        assert again(line)[1] == expected, line
