"""What this person may do with a change now, and what each step brings about. The words of every button are here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.forms.lifecycle import CloseForm, HandOverForm, ScheduleForm
from changecontrol.lifecycles.change import ENDED, ChangeState
from changecontrol.models import ChangeRequest, User
from changecontrol.queries.changes import verbs_for
from changecontrol.rules.roles import Ability, roles_with

HAND_OVER_ENDS = frozenset(ENDED)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that may be done. `kind` is `link`, `button`, `confirm` (asks for a reason) or `form`."""

    verb: str
    kind: str
    label: str
    icon: str
    url: str
    title: str = ""
    text: str = ""
    reason_label: str = "Why"
    is_primary: bool = False
    is_danger: bool = False
    is_optional: bool = False
    form: Any = None

    @property
    def id(self) -> str:
        return f"do-{self.verb}"


def steps_for(change: ChangeRequest, *, scope: Scope) -> list[Step]:
    """Return what the state and the person's roles allow, the way forward first."""
    abilities = access.abilities_for(scope, change)
    verbs = verbs_for(change, abilities)
    found = [_STEPS[verb](change) for verb in ("submit", "resubmit", "revise", "schedule", "close") if verb in verbs]
    found = [one for one in found if one is not None]
    if Ability.CHANGE_EDIT in abilities and change.state not in HAND_OVER_ENDS:
        found.append(_hand_over(change))
    found += [_STEPS[verb](change) for verb in ("release", "hold", "cancel") if verb in verbs]
    return [one for one in found if one is not None]


def url_of(change: ChangeRequest, verb: str) -> str:
    return reverse("change-action", args=[change.number, verb])


def people_for(change: ChangeRequest) -> list[User]:
    """Return who may own a change: whoever may edit it."""
    ids = [one.pk for one in change.environments.all()]
    at = clock.now()
    book = access.holder_book(tenant_ids=[change.tenant_id], environment_ids=ids, at=at)
    roles = roles_with(Ability.CHANGE_EDIT)
    keys = frozenset().union(
        *(book.holding(role, tenant_id=change.tenant_id, environment_ids=ids) for role in roles)
    ) - {change.assignee_id}
    return sorted((book.people[pk] for pk in keys), key=str)


def _submit(change: ChangeRequest) -> Step:
    return Step(
        "submit",
        "link",
        "Go on writing",
        "pencil",
        f"{reverse('change-edit', args=[change.number])}?step={_first_gap(change)}",
        text="Nothing is asked of anybody until it is submitted.",
        is_primary=True,
    )


def _first_gap(change: ChangeRequest) -> str:
    """Return the first step with an answer missing, where writing goes on."""
    given = change.draft
    if not given.get("reason") or not given.get("security_impact"):
        return "what"
    if not given.get("environments"):
        return "where"
    if not given.get("revision_name") and not given.get("commit"):
        return "commit"
    if not given.get("risk_answers") or not given.get("rollback_plan") or not given.get("test_evidence"):
        return "how" if not given.get("waves") and not given.get("risk_answers") else "risk"
    return "all"


def _resubmit(change: ChangeRequest) -> Step:
    return Step(
        "resubmit",
        "link",
        "Write the next revision",
        "pencil",
        f"{reverse('change-edit', args=[change.number])}?step=all",
        text="It is judged and approved anew, in the next round.",
        is_primary=True,
    )


def _revise(change: ChangeRequest) -> Step:
    return Step(
        "revise",
        "link",
        "Write a new revision",
        "pencil",
        f"{reverse('change-edit', args=[change.number])}?step=all",
        text="It is resolved and judged again. Votes stay only where the plan stays the same.",
    )


def _schedule(change: ChangeRequest) -> Step | None:
    if change.state == ChangeState.AUTHORIZE and change.authorized_at is None:
        return None
    is_needed = change.state == ChangeState.AUTHORIZE
    return Step(
        "schedule",
        "form",
        "Choose the start" if is_needed else "Change the start",
        "calendar-event",
        url_of(change, "schedule"),
        title="When does it start?",
        text="Approved, but not scheduled yet." if is_needed else "The window is judged again for the new start.",
        is_primary=is_needed,
        form=ScheduleForm(initial={"planned_start_at": change.planned_start_at}, auto_id="do-schedule-%s"),
    )


def _close(change: ChangeRequest) -> Step:
    proposed = change.close_code or "successful"
    return Step(
        "close",
        "form",
        "Close this change",
        "circle-check",
        url_of(change, "close"),
        title="How did it end?",
        text="Closing ends the review. The evidence stays as it is.",
        is_primary=True,
        form=CloseForm(initial={"close_code": proposed, "note": change.close_note}, auto_id="do-close-%s"),
    )


def _hand_over(change: ChangeRequest) -> Step | None:
    people = people_for(change)
    if not people:
        return None
    return Step(
        "hand-over",
        "form",
        "Hand over",
        "user-plus",
        url_of(change, "hand-over"),
        title="Who owns it from now on?",
        text="Whoever ever owned a change can never approve it.",
        form=HandOverForm(people=people, auto_id="do-hand-over-%s"),
    )


def _hold(change: ChangeRequest) -> Step:
    return Step(
        "hold",
        "confirm",
        "Put on hold",
        "player-pause",
        url_of(change, "hold"),
        title=f"Put {change.number} on hold?",
        text="Nothing is asked or started until somebody ends the hold; then it is judged again.",
    )


def _release(change: ChangeRequest) -> Step:
    return Step(
        "release",
        "button",
        "End the hold",
        "player-play",
        url_of(change, "release"),
        text="It is resolved and judged again. Votes stay where the plan is the same.",
        is_primary=True,
    )


def _cancel(change: ChangeRequest) -> Step:
    is_draft = change.state == ChangeState.DRAFT
    return Step(
        "cancel",
        "confirm",
        "Cancel this change",
        "ban",
        url_of(change, "cancel"),
        title=f"Cancel {change.number}?",
        text="It ends here and is never carried out. Its number and its history stay.",
        is_danger=True,
        is_optional=is_draft,
    )


_STEPS = {
    "submit": _submit,
    "resubmit": _resubmit,
    "revise": _revise,
    "schedule": _schedule,
    "close": _close,
    "hold": _hold,
    "release": _release,
    "cancel": _cancel,
}
