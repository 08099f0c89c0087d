"""What checks prove. A level is never lowered in silence: a failed later check breaks the point, in words (BCK-5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

VERIFIED_FROM = 2
"""Below this level a point is only copied: it was never restored, started and questioned."""
LEVELS = range(1, 6)


@dataclass(frozen=True, slots=True)
class Checked:
    """One verification of a point, in the order they were made."""

    level: int
    is_passed: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What a point is worth: the level it is proved to have reached, and the one that failed; 0 where there is none."""

    level: int = 0
    failed_level: int = 0

    @property
    def is_broken(self) -> bool:
        return self.failed_level > 0

    @property
    def is_verified(self) -> bool:
        return not self.is_broken and self.level >= VERIFIED_FROM


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of a drill."""

    name: str
    is_passed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    is_passed: bool
    sentence: str


def stand(checks: Iterable[Checked]) -> Standing:
    """Follow a point's checks. One that failed is mended only by a later pass of its level or a higher one."""
    standing = Standing()
    for one in checks:
        if not one.is_passed:
            standing = Standing(min(standing.level, one.level - 1), max(standing.failed_level, one.level))
        elif one.level >= standing.failed_level:
            standing = Standing(max(standing.level, one.level))
    return standing


def judge_drill(checks: Sequence[CheckResult], *, trouble: str, leftovers: str, is_sabotaged: bool) -> Verdict:
    """Give a drill its verdict. `trouble` is why it could not go on, `leftovers` what it could not tear down.

    Of a sabotaged copy the drill passes where a check caught it (BCK-9).
    """
    if leftovers:
        return Verdict(False, f"It left something behind: {leftovers}")
    if trouble:
        return Verdict(False, f"It could not be carried out: {trouble}")
    if not checks:
        return Verdict(False, "Nothing was checked.")
    failed = [one.name for one in checks if not one.is_passed]
    if is_sabotaged:
        if failed:
            return Verdict(True, f"The sabotage was caught by: {', '.join(failed)}.")
        return Verdict(False, "The sabotage was not caught.")
    if failed:
        return Verdict(False, f"These checks failed: {', '.join(failed)}.")
    return Verdict(True, f"All {len(checks)} checks passed.")
