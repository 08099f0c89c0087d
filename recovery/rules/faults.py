"""What checks found wrong and nobody has mended: a broken newest point, a failed drill, an open corrective action.

No alarm: people were told when it was found. It is bad where no proved way back is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from changecontrol.lifecycles.machine import Word
from recovery.rules.times import moment


class FaultKind(Word):
    POINT_BROKEN = "point_broken"
    DRILL_FAILED = "drill_failed"
    ACTION_OPEN = "action_open"


FAULTS: Mapping[str, str] = {
    FaultKind.POINT_BROKEN: "newest point broken",
    FaultKind.DRILL_FAILED: "newest drill failed",
    FaultKind.ACTION_OPEN: "corrective action open",
}
"""What is wrong, in a few words, by kind, worst first."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`number` is that of the point or the drill that says more."""

    kind: FaultKind
    sentence: str
    since: datetime
    is_bad: bool
    number: int


@dataclass(frozen=True, slots=True)
class BrokenPoint:
    number: int
    key: str
    consistent_at: datetime
    found_at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class FailedDrill:
    number: int
    level: int
    finished_at: datetime
    sentence: str


@dataclass(frozen=True, slots=True)
class OpenAction:
    """`drill` is the number of the drill that found it."""

    drill: int
    title: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class FoundFacts:
    """`broken` and `failed` are the newest point and the newest drill that could prove something, where they are so.

    `is_proved` tells whether any point is verified that a restore may begin on. Actions are the oldest first.
    """

    is_proved: bool
    broken: BrokenPoint | None = None
    failed: FailedDrill | None = None
    actions: tuple[OpenAction, ...] = ()


def faults(facts: FoundFacts) -> tuple[Fault, ...]:
    """List what was found and is not mended, worst first."""
    return (*_point(facts), *_drill(facts), *_actions(facts))


def _point(facts: FoundFacts) -> Iterator[Fault]:
    one = facts.broken
    if one is None:
        return
    instead = "Restores begin on an older one" if facts.is_proved else "No other one is verified"
    sentence = (
        f"The newest point, {one.key} of {moment(one.consistent_at)}, is broken: {one.why} {instead}. Back up now, and "
        "drill the new point."
    )
    yield Fault(FaultKind.POINT_BROKEN, sentence, one.found_at, not facts.is_proved, one.number)


def _drill(facts: FoundFacts) -> Iterator[Fault]:
    one = facts.failed
    if one is None:
        return
    is_open = any(action.drill == one.number for action in facts.actions)
    closing = ", close its corrective action" if is_open else ""
    sentence = (
        f"The newest drill, of level {one.level}, failed at {moment(one.finished_at)}: {one.sentence} Mend what it "
        f"names{closing}, and drill again."
    )
    yield Fault(FaultKind.DRILL_FAILED, sentence, one.finished_at, not facts.is_proved, one.number)


def _actions(facts: FoundFacts) -> Iterator[Fault]:
    # What the newest drill found is said with it.
    newest = facts.failed.number if facts.failed else None
    rows = [one for one in facts.actions if one.drill != newest]
    if not rows:
        return
    more = f" And {len(rows) - 1} more." if len(rows) > 1 else ""
    sentence = f"{rows[0].title}{more} Mend it, and say on the drill's page what was done."
    yield Fault(FaultKind.ACTION_OPEN, sentence, rows[0].opened_at, not facts.is_proved, rows[0].drill)
