"""Rehearsals: asked for by a workflow, moved by the one that carries them out, taken down on request or in time.

Whoever calls `move_rehearsal` holds the lock on the row.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from changecontrol import audit, wiring
from changecontrol.access import Actor
from changecontrol.errors import Conflict, Invalid
from changecontrol.events import Tag
from changecontrol.lifecycles.rehearsal import ENDED, REHEARSAL, RehearsalState
from changecontrol.models import Cluster, Environment, Rehearsal
from changecontrol.rules.rehearsals import refusal_of_place
from changecontrol.workflow import engine

NOTED_AT: Mapping[str, str] = {
    "begin": "began_at",
    "confirm": "up_at",
    "tear_down": "teardown_at",
    "finish": "ended_at",
    "give_up": "ended_at",
}
"""Which time of a rehearsal each verb sets."""


@transaction.atomic
def ask_rehearsal(
    *,
    environment: Environment,
    cluster: Cluster,
    key: uuid.UUID,
    commit: str,
    path: str,
    ends_at: datetime,
    actor: Actor,
    at: datetime,
) -> Rehearsal:
    """Ask for an environment to be brought up in another cluster, or return what was asked for under this key.

    Raises `Invalid` for the cluster it runs in, and `Conflict` while another rehearsal of it is there.
    """
    known = Rehearsal.objects.filter(key=key).first()
    if known is not None:
        return known
    if refusal := refusal_of_place(cluster_id=cluster.pk, own_cluster_id=environment.cluster_id):
        raise Invalid(refusal)
    if Rehearsal.objects.filter(environment=environment).exclude(state__in=sorted(ENDED)).exists():
        raise Conflict("A rehearsal of this environment is under way already.")
    rehearsal = Rehearsal.objects.create(
        environment=environment,
        cluster=cluster,
        key=key,
        commit=commit,
        path=path,
        sentence=f"It is to be brought up in {cluster.name}.",
        asked_at=at,
        ends_at=ends_at,
        next_due_at=at,
    )
    data = {"environment": environment.slug, "cluster": cluster.slug, "commit": commit, "path": path, "run": str(key)}
    audit.record(Tag.REHEARSAL_ASKED, subject=rehearsal, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    wiring.nudge("rehearsal")
    return rehearsal


@transaction.atomic
def ask_teardown(*, key: uuid.UUID, actor: Actor, at: datetime) -> Rehearsal | None:
    """Ask for a rehearsal to be taken down now, or for what one left. Return it, or None where there is none."""
    rehearsal = Rehearsal.objects.select_for_update(of=("self",), no_key=True).filter(key=key).first()
    if rehearsal is None or not _is_to_take_down(rehearsal):
        return rehearsal
    rehearsal.teardown_asked_at = at
    rehearsal.save(update_fields=["teardown_asked_at"])
    engine.release(rehearsal, at=at)
    _record(Tag.REHEARSAL_TEARDOWN_ASKED, rehearsal, actor=actor, at=at, data={"run": str(key)})
    wiring.nudge("rehearsal")
    return rehearsal


def _is_to_take_down(rehearsal: Rehearsal) -> bool:
    """Tell whether asking for it changes anything. What was left may be asked for again and again."""
    if rehearsal.state == RehearsalState.LEFT:
        return True
    return rehearsal.state not in ENDED and rehearsal.teardown_asked_at is None


def move_rehearsal(
    rehearsal: Rehearsal, verb: str, *, sentence: str, actor: Actor, at: datetime, **fields: Any
) -> None:
    """Move a locked rehearsal by a verb of its lifecycle. `fields` are written beside."""
    before = RehearsalState(rehearsal.state)
    rehearsal.state = REHEARSAL.target(verb, before)
    rehearsal.sentence = sentence
    if verb in NOTED_AT:
        fields[NOTED_AT[verb]] = at
    for name, value in fields.items():
        setattr(rehearsal, name, value)
    rehearsal.save(update_fields=["state", "sentence", *fields])
    data = {"verb": verb, "from": str(before), "to": str(rehearsal.state), "sentence": sentence}
    _record(Tag.REHEARSAL_MOVED, rehearsal, actor=actor, at=at, data=data)


def note_applied(
    rehearsal: Rehearsal, applied: Mapping[str, Mapping[str, Any]], *, sentence: str, actor: Actor, at: datetime
) -> None:
    """Write down on a locked rehearsal what was applied for it."""
    rehearsal.facts = {**rehearsal.facts, "applied": {**rehearsal.applied, **applied}}
    rehearsal.sentence = sentence
    rehearsal.save(update_fields=["facts", "sentence"])
    objects = [{"object": ref, "uid": facts["uid"], "sha256": facts["sha256"]} for ref, facts in applied.items()]
    _record(Tag.REHEARSAL_APPLIED, rehearsal, actor=actor, at=at, data={"objects": objects})


def note_health(rehearsal: Rehearsal, workloads: list[dict[str, Any]], *, sentence: str) -> None:
    """Write down on a locked rehearsal how its workloads are; what comes of it is a move."""
    rehearsal.facts = {**rehearsal.facts, "workloads": workloads}
    rehearsal.sentence = sentence
    rehearsal.save(update_fields=["facts", "sentence"])


def note_leftovers(rehearsal: Rehearsal, leftovers: str, *, sentence: str) -> None:
    """Write down on a locked rehearsal what is still left of it; that it is gone in the end is a move."""
    rehearsal.leftovers, rehearsal.sentence = leftovers, sentence
    rehearsal.save(update_fields=["leftovers", "sentence"])


def _record(tag: Tag, rehearsal: Rehearsal, *, actor: Actor, at: datetime, data: dict[str, Any]) -> None:
    audit.record(tag, subject=rehearsal, actor=actor, at=at, data=data, tenant=rehearsal.environment.tenant_id)
