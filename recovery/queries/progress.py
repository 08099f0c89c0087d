"""How far long work is: what the job behind a backup, a restore or a drill said last, and what time is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job
from recovery.models import BackupRun, Drill, Restore

LEAST_SHARE = 0.02
"""Below this share nothing is foretold: the beginning is no measure."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a job said last. `share` is from 0 to 1; it and what is `left` are None where nobody can tell."""

    phase: str
    sentence: str
    done_bytes: int = 0
    total_bytes: int | None = None
    share: float | None = None
    left: timedelta | None = None


def key_of(row: BackupRun | Restore | Drill) -> str:
    """Return the key of the job that does a row's work."""
    kinds: dict[type[object], str] = {BackupRun: "backup", Restore: "restore", Drill: "drill"}
    return f"{kinds[type(row)]}/{row.pk}"


def progress_of(row: BackupRun | Restore | Drill, *, at: datetime) -> Progress | None:
    """Return how far a row's job is, or what keeps it from going on; None where none is under way."""
    job = Job.objects.filter(key=key_of(row), state=JobState.OPEN).first()
    if job is None:
        return None
    said = job.progress
    is_held = job.lease_until is not None and job.lease_until > at
    if job.trouble and not is_held:
        return Progress(phase="waiting", sentence=job.trouble)
    if not said:
        return Progress(phase="waiting", sentence="It waits for its turn." if job.started_at is None else "It begins.")
    done, total = int(said.get("done_bytes") or 0), said.get("total_bytes")
    share = min(1.0, done / total) if total else None
    phase = str(said.get("phase", ""))
    left = None
    if share is not None and share >= LEAST_SHARE and (began := (said.get("phases") or {}).get(phase)):
        passed = at - datetime.fromisoformat(began)
        left = timedelta(seconds=round(max(0.0, passed.total_seconds()) * (1 - share) / share))
    return Progress(phase, str(said.get("sentence", "")), done, total, share, left)
