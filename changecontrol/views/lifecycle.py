"""What this person may do with a change now, and what each step brings about. The words of every button are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.forms.lifecycle import CloseForm, HandOverForm, ScheduleForm
from changecontrol.lifecycles.change import ENDED, ChangeState
from changecontrol.models import ChangeRequest, User
from changecontrol.queries.changes import verbs_for
from changecontrol.queries.runs import has_drifted
from changecontrol.rules.roles import Ability, roles_with
from changecontrol.views import drafts

HAND_OVER_ENDS = frozenset(ENDED)
SHOWN_GAPS = 3
STARTABLE = frozenset({ChangeState.SCHEDULED, ChangeState.IMPLEMENTING})


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
    version: int | None = None
    """Which version of the draft the person saw, posted with a button."""

    @property
    def id(self) -> str:
        return f"do-{self.verb}"


def steps_for(change: ChangeRequest, *, scope: Scope) -> list[Step]:
    """Return what the state and the person's roles allow, the way forward first."""
    abilities = access.abilities_for(scope, change)
    verbs = verbs_for(change, abilities)
    found: list[Step | None] = [*_submit(change)] if "submit" in verbs else []
    found += [_STEPS[verb](change) for verb in ("resubmit", "revise", "schedule", "close") if verb in verbs]
    if Ability.CHANGE_EDIT in abilities and change.state not in HAND_OVER_ENDS:
        found.append(_hand_over(change))
    found += [_STEPS[verb](change) for verb in ("release", "hold", "cancel") if verb in verbs]
    return [one for one in found if one is not None]


def way_on(change: ChangeRequest) -> str:
    """Say what to press where the plan has drifted (APR-9); empty where it has not."""
    if change.state not in STARTABLE or not has_drifted(change):
        return ""
    if change.state == ChangeState.SCHEDULED:
        return (
            "Nothing was touched. Whoever may edit it presses “Write a new revision” and then “Submit this revision”, "
            "as it is or changed: it is judged and approved anew, and the paused run ends by itself."
        )
    return (
        "It had begun. On the run's page press “Roll back to the old version”, "
        "or “Abort” to leave what is done; then file what is left as a new change."
    )


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


def _submit(change: ChangeRequest) -> list[Step]:
    """Return the way on from a draft: submitting it where nothing is missing, else writing on, with what is missing."""
    missing = drafts.gaps(change)
    write = Step(
        "write",
        "link",
        "Go on writing",
        "pencil",
        f"{reverse('change-edit', args=[change.number])}?step={drafts.step_with(change, missing)}",
        text=f"{_still(missing)} Nothing is asked of anybody until it is submitted." if missing else "",
        is_primary=bool(missing),
    )
    if missing:
        return [write]
    submit = Step(
        "submit",
        "button",
        "Submit for assessment",
        "send",
        url_of(change, "submit"),
        text="Next the gates judge it, then its approvers are asked about exactly that plan. "
        "From then on a correction is a new revision.",
        is_primary=True,
        version=change.draft_version,
    )
    return [submit, write]


def _still(missing: Mapping[str, Sequence[str]]) -> str:
    sentences = [one for found in missing.values() for one in found]
    rest = len(sentences) - SHOWN_GAPS
    more = f" And {rest} more." if rest > 0 else ""
    return f"{' '.join(sentences[:SHOWN_GAPS])}{more}"


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
    is_drifted = change.state == ChangeState.SCHEDULED and has_drifted(change)
    return Step(
        "revise",
        "link",
        "Write a new revision",
        "pencil",
        f"{reverse('change-edit', args=[change.number])}?step=all",
        text="Submit it again, as it is or changed: it is judged and approved anew, against what runs there now."
        if is_drifted
        else "It is resolved and judged again. Votes stay only where the plan stays the same.",
        is_primary=is_drifted,
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
    "resubmit": _resubmit,
    "revise": _revise,
    "schedule": _schedule,
    "close": _close,
    "hold": _hold,
    "release": _release,
    "cancel": _cancel,
}
