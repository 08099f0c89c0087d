"""What the home page tells whoever looks after recovery, in two statements: alarms, and drills that are late."""

from __future__ import annotations

from datetime import datetime

from django.urls import reverse

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.models import Environment
from changecontrol.queries.inbox import Notice
from changecontrol.rules.roles import Ability
from recovery.models import RaisedAlarm
from recovery.queries.drills import overdue_drills
from recovery.rules.alarms import TITLES, AlarmKind
from recovery.rules.times import moment

WARNING_ONLY = frozenset({AlarmKind.SIZE_ANOMALY})
"""What may be no danger; everything else is a loss, or a promise that is not kept."""


def notices(scope: Scope, *, at: datetime) -> tuple[Notice, ...]:
    """Return the alarms that sound, longest first, then the drills that are overdue."""
    mine = access.environments_with(scope, Ability.RECOVERY_EDIT)
    alarms = RaisedAlarm.objects.sounding().filter(environment__in=mine).exclude(kind=AlarmKind.DRILL_OVERDUE)
    rows = alarms.select_related("environment__tenant").order_by("since", "id")
    found = [
        _notice(one.environment, text=one.sentence, is_bad=one.kind not in WARNING_ONLY, title=TITLES[one.kind])
        for one in rows
    ]
    # Asked afresh: what nobody practises is seen without any worker's help.
    late = [one for one in overdue_drills(scope, at=at) if _is_mine(scope, one.environment)]
    for one in late:
        last = f"The last passed at {moment(one.last_at)}." if one.last_at else "None ever passed."
        text = f"It was due at {moment(one.due_at)}. {last}"
        found.append(_notice(one.environment, title=TITLES[AlarmKind.DRILL_OVERDUE], text=text, is_bad=True))
    return tuple(found)


def _is_mine(scope: Scope, environment: Environment) -> bool:
    return Ability.RECOVERY_EDIT in access.abilities_for(scope, environment)


def _notice(environment: Environment, *, title: str, text: str, is_bad: bool) -> Notice:
    return Notice(
        title=f"{environment}: {title}",
        text=text,
        is_bad=is_bad,
        path=reverse("recovery-environment", args=[environment.tenant.slug, environment.slug]),
    )
