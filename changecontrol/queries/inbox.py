"""What a person finds when they come in: messages, and the facts of the home page by role."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils.module_loading import import_string

from changecontrol import access
from changecontrol.access import Actor, Scope
from changecontrol.lifecycles.change import EXECUTING
from changecontrol.lifecycles.run import RunState
from changecontrol.models import ChangeRequest, Freeze, Message, Run, User
from changecontrol.models.run import RunKind
from changecontrol.queries.changes import changes_of, changes_to_schedule, drafts_of
from changecontrol.queries.queue import Awaiting, changes_awaiting
from changecontrol.queries.windows import Span, calendar_spans, freezes_of

HOME_LIMIT = 10
LOOK_AHEAD = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that stands still until a person acts."""

    sentence: str
    change: ChangeRequest
    run: Run | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that another app says is wrong, for whoever looks after it. `path` is where to look."""

    title: str
    text: str
    path: str
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Home:
    """What needs this person first. Lists are short; their pages hold the rest."""

    awaiting: tuple[Awaiting, ...]
    drafts: tuple[ChangeRequest, ...]
    to_schedule: tuple[ChangeRequest, ...]
    running: tuple[ChangeRequest, ...]
    freezes: tuple[Freeze, ...]
    openings: tuple[Span, ...]
    alarms: tuple[Alarm, ...]
    notices: tuple[Notice, ...] = ()

    @property
    def decisions(self) -> tuple[Awaiting, ...]:
        """What this person may decide now."""
        return tuple(one for one in self.awaiting if one.is_mine)


def home_of(actor: Actor, scope: Scope, *, at: datetime) -> Home:
    """Return the facts of the home page. What a role may not see or do is empty."""
    spans = calendar_spans(scope, start=at, end=at + LOOK_AHEAD)
    return Home(
        awaiting=changes_awaiting(actor, scope, at=at),
        drafts=tuple(drafts_of(scope, person_id=actor.person.pk)[:HOME_LIMIT]),
        to_schedule=tuple(changes_to_schedule(scope)[:HOME_LIMIT]),
        running=tuple(changes_of(scope).filter(state__in=list(EXECUTING)).order_by("started_at")[:HOME_LIMIT]),
        freezes=tuple(freezes_of(scope).filter(lifted_at__isnull=True, ends_at__gt=at, starts_at__lt=at + LOOK_AHEAD)),
        openings=tuple(span for span in spans if span.kind == "allow")[:HOME_LIMIT],
        alarms=alarms_of(scope),
        notices=tuple(notice for path in settings.HOME_CONTRIBUTORS for notice in import_string(path)(scope, at=at)),
    )


def alarms_of(scope: Scope) -> tuple[Alarm, ...]:
    """Return the runs that stand still and wait for a person, newest first."""
    stuck = [RunState.PAUSED, RunState.ROLLBACK_FAILED, RunState.AWAITING_PROMOTION]
    runs = access.visible(
        scope, Run.objects.filter(kind=RunKind.ROLLOUT, state__in=stuck, change__state__in=list(EXECUTING))
    )
    rows = runs.select_related("change", "change__tenant").order_by("-pk")[:HOME_LIMIT]
    return tuple(
        Alarm(sentence=run.sentence or f"The run is {RunState(run.state).label.lower()}.", change=run.change, run=run)
        for run in rows
    )


def messages_of(person: User) -> QuerySet[Message]:
    """Return somebody's own messages, newest first."""
    return Message.objects.filter(recipient=person).select_related("change").order_by("-pk")


def unread_count(person: User) -> int:
    return Message.objects.filter(recipient=person, read_at__isnull=True).count()
