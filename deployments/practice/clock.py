"""Time in the practice estate: stamps are wall-clock time; waits pass `speed` times as fast."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


class PracticeClock:
    """A wall clock, and durations divided by `speed`: a readiness delay of 2 s lasts 0.1 s at speed 20."""

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError("The speed of the practice clock must be above zero.")
        self.speed = speed

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def real(self, seconds: float) -> float:
        """Return how long a wait of the estate's `seconds` really lasts."""
        return seconds / self.speed


def stamp(at: float) -> str:
    """Write a time as Kubernetes does, to the second."""
    return _stamp(int(at))


@lru_cache(256)
def _stamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fine_stamp(at: float) -> str:
    """Write a time as Kubernetes' MicroTime."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
