"""What the pages of restores and drills share: the steps of the way, and where the time to recover went."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from changecontrol.access import Scope
from changecontrol.queries.windows import zones_of
from changecontrol.templatetags.charts import bar_width
from changecontrol.templatetags.times import duration
from changecontrol.views.wording import words
from recovery.models import Drill, Restore
from recovery.queries.progress import Progress
from recovery.rules.objectives import RecoveryTimes, measure_rto

PARTS = (("decide", "g-mid"), ("provision", "g-info"), ("restore", "g-accent"), ("validate", "g-good"))
"""The parts of the time to recover, in their order, with the fill of each."""
TICKS_SECONDS = 15


def steps(state: str, *, passed: Sequence[tuple[str, bool]], good_end: str) -> list[dict[str, Any]]:
    """Lay out a way from its steps and whether each is done. An end that is not the good one stands at its place."""
    names = [name for name, _ in passed]
    found = [{"state": name, "is_done": done, "is_now": name == state, "is_near": True} for name, done in passed]
    is_on_the_way = state in names or state == "queued"
    end = good_end if is_on_the_way else state
    found.append({"state": end, "is_done": False, "is_now": not is_on_the_way, "is_near": True})
    if state == "queued":
        found.insert(0, {"state": state, "is_done": False, "is_now": True, "is_near": True})
    return found


def times_of(row: Restore | Drill) -> RecoveryTimes:
    return RecoveryTimes(row.declared_at, row.decided_at, row.provisioned_at, row.restored_at, row.validated_at)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the time to recover: where its bar begins and how long it is, as widths, and how it reads."""

    name: str
    fill: str
    value: str
    note: str
    x: str
    width: str


def time_split(row: Restore | Drill, *, target: timedelta, at: datetime) -> dict[str, Any]:
    """Return the time to recover in its parts, as bar and as figures; the part under way counts up to `at`."""
    is_canceled = isinstance(row, Drill) and row.canceled_at is not None
    told = _parts(times_of(row), is_over=row.finished_at is not None or is_canceled, at=at)
    gone = sum((length for _, _, length in told if length is not None), timedelta(0))
    whole = max(gone, target, timedelta(seconds=1))
    parts, start = [], timedelta(0)
    for (name, fill), (value, note, length) in zip(PARTS, told, strict=True):
        took = length or timedelta(0)
        parts.append(Part(name, fill, value, note, bar_width(start / whole), bar_width(took / whole)))
        start += took
    return {
        "parts": parts,
        "total": duration(gone),
        "target": duration(target),
        "target_x": bar_width(min(target / whole, 0.999)),
        "is_over_target": gone > target,
        "summary": ", ".join(f"{one.name} {one.value}" for one in parts) + f"; {duration(gone)} of {duration(target)}",
    }


def _parts(times: RecoveryTimes, *, is_over: bool, at: datetime) -> list[tuple[str, str, timedelta | None]]:
    """Return of each part how it reads, a note, and how long it took or has taken so far."""
    measured = measure_rto(times)
    ends = [times.decided_at, times.provisioned_at, times.restored_at, times.validated_at]
    last = max((place for place, end in enumerate(ends) if end is not None), default=-1)
    reached = ends[last] if last >= 0 else times.declared_at
    found: list[tuple[str, str, timedelta | None]] = []
    for place, name in enumerate(("decide", "provision", "restore", "validate")):
        length = getattr(measured, name)
        if length is not None:
            found.append((duration(length), "", length))
        elif place < last:
            found.append(("not needed", "", None))
        elif place == last + 1 and not is_over and reached is not None:
            so_far = max(timedelta(0), at - reached)
            found.append((duration(so_far), "so far", so_far))
        else:
            found.append(("not reached" if is_over else "to come", "", None))
    return found


def progress_facts(progress: Progress | None, *, at: datetime) -> dict[str, Any] | None:
    """Return how far a long step is, as a bar, a sentence and the time left."""
    if progress is None:
        return None
    left = progress.left
    return {
        "phase": progress.phase,
        "sentence": progress.sentence,
        "done_bytes": progress.done_bytes,
        "total_bytes": progress.total_bytes,
        "share": progress.share,
        "width": bar_width(progress.share),
        "left": duration(left) if left is not None else "",
        "ends_at": at + left if left is not None else None,
    }


def drawn(*parts: object, progress: Progress | None, at: datetime) -> str:
    """Name what a live part shows, as a short word. The time that runs is drawn again every `TICKS_SECONDS`."""
    said = (progress.phase, progress.sentence, progress.done_bytes) if progress else ()
    seen = repr((parts, said, int(at.timestamp()) // TICKS_SECONDS))
    return hashlib.sha256(seen.encode()).hexdigest()[:16]


def zones_for(scope: Scope) -> tuple[str, ...]:
    """Return the zones in which a time may be given: the person's own, those of the stores in sight, and UTC."""
    return tuple(sorted({"UTC", timezone.get_current_timezone_name(), *zones_of(scope)}))


def announced(what: str, state: str) -> str:
    """Return what a screen reader is told, once for each state."""
    return f"The {what} is {words(state)}."
