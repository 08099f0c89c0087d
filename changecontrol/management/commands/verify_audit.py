"""`manage.py verify_audit`: follows every chain in the database and names the first bad event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction

from changecontrol.models import AuditEvent, AuditHead
from changecontrol.offline import verify


class Command(BaseCommand):
    help = "Verify the audit trail; ends with 1 and names the first bad event where it does not hold."

    def handle(self, *_: Any, **__: Any) -> None:
        with transaction.atomic():
            # One snapshot of events and heads, or an event recorded in between would look like a cut tail.
            self._use_one_snapshot()
            tips: dict[str, bytes] = {}
            try:
                counts = verify.check_chains(_events(tips))
                self._compare_heads(counts, tips)
            except verify.Broken as problem:
                raise CommandError(f"The audit trail does not hold: {problem}.") from problem
        self.stdout.write(f"{sum(counts.values())} events in {len(counts)} unbroken chains.")

    @staticmethod
    def _use_one_snapshot() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    @staticmethod
    def _compare_heads(counts: dict[str, int], tips: dict[str, bytes]) -> None:
        unknown = set(counts)
        for head in AuditHead.objects.order_by("subject").iterator():
            found = counts.get(head.subject, 0)
            if found != head.sequence:
                raise verify.Broken(f"{head.subject} ends at event {found}, and it had {head.sequence}")
            if tips.get(head.subject) != bytes(head.hash):
                raise verify.Broken(f"event {found} of {head.subject} is not the one its chain ended with")
            unknown.discard(head.subject)
        if unknown:
            raise verify.Broken(f"{min(unknown)} has events that the database never chained")


def _events(tips: dict[str, bytes]) -> Iterator[dict[str, Any]]:
    """Yield every event, chain by chain, as the verifier reads it, without holding them all; note each chain's end.

    Lists and filters go by an event's columns, so these are compared with the body, which alone is hashed.
    """
    rows = AuditEvent.objects.order_by("subject", "sequence").select_related("actor")
    for event in rows.iterator(chunk_size=2000):
        name = f"event {event.sequence} of {event.subject}"
        if (wrong := _misfiled(event)) is not None:
            raise verify.Broken(f"{name} is filed under another {wrong} than it tells")
        tips[event.subject] = bytes(event.hash)
        yield {
            "subject": event.subject,
            "sequence": event.sequence,
            "previous_hash": bytes(event.previous_hash).hex(),
            "hash": bytes(event.hash).hex(),
            "body": event.body,
        }


def _misfiled(event: AuditEvent) -> str | None:
    """Return the column that does not say what the body says; None where all do."""
    body = json.loads(event.body)
    told = {
        "tag": (event.tag, body["tag"]),
        "actor": (event.actor.username if event.actor else "anonymous", body["actor"]),
        "time": (event.at, datetime.fromisoformat(body["at"])),
    }
    if event.subject.startswith("changerequest:"):
        told["change"] = (f"changerequest:{event.change_id}", event.subject)
    return next((name for name, (column, said) in told.items() if column != said), None)
