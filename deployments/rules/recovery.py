"""May a change start, from what could be brought back (RBK-2): is each environment backed up, proved, and practised?

A change that only a restore undoes (R2, R3) needs a verified point as fresh as the schedule of its backups allows. Any
other needs one no older than its policy promises to prove one. A policy counts at every stage; without one, production
fails where policies are required or where a restore is the only way back, and everything else passes with a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from deployments.rules.rollback_class import RollbackClass

PROVED_FROM = 2
"""Below this level a point was never restored, started and questioned."""
ONLY_A_RESTORE_UNDOES = frozenset({RollbackClass.R2, RollbackClass.R3})


@dataclass(frozen=True, slots=True)
class Allowed:
    """How old a verified point may be, and why; `within` None: no schedule says so any more."""

    within: timedelta | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Backups:
    """What is known of the backups of one environment: its newest verified point, and what its policy allows.

    `age` is None and `level` 0 where no point is verified; the limits are None where there is no policy.
    """

    environment: str
    is_production: bool
    sentence: str
    level: int = 0
    age: timedelta | None = None
    fresh: Allowed | None = None
    proved: Allowed | None = None

    def allowed_for(self, rollback_class: RollbackClass) -> Allowed | None:
        """Return the limit that holds for a change of this class; None where no policy sets one."""
        return self.fresh if rollback_class in ONLY_A_RESTORE_UNDOES else self.proved


@dataclass(frozen=True, slots=True)
class Answer:
    is_enough: bool
    sentence: str


def judge_backups(one: Backups, *, rollback_class: RollbackClass, is_policy_required: bool) -> Answer:
    """Tell whether what is verified is enough to let a change of this class start, and what to do where it is not."""
    is_only_way_back = rollback_class in ONLY_A_RESTORE_UNDOES
    allowed = one.allowed_for(rollback_class)
    if allowed is None:
        return _without_policy(one, is_needed=is_policy_required or is_only_way_back)
    if allowed.within is None:
        return Answer(False, f"{one.environment}: {allowed.sentence} Publish one whose schedule goes on.")
    if one.age is None or one.level < PROVED_FROM:
        return Answer(False, f"{one.environment}: {one.sentence} Take a backup, and hold a drill of it at L2 or above.")
    if one.age <= allowed.within:
        return Answer(True, f"{one.environment}: {one.sentence}")
    why = f"Only a restore undoes {rollback_class}. " if is_only_way_back else ""
    return Answer(
        False,
        f"{one.environment}: {one.sentence} That is too old. {why}{allowed.sentence} "
        "Take a backup, and hold a drill of it at L2 or above.",
    )


def _without_policy(one: Backups, *, is_needed: bool) -> Answer:
    if one.is_production and is_needed:
        return Answer(
            False,
            f"{one.environment}: nobody backs it up. A recovery owner writes a backup policy for it, takes a backup "
            "and holds a drill of it.",
        )
    return Answer(True, f"{one.environment}: nobody backs it up, and nothing asks for it here.")
