"""Named reads of changes: the list, one change, what waits for its owner. Every one narrows to a scope."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, Q, QuerySet

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.errors import NotFound
from changecontrol.lifecycles.change import CHANGE, ENDED, ChangeState
from changecontrol.models import AuditEvent, ChangeRequest, Environment, Plan, Revision
from changecontrol.queries import approvals
from changecontrol.queries.approvals import Docket
from changecontrol.queries.windows import TargetVerdict, judge_change
from changecontrol.rules.content import Content
from changecontrol.rules.roles import Ability

PAGE_SIZE = 50
PAGE_LIMIT = 200
ACTIVE_STATES = tuple(state for state in ChangeState if state not in ENDED)

_SLUGS = Environment.objects.filter(changes=OuterRef("pk")).order_by("slug").values("slug")

HUMAN_VERBS: dict[str, Ability] = {
    "submit": Ability.CHANGE_SUBMIT,
    "resubmit": Ability.CHANGE_SUBMIT,
    "revise": Ability.CHANGE_EDIT,
    "hold": Ability.CHANGE_HOLD,
    "release": Ability.CHANGE_HOLD,
    "schedule": Ability.CHANGE_SCHEDULE,
    "cancel": Ability.CHANGE_CANCEL,
    "close": Ability.CHANGE_CLOSE,
}
"""The verbs of the lifecycle that people give, and the ability each needs. Votes bring about the others."""


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """What a list shows; what is empty does not narrow. People are usernames, environments slugs."""

    text: str = ""
    states: tuple[str, ...] = ()
    tenant: str = ""
    environment: str = ""
    requester: str = ""
    assignee: str = ""
    stage: str = ""
    tier: int | None = None
    kind: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """A page of a list, newest first. `newer` and `older` are keys for `after` and `before`, or None at the ends."""

    rows: tuple[ChangeRequest, ...]
    newer: int | None
    older: int | None


@dataclass(frozen=True, slots=True)
class ChangeDetail:
    """What the page of a change begins with: `dockets` are its rounds, oldest first, `verbs` what one may do."""

    change: ChangeRequest
    content: Content
    environments: tuple[Environment, ...]
    revisions: tuple[Revision, ...]
    plans: tuple[Plan, ...]
    dockets: tuple[Docket, ...]
    windows: tuple[TargetVerdict, ...]
    abilities: frozenset[Ability]
    verbs: tuple[str, ...]


def changes_of(scope: Scope) -> QuerySet[ChangeRequest]:
    """Return the changes in sight with what every list says of one."""
    return _in_sight(scope).prefetch_related("environments")


def _in_sight(scope: Scope) -> QuerySet[ChangeRequest]:
    return access.visible(scope, ChangeRequest.objects.select_related("tenant", "requester", "assignee", "revision"))


def environment_slugs(change: ChangeRequest) -> list[str]:
    """Return the slugs of a change's environments: as its page read them with it, or else asked for now."""
    known: list[str] | None = getattr(change, "_slugs", None)
    return [one.slug for one in change.environments.all()] if known is None else known


def changes_page(
    scope: Scope,
    *,
    wanted: ChangeFilter = ChangeFilter(),
    before: int | None = None,
    after: int | None = None,
    is_last: bool = False,
    size: int = PAGE_SIZE,
) -> ChangePage:
    """Return one page by key: what is older than `before`, newer than `after`, or the very end. One statement.

    `environment_slugs` tells the environments of each row. No page costs more than another: none counts or skips rows.
    """
    size = max(1, min(size, PAGE_LIMIT))
    rows = _narrow(_in_sight(scope), wanted).annotate(_slugs=ArraySubquery(_SLUGS))
    is_backward = after is not None or is_last
    if before is not None:
        rows = rows.filter(pk__lt=before)
    if after is not None:
        rows = rows.filter(pk__gt=after)
    found = list(rows.order_by("pk" if is_backward else "-pk")[: size + 1])
    has_more, found = len(found) > size, found[:size]
    if is_backward:
        found.reverse()
    if not found:
        return ChangePage(rows=(), newer=None, older=None)
    has_newer = has_more if is_backward else before is not None
    has_older = after is not None if is_backward else has_more
    return ChangePage(
        rows=tuple(found),
        newer=found[0].pk if has_newer else None,
        older=found[-1].pk if has_older else None,
    )


