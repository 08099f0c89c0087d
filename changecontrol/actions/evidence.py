"""Keeping bytes as evidence: uploaded first, under their own hash, then written down in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from django.conf import settings
from django.db import transaction

from changecontrol import audit, wiring
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import Artefact, ChangeRequest


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
