"""A crash after any line of a rehearsal: the next worker carries on, and nothing is made twice, lost or left.

Every fourth line by default; EVERY_LINE=1 takes them all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from django.db import transaction

from changecontrol import clock
from changecontrol.actions import rehearsals
from changecontrol.models import AuditEvent
from changecontrol.workflow import engine
from deployments.workflows import rehearsal
from tests.deployments.workflows.rehearsals import Elsewhere, elsewhere_of
from tests.deployments.workflows.scene import BAD, NEW, Scene, pass_time
from tests.deployments.workflows.test_crashes import EVERY

FILES = {rehearsal.__file__, rehearsals.__file__}


class Crash(BaseException):
    """The process is gone: nothing may catch it, and nothing after it runs."""


class CrashAt:
    """Raises at the first execution of the chosen line; with none chosen, lists the lines that are reached."""

    def __init__(self, chosen: tuple[str, int] | None = None) -> None:
        self.chosen = chosen
        self.lines: dict[tuple[str, int], None] = {}

    def __enter__(self) -> CrashAt:
        sys.settrace(lambda frame, event, arg: self._line if frame.f_code.co_filename in FILES else None)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _line(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        if event == "line":
            here = (frame.f_code.co_filename, frame.f_lineno)
            self.lines[here] = None
            if here == self.chosen:
                sys.settrace(None)
                raise Crash
        return self._line


def found_of(elsewhere: Elsewhere) -> list[Any]:
    """Return what really changed at the far side, and what the trail says, without the name of the run."""
    effects = sorted(f"{one.verb} {one.ref.kind} {one.ref.name[:9]}" for one in elsewhere.cluster.effects)
    bodies = AuditEvent.objects.filter(subject__startswith="rehearsal:").values_list("body", flat=True)
    moves = [json.loads(one)["data"].get("verb") for one in bodies]
    applied = sorted(each["object"][:9] for one in bodies for each in json.loads(one)["data"].get("objects", []))
    return [[one for one in effects if not one.startswith("unchanged")], moves.count(None) > 0, applied,
            [one for one in moves if one]]  # fmt: skip


def play(elsewhere: Elsewhere, commit: str, end: str, *, crash_at: tuple[str, int] | None) -> CrashAt:
    """Bring it up and take it down again, with one crash on the way."""
    tracer = CrashAt(crash_at)
    up = elsewhere.ask(commit)
    for step in (lambda: elsewhere.work(end), lambda: elsewhere.take_down(up), lambda: elsewhere.work("gone", "left")):
        try:
            with tracer:
                step()
        except Crash:
            tracer.chosen = None
            pass_time(engine.LEASE_SECONDS + 1)
            step()
    return tracer


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("image", "end"), [(NEW, "up"), (BAD, "failed")], ids=["there", "failed"])
def test_a_crash_after_any_line_changes_nothing_but_time(scene: Scene, image: str, end: str) -> None:  # RUN-1
    elsewhere = elsewhere_of(scene)
    elsewhere.cluster.spoil_image(BAD)
    commit = elsewhere.commit(image)
    start = clock._offset

    def again(crash_at: tuple[str, int] | None) -> tuple[CrashAt, list[Any]]:
        clock.set_offset(start)
        elsewhere.cluster.effects.clear()
        with transaction.atomic():
            tracer = play(elsewhere, commit, end, crash_at=crash_at)
            found = [*found_of(elsewhere), sorted(str(ref) for ref in elsewhere.cluster.objects())]
            transaction.set_rollback(True)
        return tracer, found

    tracer, expected = again(None)

    assert expected[-1] == []
    assert len(tracer.lines) > 60
    for line in list(tracer.lines)[::EVERY]:
        assert again(line)[1] == expected, line
