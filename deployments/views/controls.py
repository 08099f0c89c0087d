"""What a person may ask of a run now: each control with its consequence and reason, or why it is not offered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.actions.runs import ABILITY_OF, ASKED, REASON_REQUIRED
from changecontrol.lifecycles.change import ChangeKind
from changecontrol.lifecycles.run import ENDED, HUMAN_VERBS, RUN, SAFETY_VERBS, PauseReason, RunState, TargetState
from changecontrol.models import Run, RunTarget
from changecontrol.templatetags.times import exact_moment, second_time
from changecontrol.views.wording import counted, words
from recovery.queries.cut_overs import return_of

LABELS = {
    "start": ("Start now", "player-play"),
    "pause": ("Pause", "player-pause"),
    "resume": ("Resume", "player-play"),
    "promote": ("Promote the next wave", "player-track-next"),
    "skip": ("Skip the rest of the bake", "player-track-next"),
    "abort": ("Abort: stop here, leave as is", "hand-stop"),
    "roll_back": ("Roll back to the old version", "arrow-back-up"),
}
NOT_NOW = {
    "start": "The run has begun.",
    "resume": "The run is not paused.",
    "promote": "No wave waits for promotion.",
    "skip": "No wave is baking.",
}
NEW = frozenset({TargetState.HEALTHY, TargetState.UPDATED})
PRIMARY = {
    RunState.QUEUED: "start",
    RunState.WAITING_FOR_WINDOW: "start",
    RunState.PAUSED: "resume",
    RunState.AWAITING_PROMOTION: "promote",
}

REVISE_FIRST = frozenset({PauseReason.PLAN_DRIFT})
"""Pauses that resuming as it is does not end: what was approved is no longer what would be done."""


@dataclass(frozen=True, slots=True)
class Controls:
    """`key` names what is offered: while it stays the same, the panel need not be drawn again."""

    rows: tuple[dict[str, Any], ...]
    note: str
    pending: str
    key: str


def controls_of(run: Run, targets: Sequence[RunTarget], *, scope: Scope, rollback_class: str) -> Controls:
    """Return the controls of a run for one person, in the order of the vocabulary."""
    held = access.abilities_for(scope, run)
    state = RunState(run.state)
    pending = _pending(run)
    lost = _lost_by_going_back(run)
    key = f"{state}-{run.wave}-{run.intent}{'-lost' if lost else ''}"
    if not any(ABILITY_OF[verb] in held for verb in HUMAN_VERBS):
        return Controls((), "You may watch this run. " + access.why_not(scope, ABILITY_OF["pause"]), pending, key)
    rows = tuple(
        _control(run, verb, targets, state=state, refusal=refusal, rollback_class=rollback_class, lost=lost)
        for verb in HUMAN_VERBS
        if _is_shown(verb, state)
        for refusal in [_refusal(verb, run, held=held, scope=scope)]
    )
    note = "" if rows else "The run has ended. Nothing more can be asked of it."
    return Controls(rows, note, pending, key)


def _is_shown(verb: str, state: RunState) -> bool:
    """Leave out what cannot come again: starting what began, steering what ended or goes back."""
    if RUN.allows(verb, state):
        return True
    if state in ENDED or state in {RunState.ROLLING_BACK, RunState.ABORTING}:
        return False
    return verb in {"resume", "promote"}


def _refusal(verb: str, run: Run, *, held: frozenset[Any], scope: Scope) -> str:
    if not RUN.allows(verb, RunState(run.state)):
        return NOT_NOW.get(verb, "Not in this state.")
    if ABILITY_OF[verb] not in held:
        return access.why_not(scope, ABILITY_OF[verb])
    if run.intent and not (verb in SAFETY_VERBS and verb != run.intent):
        return f"It has already been asked {ASKED[run.intent]}."
    return ""


def _control(
    run: Run, verb: str, targets: Sequence[RunTarget], *, state: RunState, refusal: str, rollback_class: str, lost: str
) -> dict[str, Any]:
    label, icon = LABELS[verb]
    strong, consequence = _consequence(verb, run, targets, rollback_class=rollback_class, lost=lost)
    needs_reason = verb in REASON_REQUIRED
    return {
        "verb": verb,
        "label": label,
        "icon": icon,
        "url": reverse("run-verb", args=[run.pk, verb.replace("_", "-")]),
        "refusal": f"{words(verb).capitalize()}: {refusal[0].lower()}{refusal[1:]}" if refusal else "",
        "is_primary": not refusal and PRIMARY.get(state, "pause") == verb and run.pause_reason not in REVISE_FIRST,
        "is_undo": verb == "roll_back",
        "reason_label": f"Why you {words(verb)}" if needs_reason else "",
        "confirm": {"abort": f"Abort run {run.pk}", "roll_back": "Roll back", "skip": "Skip the bake"}.get(verb, label),
        "strong": strong,
        "consequence": consequence,
    }


def _lost_by_going_back(run: Run) -> str:
    """Say which database a rollback of a restore into production gives back, and what is not in it; else nothing."""
    back = return_of(run) if run.change.kind == ChangeKind.RESTORE else None
    if back is None or back.in_place_at is None:
        return ""
    return (
        f" “{back.old_database}” is the database again, as it was left at {exact_moment(back.in_place_at)}: "
        f"what was written since is in “{back.target_database}” alone, which stays."
    )


def _consequence(
    verb: str, run: Run, targets: Sequence[RunTarget], *, rollback_class: str, lost: str
) -> tuple[str, str]:
    new = sum(1 for one in targets if one.state in NEW)
    working = sum(1 for one in targets if one.state == TargetState.UPDATING)
    old = len(targets) - new - working
    touched = sum(1 for one in targets if one.applied or one.state in NEW or one.state == TargetState.UPDATING)
    if verb == "abort":
        return (
            "Puts nothing back.",
            f"{counted(new, 'target')} {_stay(new)} on the new version, {working} in work stop where they are, "
            f"{old} {_stay(old)} as they were. You decide next what to do.",
        )
    if verb == "roll_back":
        where = (
            f"on up to {counted(touched, 'target')}, in the cluster and in Git."
            if touched
            else "where it was replaced."
        )
        kind = f" Rollback class {rollback_class}." if rollback_class else ""
        return "Puts the old version back", f"{where}{lost}{kind} A safety action: no window or freeze blocks it."
    return "", {
        "start": "Window, freeze, approval and plan are checked again first.",
        "pause": "Targets in work finish; nothing new starts. Indicators go on and can still stop the run.",
        "resume": "Window, freeze and plan are checked again; what failed or was out of reach gets another try.",
        "promote": f"Wave {run.wave + 1} opens.",
        "skip": "The wave counts as baked; indicators have no more time to speak.",
    }[verb]


def _stay(count: int) -> str:
    return "stays" if count == 1 else "stay"


def _pending(run: Run) -> str:
    if not run.intent:
        return ""
    at = f" at {second_time(run.intent_at)}" if run.intent_at else ""
    return f"{run.intent_by or 'Somebody'} asked {ASKED[run.intent]}{at}. The next tick obeys."
