"""A crash after every line of the watch: its owners are told once, and of everything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest
from django.db import connection, connections

from changecontrol import clock
from changecontrol.models import Message
from changecontrol.workflow import engine
from recovery.actions import alarms as actions
from recovery.models import AlarmWatch, RaisedAlarm
from recovery.workflows import alarms
from tests.factories import small_estate
from tests.factories.recovery import HOUR, backup_policy, recovery_owner
from tests.plugin import TestDatabase
from tests.recovery.workflows import test_alarms as quiet
from tests.recovery.workflows.test_alarms import DAY, MINUTE, NIGHT, go_to, look, told

FILES = {alarms.__file__, actions.__file__}
BEGAN = NIGHT + DAY + HOUR + MINUTE


class Crash(BaseException):
    """The process is gone: nothing may catch it, and nothing after it runs."""


@pytest.fixture(autouse=True)
def stores(settings: Any) -> Iterator[None]:
    openers = {"object_store": f"{quiet.__name__}.open_store", "secrets": f"{quiet.__name__}.open_secrets"}
    settings.ADAPTERS = {**settings.ADAPTERS, **openers}
    yield
    clock.set_offset(timedelta())


def lines_until(number: int, call: Callable[[], None]) -> list[tuple[str, int]]:
    """Run, ending the process at the n-th line of the watch's own code; return the lines that were reached."""
    seen: list[tuple[str, int]] = []

    def line(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        if event == "line":
            seen.append((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == number:
                sys.settrace(None)
                raise Crash
        return line

    sys.settrace(lambda frame, event, arg: line if frame.f_code.co_filename in FILES else None)
    try:
        with suppress(Crash):
            call()
    finally:
        sys.settrace(None)
    return seen


def lose_connection() -> None:
    """Cut the connection off in the middle of whatever it was doing, as the end of its process does."""
    if connection.connection is not None:
        connection.connection.close()
    del connections["default"]


@pytest.mark.slow
def test_a_crash_after_any_line_tells_once_and_of_everything(fresh_db: TestDatabase) -> None:  # BCK-1, RUN-1
    estate = small_estate()
    rio = recovery_owner(estate)
    backup_policy(estate.production)
    number, lines = 0, [("", 0)]
    while len(lines) >= number:
        number += 1
        go_to(BEGAN)
        for model in (RaisedAlarm, AlarmWatch, Message):
            model.objects.all().delete()

        lines = lines_until(number, look)
        lose_connection()
        go_to(BEGAN + timedelta(seconds=engine.LEASE_SECONDS + 1))
        look()

        assert sorted(told(rio)) == [
            "Northwind production: alarm, drill overdue",
            "Northwind production: alarm, no backup in time",
        ]
    assert len(set(lines)) > 40
