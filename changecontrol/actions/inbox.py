"""What a person has read of what they were told."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from changecontrol.access import Actor
from changecontrol.models import Message


@transaction.atomic
def read_messages(*, actor: Actor, message_id: int | None = None, at: datetime) -> int:
    """Mark one of one's own messages as read, or all of them. Returns how many were unread.

    A message of somebody else is as missing as none. Nothing is recorded: reading changes nothing but the reader.
    """
    rows = Message.objects.filter(recipient=actor.person, read_at__isnull=True)
    if message_id is not None:
        rows = rows.filter(pk=message_id)
    return rows.update(read_at=at)
