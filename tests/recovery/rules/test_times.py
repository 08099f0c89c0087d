from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from recovery.rules.times import length, moment


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "no time"),
        (-5, "no time"),
        (1, "1 second"),
        (60, "1 minute"),
        (3_725, "1 hour 2 minutes"),
        (86_400, "1 day"),
        (90_061, "1 day 1 hour"),
    ],
)
def test_a_length_reads_in_its_two_greatest_units(seconds: int, words: str) -> None:
    assert length(timedelta(seconds=seconds)) == words


def test_a_moment_carries_its_zone() -> None:
    assert moment(datetime(2026, 7, 1, 2, tzinfo=ZoneInfo("Europe/Lisbon"))) == "01 Jul 2026 02:00:00 WEST"
