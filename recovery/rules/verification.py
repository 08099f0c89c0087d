"""What checks prove. A level is never lowered in silence: a failed later check breaks the point, in words (BCK-5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

VERIFIED_FROM = 2
"""Below this level a point is only copied: it was never restored, started and questioned."""
LEVELS = range(1, 6)
OF_THE_COPY = 3
"""Above this level a check asks what runs on a copy: that it does not work is a finding, and no fault of the copy."""
ELSEWHERE = 5
"""At this level a check asks whether the environment comes up elsewhere."""


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
    """`is_finding`: something was found that must change. Trouble alone proves nothing."""

    is_passed: bool
    sentence: str
    is_finding: bool = False


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
    failed = [one.name for one in checks if not one.is_passed]
    if leftovers:
        return Verdict(False, f"It left something behind: {leftovers}", is_finding=True)
    if trouble:
        is_finding = bool(failed) and not is_sabotaged
        return Verdict(False, f"It could not be carried out: {trouble}", is_finding=is_finding)
    if not checks:
        return Verdict(False, "Nothing was checked.")
    if is_sabotaged:
        if failed:
            return Verdict(True, f"The sabotage was caught by: {', '.join(failed)}.")
        return Verdict(False, "The sabotage was not caught.", is_finding=True)
    if failed:
        return Verdict(False, f"These checks failed: {', '.join(failed)}.", is_finding=True)
    return Verdict(True, "The one check passed." if len(checks) == 1 else f"All {len(checks)} checks passed.")
