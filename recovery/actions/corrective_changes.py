"""What follows when a drill fails: something to be mended, and a draft of the change that mends it (BCK-7).

The draft is filed in a person's name and submitted by nobody but a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from changecontrol import access, audit, outbox
from changecontrol.access import Actor
from changecontrol.actions.changes import create_change, save_draft
from changecontrol.events import Tag
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, User
from changecontrol.rules.content import Content, Link
from changecontrol.rules.roles import Ability
from recovery.actions.owners import owners_of
from recovery.models import BackupPolicy, CorrectiveAction, Drill
from recovery.models.drill import MENDED
from recovery.rules.verification import Verdict

FILING = frozenset({Ability.CHANGE_CREATE, Ability.CHANGE_EDIT})
"""What it takes to have a draft and to write it."""


def open_corrective_action(drill: Drill, *, verdict: Verdict, actor: Actor, at: datetime) -> CorrectiveAction:
    """Say what must be done about a locked drill that failed, and where it found something file the change for it.

    The change is of who asked for the drill, or else of who wrote the policy, or else of who looks after recovery: the
    first of them who may file there. Where nobody may, the action says so.
    """
    environment, owners = drill.environment, owners_of(drill.environment, at=at)
    filer = next(_who_may_file(drill, owners, actor=actor), None) if verdict.is_finding else None
    problem = ""
    if verdict.is_finding and filer is None:
        problem = f"No change was opened: nobody who answers for this drill may file one in {environment}. File one."
    todo = CorrectiveAction.objects.create(
        drill=drill,
        title=f"Drill {drill.pk} failed: {verdict.sentence}"[:200],
        owner=filer.user if filer and filer.user in owners else next(iter(owners), None),
        problem=problem[:500],
        opened_at=at,
    )
    if filer is not None:
        _open_change(todo, verdict=verdict, filer=filer, actor=actor, at=at)
    return todo


def link_change(todo: CorrectiveAction, change: ChangeRequest, *, actor: Actor, at: datetime) -> None:
    """Name the change that mends a locked finding, instead of any that was named before."""
    todo.change, todo.asked_at = change, None
    todo.save(update_fields=["change", "asked_at"])
    data = {"corrective_action": todo.pk, "title": todo.title, "change": change.number}
    audit.record(
        Tag.DRILL_ACTION_LINKED, subject=todo.drill, actor=actor, at=at, data=data, tenant=todo.drill.tenant_id
    )


@transaction.atomic
def ask_to_close(*, at: datetime) -> None:
    """Ask, once, to say what was done where the change that mends a finding was closed as successful."""
    rows = CorrectiveAction.objects.select_for_update(of=("self",), skip_locked=True)
    mended = rows.filter(closed_at__isnull=True, asked_at__isnull=True, change__state=ChangeState.CLOSED)
    for todo in mended.filter(change__close_code__in=MENDED).select_related(
        "owner", "change__requester", "drill__environment__tenant"
    ):
        assert todo.change is not None  # the filter said so
        outbox.post(
            to=[one for one in (todo.owner, todo.change.requester) if one is not None],
            tag=str(Tag.DRILL_ACTION_LINKED),
            subject=f"{todo.drill.environment}: {todo.change.number} is closed, close its corrective action",
            text=f"{todo.title} Say what was done, so that the report tells it.",
            at=at,
            path=reverse("drill", args=[todo.drill_id]),
        )
        todo.asked_at = at
        todo.save(update_fields=["asked_at"])


def _who_may_file(drill: Drill, owners: Iterable[User], *, actor: Actor) -> Iterator[Actor]:
    policy = BackupPolicy.objects.active().filter(environment=drill.environment_id).select_related("created_by").first()
    first = drill.asked_by or (policy.created_by if policy else None)
    for person in (*((first,) if first else ()), *owners):
        # The worker acts in their name: the trail says whose change it is, and that it came by a worker.
        found = replace(actor, user=person)
        if not person.is_system and access.abilities_for(access.scope_of(found), drill.environment) >= FILING:
            yield found


def _open_change(todo: CorrectiveAction, *, verdict: Verdict, filer: Actor, actor: Actor, at: datetime) -> None:
    drill, environment = todo.drill, todo.drill.environment
    report = reverse("drill", args=[drill.pk])
    content = Content(
        title=f"Mend what drill {drill.pk} found in {environment}"[:200],
        reason=_reason(drill, verdict),
        environments=(environment.slug,),
        links=(Link(label=f"Report of drill {drill.pk}", url=f"{settings.BASE_URL}{report}"),),
    )
    made = create_change(actor=filer, tenant_id=environment.tenant_id, title=content.title, at=at)
    change = save_draft(
        actor=filer, change_id=made.pk, content=content.to_json(), seen_version=made.draft_version, at=at
    )
    link_change(todo, change, actor=actor, at=at)
    outbox.post(
        to=[filer.person],
        tag=str(Tag.DRILL_ACTION_LINKED),
        subject=f"{environment}: a drill failed, and {change.number} is a draft of yours that mends it",
        text=f"{todo.title} Say what will be done about it, and submit it; nothing is submitted by itself.",
        at=at,
        change=change,
    )


def _reason(drill: Drill, verdict: Verdict) -> str:
    """Return what the drill found, in words: the verdict, and what each check that failed said."""
    answers = [f"{one.name}: {one.sentence}" for one in drill.checks.all() if not one.is_passed]
    return "\n".join([f"A drill of level {drill.level} failed on {drill.point.key}. {verdict.sentence}", *answers])
