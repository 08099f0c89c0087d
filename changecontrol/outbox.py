"""The one door for words to people: an inbox line at once, an e-mail by the delivery workflow.

A message is a row of the caller's transaction, so nothing is sent for work that was rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import connection

from changecontrol import wiring
from changecontrol.models import ChangeRequest, Message, User


def post(
    *,
    to: Iterable[User],
    tag: str,
    subject: str,
    text: str,
    at: datetime,
    change: ChangeRequest | None = None,
    path: str = "",
) -> None:
    """Tell each of these people once. Whoever has no e-mail address finds it in the inbox alone."""
    if not connection.in_atomic_block:
        raise RuntimeError(f"{tag} was posted outside a transaction.")
    people = {person.pk: person for person in to if person.is_active and not person.is_system}
    Message.objects.bulk_create(
        Message(
            recipient=person,
            change=change,
            tag=tag,
            subject=subject[:200],
            text=text,
            path=path or (change.get_absolute_url() if change else ""),
            created_at=at,
            next_due_at=at if person.email else None,
        )
        for person in people.values()
    )
    if people:
        wiring.nudge("delivery")
