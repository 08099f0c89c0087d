"""Letting go what a policy no longer keeps, by somebody who has seen what goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.errors import Conflict
from changecontrol.events import Tag
from changecontrol.rules.counting import counted
from changecontrol.rules.roles import Ability
from recovery.actions.locking import locked_environment, policy_of
from recovery.actions.refusals import audited
from recovery.actions.upkeep import ensure_upkeep
from recovery.models import RecoveryPoint
from recovery.models.point import UpkeepKind
from recovery.queries.upkeep import removal_of
from recovery.rules.coverage import Span
from recovery.rules.retention import Retention

NAMED = 3


@audited
@transaction.atomic
def ask_retention(
    *,
    actor: Actor,
    environment_id: int,
    seen_goes: Iterable[str],
    seen_lost: Iterable[tuple[datetime, datetime]] = (),
    at: datetime,
) -> Retention:
    """Ask for what the policy lets go to be removed: exactly the points and the times that somebody was shown.

    Raises `Conflict` where that is another set now; a job removes the bytes, and asks the plan again before each point.
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_EDIT, environment)
    plan = removal_of(policy_of(environment), at=at)
    if set(seen_goes) != set(plan.goes):
        raise Conflict(f"Something changed meanwhile: now {counted(len(plan.goes), 'point')} would go. Look again.")
    if set(seen_lost) != {(one.start, one.end) for one in plan.lost}:
        with_it = "With it" if len(plan.goes) == 1 else "With them"
        raise Conflict(f"{with_it} other times would be lost than were seen: {_said(plan.lost)}. Look again.")
    rows = RecoveryPoint.objects.kept().filter(environment=environment, key__in=plan.goes)
    for point in rows.select_for_update(of=("self",)).order_by("pk"):
        if point.removal_asked_at is not None:
            continue
        point.removal_asked_at, point.removal_asked_by = at, actor.person
        point.save(update_fields=["removal_asked_at", "removal_asked_by"])
        data = {"key": point.key}
        audit.record(
            Tag.POINT_REMOVAL_ASKED, subject=point, actor=actor, at=at, data=data, tenant=environment.tenant_id
        )
    ensure_upkeep(environment, kind=UpkeepKind.RETENTION, at=at)
    wiring.nudge("upkeep")
    return plan


def _said(lost: Sequence[Span]) -> str:
    if not lost:
        return "none"
    more = f" and {len(lost) - NAMED:,} more" if len(lost) > NAMED else ""
    return "; ".join(one.words for one in lost[:NAMED]) + more
