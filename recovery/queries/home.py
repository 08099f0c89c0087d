"""What the home page tells whoever looks after recovery: alarms, drills that are late, and what checks found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db.models import QuerySet
from django.urls import reverse

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.models import Environment
from changecontrol.queries.inbox import Notice
from changecontrol.rules.roles import Ability
from recovery.models import BackupPolicy, RaisedAlarm
from recovery.queries.drills import overdue_drills
from recovery.queries.faults import faults_in
from recovery.rules.alarms import TITLES, AlarmKind
from recovery.rules.faults import FAULTS
from recovery.rules.times import moment

WARNING_ONLY = frozenset({AlarmKind.SIZE_ANOMALY})
"""What may be no danger; everything else is a loss, or a promise that is not kept."""


def notices(scope: Scope, *, at: datetime) -> tuple[Notice, ...]:
    """Return the alarms that sound, longest first, the drills that are overdue, then what was found and not mended."""
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
    return (*found, *_faults(mine, at=at))


def _faults(mine: QuerySet[Environment], *, at: datetime) -> Iterator[Notice]:
    policies = BackupPolicy.objects.active().filter(environment__in=mine).select_related("environment__tenant")
    places = {one.environment_id: one.environment for one in policies.order_by("environment_id")}
    for key, faults in faults_in(places, at=at).items():
        for one in faults:
            yield _notice(places[key], title=FAULTS[one.kind], text=one.sentence, is_bad=one.is_bad)


def _is_mine(scope: Scope, environment: Environment) -> bool:
    return Ability.RECOVERY_EDIT in access.abilities_for(scope, environment)


def _notice(environment: Environment, *, title: str, text: str, is_bad: bool) -> Notice:
    return Notice(
        title=f"{environment}: {title}",
        text=text,
        is_bad=is_bad,
        path=reverse("recovery-environment", args=[environment.tenant.slug, environment.slug]),
    )
