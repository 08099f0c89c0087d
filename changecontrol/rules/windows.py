"""May work go on at this target now? Freeze beats deny beats allow; where nothing matches, the tier decides.

A target that some allow window covers is closed outside of those. Nothing here reads a clock: `at` is the database's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from changecontrol.rules.intervals import FOREVER, Interval, clip, subtract, union
from changecontrol.rules.recurrence import Recurrence, occurrences

CLOSED_TIERS = frozenset({0, 1})
"""Where no window covers a target, these are closed. So is a target whose tier nobody stated."""
HORIZONS = (timedelta(days=8), timedelta(days=62), timedelta(days=400))
"""How far ahead an opening or an end is looked for, in growing steps."""


class Effect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class WindowVerdict(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    FROZEN = "frozen"


class Purpose(StrEnum):
    """Why leave is asked. Pause, abort, rollback and a restore during an incident are safety actions."""

    WORK = "work"
    SAFETY = "safety"


class Moment(StrEnum):
    """When a window is judged."""

    SUBMIT = "submit"
    SCHEDULE = "schedule"
    START = "start"
    WAVE = "wave"


class OnClosing(StrEnum):
    """What a run does when its window closes; part of the approved plan."""

    FINISH_WAVE_AND_PAUSE = "finish_wave_and_pause"
    COMPLETE_WITHIN_OVERRUN = "complete_within_overrun"
    PAUSE_NOW = "pause_now"
    ROLL_BACK = "roll_back"


class ClosingDecision(StrEnum):
    GO_ON = "go_on"
    PAUSE = "pause"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class WindowTarget:
    """What a window judges. `zone` is the IANA zone of its stores."""

    key: str
    tenant: str
    environment_stage: str
    environment: str
    cluster: str
    cohort: str
    tier: int | None
    zone: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a window or freeze is about. An empty set means all."""

    tenants: frozenset[str] = frozenset()
    environment_stages: frozenset[str] = frozenset()
    environments: frozenset[str] = frozenset()
    clusters: frozenset[str] = frozenset()
    cohorts: frozenset[str] = frozenset()

    def covers(self, target: WindowTarget) -> bool:
        return (
            (not self.tenants or target.tenant in self.tenants)
            and (not self.environment_stages or target.environment_stage in self.environment_stages)
            and (not self.environments or target.environment in self.environments)
            and (not self.clusters or target.cluster in self.clusters)
            and (not self.cohorts or target.cohort in self.cohorts)
        )


@dataclass(frozen=True, slots=True)
class Window:
    name: str
    effect: Effect
    recurrence: Recurrence
    scope: Scope = Scope()


@dataclass(frozen=True, slots=True)
class Freeze:
    """Holds everything in scope from `starts_at` until it ends or, without an end, until it is lifted."""

    name: str
    starts_at: datetime
    ends_at: datetime | None = None
    scope: Scope = Scope()

    @property
    def interval(self) -> Interval:
        return Interval(self.starts_at, self.ends_at or FOREVER)


@dataclass(frozen=True, slots=True)
class Judgement:
    """`until` is the end of an open time, `next_opening` the next open time; None where 400 days hold none."""

    verdict: WindowVerdict
    reason: str
    until: datetime | None = None
    next_opening: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.verdict is WindowVerdict.OPEN


@dataclass(frozen=True, slots=True)
class Leave:
    """Whether an action may go ahead. `is_override` where only its being a safety action let it; record that."""

    is_given: bool
    sentence: str
    is_override: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    fits: bool
    needed_for: timedelta
    sentence: str


def judge(windows: Iterable[Window], *, freezes: Iterable[Freeze], target: WindowTarget, at: datetime) -> Judgement:
    """Judge one target at one moment."""
    return judge_targets(windows, freezes=freezes, targets=[target], at=at)[target.key]


def judge_targets(
    windows: Iterable[Window], *, freezes: Iterable[Freeze], targets: Iterable[WindowTarget], at: datetime
) -> dict[str, Judgement]:
    """Judge many targets at one moment, each in its own zone. What targets have in common is computed once."""
    calendar = _Calendar(tuple(windows), tuple(freezes), at)
    return {target.key: calendar.judge(target) for target in targets}


def ask_leave(judgement: Judgement, *, purpose: Purpose, moment: Moment = Moment.START) -> Leave:
    """Turn a judgement into leave to act. No window or freeze ever blocks a safety action.

    At submission a closed window is only said: a window may come before the start. Later it stops.
    """
    if judgement.is_open or moment is Moment.SUBMIT:
        return Leave(True, judgement.reason)
    if purpose is Purpose.SAFETY:
        return Leave(True, f"{judgement.reason} A safety action is never blocked.", is_override=True)
    return Leave(False, judgement.reason)


def fit(judgement: Judgement, *, at: datetime, run_for: timedelta, bake_for: timedelta, rollback_for: timedelta) -> Fit:
    """Tell whether run, bake and the worst rollback end before the window does."""
    needed = run_for + bake_for + rollback_for
    if not judgement.is_open:
        return Fit(False, needed, judgement.reason)
    if judgement.until is None or at + needed <= judgement.until:
        return Fit(True, needed, f"Run, bake and rollback need {_minutes(needed)} and fit.")
    left = judgement.until - at
    return Fit(
        False, needed, f"Run, bake and rollback need {_minutes(needed)}; the window is open for {_minutes(left)}."
    )