def change_by_number(scope: Scope, number: str) -> ChangeRequest:
    """Return a change in sight by its number. Raises `NotFound`, alike for a hidden one and for none."""
    digits = number.upper().removeprefix("CHG-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 18:
        rows = ChangeRequest.objects.select_related("tenant", "requester", "assignee", "revision", "plan")
        change = access.visible(scope, rows).prefetch_related("environments").filter(pk=int(digits)).first()
        if change is not None and number.upper() == change.number:
            return change
    raise NotFound("There is no such change.")


def change_detail(scope: Scope, number: str, *, at: datetime) -> ChangeDetail:
    """Return one change in sight with its rounds, plans and what the person may do. Raises `NotFound`."""
    change = change_by_number(scope, number)
    abilities = access.abilities_for(scope, change)
    content = Content.from_json(change.revision.content if change.revision else change.draft)
    plans = Plan.objects.filter(revision__change=change).select_related("revision").order_by("pk")
    return ChangeDetail(
        change=change,
        content=content,
        environments=tuple(change.environments.select_related("cluster", "source").prefetch_related("cohorts")),
        revisions=tuple(change.revisions.select_related("author")),
        plans=tuple(plans),
        dockets=approvals.dockets_of(change, at=at),
        windows=judge_change(change, at=change.planned_start_at or at, content=content),
        abilities=abilities,
        verbs=verbs_for(change, abilities),
    )


def verbs_for(change: ChangeRequest, abilities: frozenset[Ability]) -> tuple[str, ...]:
    """List the verbs that the state and the person's abilities allow, in the order of the table."""
    return tuple(verb for verb in CHANGE.verbs(change.state) if HUMAN_VERBS.get(verb) in abilities)


def timeline_of(change: ChangeRequest) -> QuerySet[AuditEvent]:
    """Return the events of a change that the caller has found in sight, oldest first."""
    return AuditEvent.objects.filter(change=change).select_related("actor").order_by("pk")


def drafts_of(scope: Scope, *, person_id: int) -> QuerySet[ChangeRequest]:
    """Return what waits for its requester or owner: drafts, and what came back."""
    mine = Q(requester=person_id) | Q(assignee=person_id)
    states = [ChangeState.DRAFT, ChangeState.REJECTED, ChangeState.EXPIRED]
    return changes_of(scope).filter(mine, state__in=states).order_by("-updated_at")


def changes_to_schedule(scope: Scope) -> QuerySet[ChangeRequest]:
    """Return what is approved and waits for a new start (APR-17)."""
    return changes_of(scope).filter(state=ChangeState.AUTHORIZE, authorized_at__isnull=False).order_by("authorized_at")


def _narrow(rows: QuerySet[ChangeRequest], wanted: ChangeFilter) -> QuerySet[ChangeRequest]:
    exact = {
        "state__in": wanted.states,
        "tenant__slug": wanted.tenant,
        "environments__slug": wanted.environment,
        "requester__username": wanted.requester,
        "assignee__username": wanted.assignee,
        "stage": wanted.stage,
        "kind": wanted.kind,
        "type": wanted.type,
    }
    rows = rows.filter(**{key: value for key, value in exact.items() if value})
    if wanted.tier is not None:
        rows = rows.filter(tier=wanted.tier)
    text = wanted.text.strip()
    if "\x00" in text:
        return rows.none()  # PostgreSQL knows no such text, so nothing is called that
    if text:
        digits = text.upper().removeprefix("CHG-").lstrip("0")
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= 18
        named = Q(title__icontains=text)
        rows = rows.filter(named | Q(pk=int(digits)) if is_number else named)
    return rows
