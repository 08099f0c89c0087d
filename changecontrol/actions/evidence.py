"""Keeping bytes as evidence: uploaded first, under their own hash, then written down in one transaction.

Whoever opens them again is written down too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import sight_of
from changecontrol.actions.refusals import audited
from changecontrol.errors import Conflict, NotFound, Permanent, Transient
from changecontrol.events import Tag
from changecontrol.models import Artefact, ChangeRequest
from changecontrol.ports import ObjectStore
from changecontrol.rules.roles import Ability


def key_of(sha256: str) -> str:
    """Return where the object store keeps the bytes with this hash."""
    return f"sha256/{sha256[:2]}/{sha256}"


def store_artefact(
    *, change_id: int, name: str, media_type: str, data: bytes, source: str, actor: Actor, at: datetime
) -> Artefact:
    """Keep bytes for a change. The same bytes under the same name are the same artefact, and one event.

    Call it outside a transaction: it uploads. Raises `Transient` or `Permanent` where the store does.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    known = Artefact.objects.filter(change_id=change_id, name=name, sha256=sha256).first()
    if known is not None:
        return known
    wiring.adapter("object_store")(settings.OBJECT_STORE_URL).ensure_object(key_of(sha256), data)
    with transaction.atomic():
        change = ChangeRequest.objects.select_for_update(of=("self",)).get(pk=change_id)
        artefact, is_new = Artefact.objects.get_or_create(
            change=change,
            name=name,
            sha256=sha256,
            defaults={"media_type": media_type, "size": len(data), "source": source, "created_at": at},
        )
        if is_new:
            audit.record(
                Tag.EVIDENCE_STORED,
                subject=change,
                actor=actor,
                at=at,
                data={"name": name, "sha256": sha256, "size": len(data), "source": source},
            )
    return artefact


@transaction.atomic
def note_reading(*, actor: Actor, asked: Mapping[str, str], at: datetime) -> None:
    """Record on the reader's own chain what they read (AUD-8)."""
    audit.record(Tag.EVIDENCE_READ, subject=actor.person, actor=actor, at=at, data={"asked": dict(asked)})


@dataclass(frozen=True, slots=True)
class Opened:
    """A piece of evidence and its bytes."""

    artefact: Artefact
    data: bytes

    @property
    def file_name(self) -> str:
        """Its name as a file of any system, which cannot say anything else in a header."""
        safe = "".join(
            char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in self.artefact.name
        )
        return safe.lstrip(".") or "artefact"


@audited
def open_artefact(*, actor: Actor, change_id: int, artefact_id: int, at: datetime) -> Opened:
    """Return one piece of a change's evidence, and record who read it (AUD-8).

    Raises `Conflict` where its bytes are missing or no longer have their hash.
    """
    changes = access.visible(sight_of(actor), ChangeRequest.objects.all())
    artefact = Artefact.objects.filter(pk=artefact_id, change__in=changes.filter(pk=change_id)).first()
    if artefact is None:
        raise NotFound("There is no such piece of evidence.")
    change = ChangeRequest.objects.get(pk=change_id)
    access.require(actor, Ability.EVIDENCE_VIEW, change)
    [(_, data)] = observe_artefacts([artefact])
    told = {"change": change.number, "name": artefact.name, "sha256": artefact.sha256}
    with transaction.atomic():
        audit.record(Tag.EVIDENCE_READ, subject=actor.person, actor=actor, at=at, data=told, tenant=change.tenant_id)
    return Opened(artefact, data)


def observe_artefacts(artefacts: Iterable[Artefact]) -> Iterator[tuple[Artefact, bytes]]:
    """Yield artefacts with their bytes, each compared with its hash. Raises `Conflict`.

    Call it outside a transaction: it downloads.
    """
    try:
        store: ObjectStore = wiring.adapter("object_store")(settings.OBJECT_STORE_URL)
        for artefact in artefacts:
            data = store.observe_object(key_of(artefact.sha256))
            if data is None or hashlib.sha256(data).hexdigest() != artefact.sha256:
                raise Conflict(f"The stored artefact “{artefact.name}” is missing or was changed.")
            yield artefact, data
    except (Transient, Permanent) as trouble:
        raise Conflict("The store of evidence does not answer. Try again in a minute.") from trouble
