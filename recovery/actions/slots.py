"""What is kept of replication slots: how much WAL servers keep for them, and which are left behind (BCK-1).

What it leads to is an alarm, which is told and recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction

from recovery.models import BackupPolicy, WalSlot
from recovery.ports.postgres import SlotState
from recovery.rules.alarms import is_wal_retained


@dataclass(frozen=True, slots=True)
class SeenSlot:
    """What a server answered: which start of which server it is, and its slot of ours; None where it has none."""

    name: str
    server: str
    state: SlotState | None


@transaction.atomic
def note_slot(policy: BackupPolicy, *, seen: SeenSlot, is_wanted: bool, at: datetime) -> None:
    """Keep what the server of a policy answered. A slot that is gone and wanted took WAL with it."""
    rows = WalSlot.objects.select_for_update().filter(environment=policy.environment_id, source=policy.source)
    row = rows.first()
    state = seen.state
    if state is None:
        if row is not None and is_wanted and row.left_since is None:
            rows.exclude(wal_status="gone").update(wal_status="gone", lost_at=at, seen_at=at, retained_bytes=0)
        elif row is not None:
            row.delete()
        return
    WalSlot.objects.update_or_create(
        environment=policy.environment,
        source=policy.source,
        defaults={
            "version": policy.version,
            "name": seen.name,
            "retained_bytes": state.retained_bytes,
            "limit_bytes": state.limit_bytes,
            "wal_status": state.wal_status,
            "retained_since": ((row and row.retained_since) or at) if is_too_much(state) else None,
            "inactive_since": None if state.is_active else (row and row.inactive_since) or at,
            "left_since": None if is_wanted else (row and row.left_since) or at,
            "lost_at": at if state.is_lost else row.lost_at if row is not None else None,
            "seen_at": at,
        },
    )


def forget_slot(policy: BackupPolicy) -> None:
    """Forget the slot on the server of a policy: it was dropped there, or that server is another policy's now."""
    WalSlot.objects.filter(environment=policy.environment_id, source=policy.source).delete()


def is_too_much(state: SlotState) -> bool:
    """Tell whether a server keeps too much WAL for a slot, as the settings say."""
    return is_wal_retained(
        retained_bytes=state.retained_bytes,
        limit_bytes=state.limit_bytes,
        wal_status=state.wal_status,
        share=settings.WAL_RETAINED_PERCENT / 100,
        most_bytes=settings.WAL_RETAINED_BYTES,
    )
