"""What each level of a drill asks, in plain words, and how far an environment can go (BCK-5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LevelOffer:
    """One level of a drill. `refusal` says why it cannot be asked here, and is empty where it can."""

    level: int
    name: str
    asks: str
    refusal: str = ""

    @property
    def label(self) -> str:
        return f"L{self.level}, {self.name}"


NAMES = {1: "integrity", 2: "PostgreSQL", 3: "filestore", 4: "Odoo", 5: "another cluster"}
ASKS = {
    1: "Every object is in the store and has its hash, the backup fits its own list and the WAL has no hole, or the "
    "dump is read to its end. Nothing is started.",
    2: "It is restored to the time in a sandbox and starts, every row is read, and the newest sentinel and order are "
    "looked for.",
    3: "Every attachment that the database names is there, with the content that its name stands for.",
    4: "Odoo starts on the neutralised copy, no module is left to upgrade, and a synthetic sale reserves its stock.",
    5: "The copy goes to the server of another cluster, the environment is brought up there from Git until every "
    "workload is healthy, and all of it is taken down again.",
}
NO_CLUSTER = "The cluster in which the environment is brought up is not in the estate any more."
OF_ANOTHER_TOOL = "A point that another tool made is drilled up to level 2: nothing tells of its attachments."


def offered_levels(*, has_filestore: bool, has_odoo: bool, has_place: bool) -> tuple[LevelOffer, ...]:
    """Return the levels, each with all that the ones before it ask, as far as there is something to ask.

    `has_place` tells that the policy says in which other cluster the environment is brought up.
    """
    no_filestore = "" if has_filestore else "Its backup policy names no filestore to ask about."
    no_odoo = "" if has_odoo else "This installation has no Odoo to start: name one in ODOO_COMMAND."
    no_place = "" if has_place else "Its backup policy names no other cluster in which to bring it up."
    return _offers({3: no_filestore, 4: no_filestore or no_odoo, 5: no_place})


def levels_of_another_tool() -> tuple[LevelOffer, ...]:
    """Return the levels of points that another tool makes: of attachments it registers nothing that could be asked."""
    return _offers(dict.fromkeys((3, 4, 5), OF_ANOTHER_TOOL))


def _offers(refusals: Mapping[int, str]) -> tuple[LevelOffer, ...]:
    return tuple(LevelOffer(level, NAMES[level], asks, refusals.get(level, "")) for level, asks in ASKS.items())


def method_of(level: int) -> tuple[str, ...]:
    """Say how a drill of a level goes about it: what it asks, and all that the levels before it ask."""
    return tuple(f"L{one}, {NAMES[one]}: {asks}" for one, asks in ASKS.items() if one <= level)


def refusal_of(level: int, offers: tuple[LevelOffer, ...]) -> str:
    """Say why a drill of this level cannot be held; empty where it can."""
    return next(one.refusal for one in offers if one.level == level)
