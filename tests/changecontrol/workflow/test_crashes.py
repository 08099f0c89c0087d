"""A crash after every line: the next worker carries on, no effect is lost and none is repeated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest
from django.db import connection, connections

from changecontrol import clock
from changecontrol.workflow import claiming, engine, rows
from tests.changecontrol.workflow import toy
from tests.changecontrol.workflow.toy import MemoryFarSide, ToyRun, ToyTarget, ToyTogether, make_runs, rows_of
from tests.plugin import TestDatabase

FILES = {claiming.__file__, engine.__file__, rows.__file__, toy.__file__}


class Crash(BaseException):
    """The process is gone: nothing may catch it, and nothing after it runs."""


class CrashAt:
    """Raises at the n-th line executed in the engine or the toy; notes every line on the way."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: list[tuple[str, int]] = []

    def __enter__(self) -> CrashAt:
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter_frame(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename in FILES else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        if event == "line":
            self.lines.append((frame.f_code.co_filename, frame.f_lineno))
            if len(self.lines) == self.line:
                sys.settrace(None)
                raise Crash
        return self._line


@pytest.fixture(autouse=True)
def host_clock() -> Iterator[None]:
    clock.set_offset(timedelta())
    yield
    clock.set_offset(timedelta())


def pass_time(seconds: float) -> None:
    clock.set_offset(clock._offset + timedelta(seconds=seconds))


def work(far_side: MemoryFarSide, kind: type[ToyTarget]) -> None:
    """Tick as a worker does until the work that can be done has been done, twelve looks at most."""
    for _ in range(12):
        count = engine.drain(ToyRun(far_side), budget_seconds=60) + engine.drain(kind(far_side), budget_seconds=60)
        if not count:
            return
        pass_time(3)


def lose_connection() -> None:
    """Cut the connection off in the middle of whatever it was doing, as the end of its process does."""
    if connection.connection is not None:
        connection.connection.close()
    del connections["default"]


def story(
    kind: type[ToyTarget], targets: int, *, crash_at: int
) -> tuple[list[tuple[str, int]], list[str], list[tuple[object, ...]]]:
    """Carry out one run of some targets, with one crash; return the lines executed, effects in order, rows."""
    # A process begins without them: each story executes the lines that make them, too.
    claiming._statements.clear()
    rows._converters.cache_clear()
    far_side = MemoryFarSide()
    (run,) = make_runs(1, at=clock.now(), targets=targets)
    tracer = CrashAt(crash_at)
    try:
        with tracer:
            work(far_side, kind)
    except Crash:
        lose_connection()
        pass_time(engine.LEASE_SECONDS + 1)
        work(far_side, kind)
    return tracer.lines, [key.rpartition("-")[2] for key in far_side.effects], rows_of([run])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "targets"), [(ToyTarget, 1), (ToyTogether, 2)])
def test_a_crash_after_every_line_neither_repeats_nor_skips_an_effect(  # RUN-1
    fresh_db: TestDatabase, kind: type[ToyTarget], targets: int
) -> None:
    lines, effects, found = story(kind, targets, crash_at=0)
    assert len(set(lines)) > 80
    assert effects == [*["apply"] * targets, *["confirm"] * targets, "close"]

    # A line runs again in every tick: its first and its last time stand for those between.
    first = {line: number for number, line in reversed(list(enumerate(lines, 1)))}
    last = {line: number for number, line in enumerate(lines, 1)}
    for number in sorted({*first.values(), *last.values()}):
        executed, repeated, ended = story(kind, targets, crash_at=number)
        # Rows that a crash parts are worked off one after another: their effects come in another order.
        assert (executed, sorted(repeated), ended) == (lines[:number], sorted(effects), found)
