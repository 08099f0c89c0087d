"""Telling the owners of recovery what is wrong: when it begins, each day while it lasts, once it is over (BCK-1)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Value
from django.db.models.functions import Coalesce

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import Environment
from recovery.actions.owners import tell_owners
from recovery.models import AlarmWatch, RaisedAlarm
from recovery.rules.alarms import TITLES, Alarm

REPEAT_AFTER = timedelta(days=1)
QUIET_FOR = timedelta(minutes=5)
"""How long nothing may be wrong before an alarm is over: what comes and goes each minute is one alarm."""


def ensure_watch(environment: Environment, *, at: datetime) -> None:
    """Let an environment be watched from now on, whoever else begins at the same time."""
    try:
        with transaction.atomic():
            AlarmWatch.objects.update_or_create(environment=environment, defaults={"next_due_at": at})
    except IntegrityError:  # pragma: no cover - two sweeps at once, and the other one did it
        return


def note_stores(watch: AlarmWatch, *, silent: dict[str, str], at: datetime) -> None:
    """Keep which stores did not answer a locked watch, and since when."""
    watch.silent_stores, watch.stores_asked_at = silent, at
    watch.save(update_fields=["silent_stores", "stores_asked_at"])


def note_database(environment: Environment, *, trouble: str, at: datetime) -> None:
    """Keep what is wrong with the database of an environment, and since when; without words nothing is.

    One that nobody watches yet is noted when it is asked again.
    """
    rows = AlarmWatch.objects.filter(environment=environment)
    if trouble:
        rows.update(database_trouble=trouble, database_failing_since=Coalesce("database_failing_since", Value(at)))
    else:
        rows.exclude(database_trouble="").update(database_trouble="", database_failing_since=None)


def tell_alarms(watch: AlarmWatch, *, found: Iterable[Alarm], actor: Actor, at: datetime) -> None:
    """Tell of a locked watch what began, what lasts for another day, and what is over."""
    environment = watch.environment
    wrong = {(str(one.kind), one.subject): one for one in found}
    raised = {(one.kind, one.subject): one for one in RaisedAlarm.objects.open().filter(environment=environment)}
    for key, alarm in wrong.items():
        if key in raised:
            _lasts(raised[key], alarm, environment=environment, at=at)
        else:
            _begins(alarm, environment=environment, actor=actor, at=at)
    for key, one in raised.items():
        if key not in wrong:
            _is_quiet(one, environment=environment, actor=actor, at=at)


def _begins(alarm: Alarm, *, environment: Environment, actor: Actor, at: datetime) -> None:
    row = RaisedAlarm.objects.create(
        environment=environment,
        kind=str(alarm.kind),
        subject=alarm.subject,
        sentence=alarm.sentence,
        since=alarm.since,
        raised_at=at,
        told_at=at,
    )
    data = {"kind": row.kind, "subject": row.subject, "sentence": row.sentence, "since": row.since.isoformat()}
    audit.record(Tag.ALARM_RAISED, subject=row, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    tell_owners(environment, tag=Tag.ALARM_RAISED, subject=f"alarm, {TITLES[row.kind]}", text=row.sentence, at=at)


def _lasts(row: RaisedAlarm, alarm: Alarm, *, environment: Environment, at: datetime) -> None:
    is_told = at - row.told_at >= REPEAT_AFTER
    if is_told:
        subject = f"alarm goes on, {TITLES[row.kind]}"
        tell_owners(environment, tag=Tag.ALARM_RAISED, subject=subject, text=alarm.sentence, at=at)
    row.sentence, row.quiet_since = alarm.sentence, None
    row.told_at = at if is_told else row.told_at
    row.save(update_fields=["sentence", "quiet_since", "told_at"])


def _is_quiet(row: RaisedAlarm, *, environment: Environment, actor: Actor, at: datetime) -> None:
    row.quiet_since = row.quiet_since or at
    fields = ["quiet_since"]
    if at - row.quiet_since >= QUIET_FOR:
        row.ended_at = at
        fields.append("ended_at")
        data = {"kind": row.kind, "subject": row.subject, "raised_at": row.raised_at.isoformat()}
        audit.record(Tag.ALARM_ENDED, subject=row, actor=actor, at=at, data=data, tenant=environment.tenant_id)
        text = f"It said: {row.sentence}"
        tell_owners(environment, tag=Tag.ALARM_ENDED, subject=f"alarm is over, {TITLES[row.kind]}", text=text, at=at)
    row.save(update_fields=fields)
