"""What the workflows of recovery share: how a step is settled, and how a job is ordered and watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from changecontrol.access import Actor, system_actor
from changecontrol.actions.jobs import ensure_job
from changecontrol.models import Environment, Job
from changecontrol.models.leased import Leased
from changecontrol.workflow.engine import Settlement

NOW = timedelta()
WATCH = timedelta(seconds=2)
"""How often a tick looks at the job it ordered."""
CLEARED_WITHIN = timedelta(minutes=10)
"""How long a cluster may take to clear away what a job was done in."""
UNREMOVED = "What the operator recovered is perhaps still there."

Row = TypeVar("Row", bound=Leased)


def settled(write: Callable[[Row, Actor], object], *, name: str, due_in: timedelta | None) -> Settlement[Row]:
    """Write as the system, under the name of the row as correlation."""

    def as_system(row: Row) -> None:
        write(row, system_actor(f"{name}:{row.pk}"))

    return Settlement(write=as_system, due_in=due_in)


def waiting() -> Settlement[Any]:
    """Look again soon."""
    return Settlement(write=None, due_in=WATCH)


def ordered(key: str, *, kind: str, order: Callable[[], Mapping[str, Any]], at: datetime, within: timedelta) -> Job:
    """Order long work, or find what was ordered before; what the order says is asked for once."""
    known = Job.objects.filter(key=key).first()
    return known or ensure_job(key=key, kind=kind, order=order(), at=at, deadline_at=at + within)


def is_clearing(job: Job, at: datetime) -> bool:
    """Tell whether a job has ended and what it was done in, in a cluster, may yet be cleared away."""
    if job.ended_at is None or job.placed_at is None or job.leftovers:
        return False
    return at < job.ended_at + CLEARED_WITHIN


def leftovers_of(job: Job) -> str:
    """Return what an ended job left: what it says itself, and what is still there of what it was done in."""
    return f"{job.result.get('leftovers', '')} {left_of_place(job)}".strip()


def left_of_place(job: Job) -> str:
    """Return what is still there of what a job was done in, in a cluster; empty where nothing is."""
    return "" if job.placed_at is None else job.leftovers or "What it ran in was not cleared away in time."


def phases_of(job: Job) -> dict[str, datetime]:
    """Return when each phase of a job began, as it said: in its result once it is done, in its progress until then."""
    said = job.result.get("phases") or job.progress.get("phases") or {}
    return {name: datetime.fromisoformat(at) for name, at in said.items()}


def locked(model: type[Row], pk: int, *related: str) -> Row:
    """Lock the environment of a row, as every action does first, then the row; return it with what it points to."""
    of = model._default_manager.filter(pk=pk).values("environment_id")
    Environment.objects.select_for_update(of=("self",), no_key=True).get(pk__in=of)
    rows = model._default_manager.select_for_update(of=("self",), no_key=True)
    return rows.select_related("environment__tenant", *related).get(pk=pk)
