"""One table from a word of the vocabulary to its tone and icon, and the steps of a change.

A state shows as icon, word and colour. Red is for what went wrong, never for what is merely pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import template

register = template.Library()


@dataclass(frozen=True, slots=True)
class Look:
    """How a state looks. `tone` is `good`, `warn`, `bad`, `info`, `hold` or empty (neutral)."""

    tone: str
    icon: str


NEUTRAL = Look("", "circle-dashed")

CHANGE = {
    "draft": Look("", "pencil"),
    "submitted": Look("info", "send"),
    "assess": Look("info", "traffic-lights"),
    "authorize": Look("warn", "user-check"),
    "scheduled": Look("info", "calendar-event"),
    "implementing": Look("info", "progress"),
    "validating": Look("info", "activity"),
    "review": Look("warn", "eye"),
    "closed": Look("", "circle-check"),
    "rejected": Look("bad", "circle-x"),
    "expired": Look("warn", "clock-exclamation"),
    "canceled": Look("", "ban"),
    "on_hold": Look("hold", "player-pause"),
}
CLOSE_CODE = {
    "successful": Look("good", "circle-check"),
    "successful_with_issues": Look("warn", "alert-triangle"),
    "rolled_back": Look("warn", "arrow-back-up"),
    "failed": Look("bad", "circle-x"),
    "not_executed": Look("", "circle-minus"),
}
RUN = {
    "queued": Look("", "circle-dashed"),
    "waiting_for_window": Look("hold", "clock-pause"),
    "preflight": Look("info", "clipboard-check"),
    "running": Look("info", "progress"),
    "baking": Look("info", "hourglass"),
    "awaiting_promotion": Look("warn", "user-check"),
    "paused": Look("hold", "player-pause"),
    "aborting": Look("warn", "hand-stop"),
    "aborted": Look("warn", "hand-stop"),
    "rolling_back": Look("warn", "rotate-clockwise"),
    "rolled_back": Look("warn", "arrow-back-up"),
    "rollback_failed": Look("bad", "alert-circle"),
    "succeeded": Look("good", "circle-check"),
    "failed": Look("bad", "circle-x"),
}
TARGET = {
    "pending": Look("", "circle-dashed"),
    "updating": Look("info", "refresh"),
    "updated": Look("info", "circle-half-2"),
    "healthy": Look("good", "circle-check"),
    "deferred": Look("hold", "clock-pause"),
    "failed": Look("bad", "circle-x"),
    "reverted": Look("warn", "arrow-back-up"),
    "skipped": Look("", "player-track-next"),
}
GATE = {
    "pass": Look("good", "check"),
    "fail": Look("bad", "circle-x"),
    "inconclusive": Look("warn", "help"),
    "no_data": Look("warn", "database-off"),
    "error": Look("warn", "alert-triangle"),
    "waived": Look("hold", "ticket"),
    "stale": Look("warn", "clock-exclamation"),
}
VOTE = {
    "approve": Look("good", "circle-check"),
    "reject": Look("bad", "circle-x"),
    "abstain": Look("", "circle-minus"),
    "withdraw": Look("hold", "arrow-back-up"),
}
CALENDAR = {
    "window": Look("info", "calendar-event"),
    "open": Look("good", "calendar-event"),
    "blackout": Look("hold", "calendar-off"),
    "freeze": Look("info", "snowflake"),
    "stop_the_line": Look("bad", "hand-stop"),
    "overrun": Look("warn", "clock-exclamation"),
    "exemption": Look("hold", "ticket"),
    "conflict": Look("bad", "alert-triangle"),
}
RECOVERY = {
    "copied": Look("", "copy"),
    "broken": Look("bad", "alert-circle"),
    "removed": Look("", "trash"),
}
RESTORE = {
    "queued": Look("", "circle-dashed"),
    "provisioning": Look("info", "server"),
    "restoring": Look("info", "database"),
    "validating": Look("info", "activity"),
    "succeeded": Look("good", "circle-check"),
    "failed": Look("bad", "circle-x"),
    "canceled": Look("", "ban"),
}
DRILL = {
    "queued": Look("", "circle-dashed"),
    "provisioning": Look("info", "server"),
    "restoring": Look("info", "database"),
    "checking": Look("info", "clipboard-check"),
    "tearing_down": Look("info", "trash"),
    "passed": Look("good", "circle-check"),
    "failed": Look("bad", "circle-x"),
    "canceled": Look("", "ban"),
}
OTHER = {
    "complete": Look("good", "check"),
    "promoted": Look("good", "circle-check"),
    "verified": Look("good", "shield-check"),
    "ready": Look("good", "check"),
    "active": Look("good", "check"),
    "inactive": Look("", "circle-minus"),
    "planned": Look("", "calendar-event"),
    "refused": Look("bad", "ban"),
    "alarm": Look("bad", "alert-triangle"),
    "warning": Look("warn", "alert-triangle"),
    "low": Look("good", "arrow-down"),
    "medium": Look("warn", "equal"),
    "high": Look("bad", "arrow-up"),
}
LOOKS: Mapping[str, Look] = {
    **OTHER,
    **RECOVERY,
    **CALENDAR,
    **VOTE,
    **GATE,
    **RESTORE,
    **DRILL,
    **TARGET,
    **RUN,
    **CLOSE_CODE,
    **CHANGE,
}

STEPS = ("draft", "submitted", "assess", "authorize", "scheduled", "implementing", "validating", "review", "closed")


def look(state: object) -> Look:
    """Return the look of a state; a word outside the vocabulary is neutral."""
    return LOOKS.get(str(state), NEUTRAL)


@register.filter
def tone_class(state: object) -> str:
    """Return `is-good` and so on, for any component; empty where the state is neutral."""
    tone = look(state).tone
    return f"is-{tone}" if tone else ""


@register.filter
def state_icon(state: object) -> str:
    """Return the name of the state's icon."""
    return look(state).icon


@register.filter
def words(state: object) -> str:
    """Return the state as pages say it: underscores are spaces."""
    return str(state).replace("_", " ")


@dataclass(frozen=True, slots=True)
class Step:
    """One place of the stepper. On a phone only the present step and those marked near are shown."""

    state: str
    is_done: bool
    is_now: bool
    is_near: bool


@register.simple_tag
def change_steps(state: object, reached: object = "") -> tuple[Step, ...]:
    """Lay out the way of a change. From an aside state (`rejected`, …), `reached` names the step it left."""
    name, left = str(state), str(reached)
    if name in STEPS:
        now = STEPS.index(name)
        return tuple(
            Step(step, is_done=place < now or name == "closed", is_now=place == now, is_near=place == now + 1)
            for place, step in enumerate(STEPS)
        )
    passed = STEPS.index(left) + 1 if left in STEPS else 1
    done = tuple(
        Step(step, is_done=True, is_now=False, is_near=place == passed - 1) for place, step in enumerate(STEPS[:passed])
    )
    ahead = tuple(Step(step, is_done=False, is_now=False, is_near=False) for step in STEPS[passed:])
    return (*done, Step(name, is_done=False, is_now=True, is_near=False), *ahead)


@register.filter
def lookup(mapping: object, key: object) -> Any:
    """Return `mapping[key]`, or nothing where either is missing."""
    return mapping.get(key, "") if isinstance(mapping, Mapping) else ""
