"""The one door to the audit trail.

An event is written in the caller's transaction or not at all: a state without its event, or an event without its
state, cannot be committed. Chaining (sequence, previous hash, hash) is the database's work; see migration 0002.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import rfc8785
from django.db import connection
from django.db.models import Model

from changecontrol.gathering import gather
from changecontrol.models import AuditEvent, ChangeRequest, Tenant, User

if TYPE_CHECKING:
    from changecontrol.events import Tag


_CHAINED = ("id", "sequence", "previous_hash", "hash")
"""What the database gives an event."""
_WRITTEN = ("subject", "tag", "actor_id", "tenant_id", "change_id", "at", "body")
_APPEND = f"INSERT INTO changecontrol_auditevent ({', '.join(_WRITTEN)}, sequence, previous_hash, hash) VALUES "  # noqa: S608
_VALUES = f"({', '.join(['%s'] * len(_WRITTEN))}, 0, '', '')"


class Acting(Protocol):
    """Who acts, as far as an event tells it; `access.Actor` is one."""

    @property
    def user(self) -> User | None: ...
    @property
    def via(self) -> str: ...
    @property
    def source_address(self) -> str | None: ...
    @property
    def correlation_id(self) -> str: ...


class OutsideTransaction(RuntimeError):
    """An event was recorded where nothing else could be rolled back with it."""


def subject_of(thing: Model | str) -> str:
    """Return the name of a thing's chain, such as `changerequest:42`; what has no row has a name of its own."""
    if isinstance(thing, str):
        return thing
    return f"{thing._meta.model_name}:{thing.pk}"


def record(
    tag: Tag,
    *,
    subject: Model | str,
    actor: Acting,
    at: datetime,
    data: dict[str, Any] | None = None,
    tenant: Tenant | int | None = None,
    change: ChangeRequest | int | None = None,
) -> AuditEvent:
    """Add one event to the subject's chain.

    `data` holds JSON values only and no secret. Events of a change carry it, and its tenant, so that its timeline and
    its evidence find them. Within `gathering` the event is written, and gets its place in the chain, at the end of the
    block. Raises `OutsideTransaction` where no transaction is open.
    """
    if not connection.in_atomic_block:
        raise OutsideTransaction(f"{tag} was recorded outside a transaction.")
    if isinstance(subject, ChangeRequest):
        change = subject
    if isinstance(change, ChangeRequest) and tenant is None:
        tenant = change.tenant_id
    body: dict[str, Any] = {
        "actor": actor.user.username if actor.user else "anonymous",
        "at": at.isoformat(timespec="microseconds"),
        "correlation_id": actor.correlation_id,
        "data": data or {},
        "source_address": actor.source_address or "",
        "subject": subject_of(subject),
        "tag": str(tag),
        "via": actor.via,
    }
    written = {
        "subject": body["subject"],
        "tag": body["tag"],
        "actor_id": actor.user.pk if actor.user else None,
        "tenant_id": tenant.pk if isinstance(tenant, Tenant) else tenant,
        "change_id": change.pk if isinstance(change, ChangeRequest) else change,
        "at": at,
        "body": rfc8785.dumps(body).decode(),
    }
    event = AuditEvent(**written)
    if not gather(_append, event):
        _append([event])
    return event


def _append(events: list[AuditEvent]) -> None:
    """Write events in their order, and tell each what the database made of it."""
    values = [getattr(event, name) for event in events for name in _WRITTEN]
    # Written out: every write of the product passes here, and through the model it took twice as long.
    sql = f"{_APPEND}{', '.join([_VALUES] * len(events))} RETURNING {', '.join(_CHAINED)}"
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        for event, chained in zip(events, cursor.fetchall(), strict=True):
            for name, value in zip(_CHAINED, chained, strict=True):
                setattr(event, name, value)
