"""What an action left in the trail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from changecontrol.models import AuditEvent


@contextmanager
def events() -> Iterator[list[str]]:
    """Collect the tags of the events that the block leaves, in order; the list is filled at its end."""
    before = set(AuditEvent.objects.values_list("pk", flat=True))
    found: list[str] = []
    try:
        yield found
    finally:
        found.extend(AuditEvent.objects.exclude(pk__in=before).order_by("pk").values_list("tag", flat=True))
