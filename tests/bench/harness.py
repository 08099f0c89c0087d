"""Times a thing and its floor in turns, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `ratio` is value / floor; `aim` says which side of which ratio is wanted."""

    name: str
    value: float
    unit: str
    floor: float
    aim: str = ""

    def print(self) -> None:
        ratio = self.value / self.floor if self.floor else 0.0
        row = {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "floor": round(self.floor, 4),
            "ratio": round(ratio, 3),
        }
        print(json.dumps(row | ({"aim": self.aim} if self.aim else {})), flush=True)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(work: Callable[[], object], floor: Callable[[], object], *, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median seconds of the work and of its floor, after one unmeasured turn of each."""
    work()
    floor()
    pairs = [(seconds(work), seconds(floor)) for _ in range(rounds)]
    return statistics.median(one for one, _ in pairs), statistics.median(other for _, other in pairs)
