"""`manage.py verify_audit`: follows every chain in the database and names the first bad event."""

from __future__ import annotations

from collections.abc import Iterator
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
            try:
                counts = verify.check_chains(_events())
                self._compare_heads(counts)
            except verify.Broken as problem:
                raise CommandError(f"The audit trail does not hold: {problem}.") from problem
        self.stdout.write(f"{sum(counts.values())} events in {len(counts)} unbroken chains.")

    @staticmethod
    def _use_one_snapshot() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    @staticmethod
    def _compare_heads(counts: dict[str, int]) -> None:
        for head in AuditHead.objects.order_by("subject").iterator():
            found = counts.get(head.subject, 0)
            if found != head.sequence:
                raise verify.Broken(f"{head.subject} ends at event {found}, and it had {head.sequence}")


def _events() -> Iterator[dict[str, Any]]:
    """Yield every event, chain by chain, as the verifier reads it, without holding them all."""
    fields = ("subject", "sequence", "previous_hash", "hash", "body")
    for subject, sequence, previous, found, body in (
        AuditEvent.objects.order_by("subject", "sequence").values_list(*fields).iterator(chunk_size=2000)
    ):
        yield {
            "subject": subject,
            "sequence": sequence,
            "previous_hash": bytes(previous).hex(),
            "hash": bytes(found).hex(),
            "body": body,
        }
