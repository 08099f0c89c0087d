"""Times a thing and its floor in turns, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 7


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
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(
    work: Callable[[], object], floor: Callable[[], object], *more: Callable[[], object], rounds: int = ROUNDS
) -> tuple[float, ...]:
    """Return the least seconds of each of these, after one unmeasured turn: what else the machine does only adds."""
    every = (work, floor, *more)
    for one in every:
        one()
    turns = [[seconds(one) for one in every] for _ in range(rounds)]
    return tuple(min(turn[place] for turn in turns) for place in range(len(every)))