def decide_on_closing(
    choice: OnClosing, *, closed_for: timedelta, overrun_for: timedelta, open_wave_count: int
) -> ClosingDecision:
    """Decide what a run does whose window closed `closed_for` ago."""
    if choice is OnClosing.ROLL_BACK:
        return ClosingDecision.ROLL_BACK
    if choice is OnClosing.COMPLETE_WITHIN_OVERRUN and closed_for < overrun_for:
        return ClosingDecision.GO_ON
    if choice is OnClosing.FINISH_WAVE_AND_PAUSE and open_wave_count:
        return ClosingDecision.GO_ON
    return ClosingDecision.PAUSE


class _Calendar:
    """Remembers, for one moment, the openings of each window and zone and the judgement of each kind of target."""

    def __init__(self, windows: tuple[Window, ...], freezes: tuple[Freeze, ...], at: datetime) -> None:
        self._windows = windows
        self._freezes = freezes
        self._at = at
        self._openings: dict[tuple[int, str, timedelta], list[Interval]] = {}
        self._unions: dict[tuple[tuple[int, ...], str, timedelta], list[Interval]] = {}
        self._judged: dict[tuple[tuple[int, ...], tuple[int, ...], str, bool], Judgement] = {}

    def judge(self, target: WindowTarget) -> Judgement:
        windows = tuple(index for index, one in enumerate(self._windows) if one.scope.covers(target))
        freezes = tuple(index for index, one in enumerate(self._freezes) if one.scope.covers(target))
        is_closed_tier = target.tier is None or target.tier in CLOSED_TIERS
        kind = (windows, freezes, target.zone, is_closed_tier)
        if kind not in self._judged:
            self._judged[kind] = self._decide(windows, freezes, target)
        return self._judged[kind]

    def _decide(self, windows: Sequence[int], freezes: Sequence[int], target: WindowTarget) -> Judgement:
        allowing = [index for index in windows if self._windows[index].effect is Effect.ALLOW]
        denying = [index for index in windows if self._windows[index].effect is Effect.DENY]
        frozen = union(self._freezes[index].interval for index in freezes)
        for horizon in HORIZONS:
            frame = Interval(self._at, self._at + horizon)
            denied = self._merged(denying, target.zone, horizon)
            allowed = self._allowed(allowing, target, horizon)
            free = subtract(subtract(clip(allowed, frame), denied), frozen)
            if free and (free[0].start > self._at or free[0].end < frame.end):
                break
        opening = free[0] if free else None
        if opening is not None and opening.holds(self._at):
            until = opening.end if opening.end < frame.end else None
            return Judgement(WindowVerdict.OPEN, self._why_open(allowing, target, until), until=until)
        verdict, why = self._why_closed(freezes, denying, allowing, target)
        following = opening.start if opening else None
        when = f"It opens {_clock(following, target)}." if following else "No opening is in sight."
        return Judgement(verdict, f"{why} {when}", next_opening=following)

    def _allowed(self, allowing: Sequence[int], target: WindowTarget, horizon: timedelta) -> list[Interval]:
        if allowing:
            return self._merged(allowing, target.zone, horizon)
        is_closed = target.tier is None or target.tier in CLOSED_TIERS
        return [] if is_closed else [Interval(self._at, self._at + horizon)]

    def _why_open(self, allowing: Sequence[int], target: WindowTarget, until: datetime | None) -> str:
        name = next((self._windows[index].name for index in allowing if self._runs(index, target.zone)), "")
        end = f" until {_clock(until, target)}" if until else ""
        if name:
            return f"Open{end}: window “{name}”."
        return f"Open{end}: no window covers it, and tier {target.tier} is open by default."

    def _why_closed(
        self, freezes: Sequence[int], denying: Sequence[int], allowing: Sequence[int], target: WindowTarget
    ) -> tuple[WindowVerdict, str]:
        for index in freezes:
            if self._freezes[index].interval.holds(self._at):
                return WindowVerdict.FROZEN, f"Frozen: “{self._freezes[index].name}”."
        for index in denying:
            if self._runs(index, target.zone):
                return WindowVerdict.CLOSED, f"Closed: blackout “{self._windows[index].name}”."
        if allowing:
            return WindowVerdict.CLOSED, "Closed: outside its change windows."
        tier = "an unknown tier" if target.tier is None else f"tier {target.tier}"
        return WindowVerdict.CLOSED, f"Closed: no window covers it, and {tier} is closed by default."

    def _runs(self, index: int, zone: str) -> bool:
        return any(one.holds(self._at) for one in self._of(index, zone, HORIZONS[0]))

    def _merged(self, indices: Sequence[int], zone: str, horizon: timedelta) -> list[Interval]:
        key = (tuple(indices), zone, horizon)
        if key not in self._unions:
            self._unions[key] = union(one for index in indices for one in self._of(index, zone, horizon))
        return self._unions[key]

    def _of(self, index: int, zone: str, horizon: timedelta) -> list[Interval]:
        recurrence = self._windows[index].recurrence
        key = (index, recurrence.zone or zone, horizon)
        if key not in self._openings:
            frame = Interval(self._at, self._at + horizon)
            self._openings[key] = occurrences(recurrence, zone=zone, frame=frame)
        return self._openings[key]


def _clock(at: datetime, target: WindowTarget) -> str:
    return f"{at.astimezone(ZoneInfo(target.zone)):%a %d %b %H:%M %Z}"


def _minutes(length: timedelta) -> str:
    return f"{round(length.total_seconds() / 60)} min"
