"""How far long work is: what the job behind a backup, a restore or a drill said last, and what time is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job
from recovery.lifecycles.drill import DrillState
from recovery.lifecycles.point import BackupState
from recovery.lifecycles.restore import RestoreState
from recovery.models import BackupRun, Drill, Restore

WELL = (BackupState.SUCCEEDED, RestoreState.SUCCEEDED, DrillState.PASSED)
LEAST_SHARE = 0.02
"""Below this share nothing is foretold: the beginning is no measure."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a job said last. `share` is from 0 to 1; it and what is `left` are None where nobody can tell.

    `left` is of the step where its bytes are counted; else of its phase, going by how long that took last.
    """

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


def is_sound(job: Job) -> bool:
    """Tell whether a copy held all that it was asked, and was placed: what does not is brought up nowhere."""
    if job.state != JobState.DONE or job.result["trouble"] or job.result["leftovers"]:
        return False
    return all(one["is_passed"] for one in job.result["checks"])


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
    began = (said.get("phases") or {}).get(phase)
    # Jobs that said nothing of a step's own beginning say when its phase began.
    left = _left_of_step(share, since=said.get("since") or began, at=at) if share is not None else None
    if left is None and began:
        left = _left_of_phase(row, phase, began=datetime.fromisoformat(began), at=at)
    return Progress(phase, str(said.get("sentence", "")), done, total, share, left)


def _left_of_step(share: float, *, since: str | None, at: datetime) -> timedelta | None:
    if share < LEAST_SHARE or not since:
        return None
    passed = max(0.0, (at - datetime.fromisoformat(since)).total_seconds())
    return timedelta(seconds=round(passed * (1 - share) / share))


def _left_of_phase(row: BackupRun | Restore | Drill, phase: str, *, began: datetime, at: datetime) -> timedelta | None:
    """Return what is left if a phase takes as long as in the last of its kind here that ended well."""
    last = _last_of_its_kind(row)
    job = Job.objects.filter(key=key_of(last)).first() if last is not None else None
    phases = (job.progress.get("phases") or {}) if job is not None else {}
    if last is None or phase not in phases:
        return None
    times = {name: datetime.fromisoformat(text) for name, text in phases.items()}
    ends = [one for one in (*times.values(), last.finished_at) if one is not None and one > times[phase]]
    left = began + (min(ends) - times[phase]) - at if ends else timedelta(0)
    return timedelta(seconds=round(left.total_seconds())) if left > timedelta(0) else None


def _last_of_its_kind(row: BackupRun | Restore | Drill) -> BackupRun | Restore | Drill | None:
    rows: Any = type(row)._default_manager.filter(environment=row.environment_id, state__in=WELL).exclude(pk=row.pk)
    if isinstance(row, Drill):
        rows = rows.filter(level=row.level, sabotage=row.sabotage)
    elif isinstance(row, BackupRun):
        rows = rows.filter(kind=row.kind)
    found: BackupRun | Restore | Drill | None = rows.order_by("-pk").first()
    return found
