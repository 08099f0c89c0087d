"""Times a thing and its floor in turns, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import gc
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 7
AIM = re.compile(r"(ratio|value) (<=|>=) ([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `ratio` is value / floor; `aim` says which side of which ratio is wanted."""

    name: str
    value: float
    unit: str
    floor: float
    aim: str = ""

    @property
    def ratio(self) -> float:
        return self.value / self.floor if self.floor else 0.0

    @property
    def is_met(self) -> bool:
        """Say whether the aim is reached; one that names no number always is."""
        wanted = AIM.match(self.aim)
        if wanted is None:
            return True
        found = self.ratio if wanted[1] == "ratio" else self.value
        return found <= float(wanted[3]) if wanted[2] == "<=" else found >= float(wanted[3])

    def print(self) -> None:
        row = {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "floor": round(self.floor, 4),
            "ratio": round(self.ratio, 3),
        }
        print(json.dumps(row | ({"aim": self.aim, "met": self.is_met} if self.aim else {})), flush=True)


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
