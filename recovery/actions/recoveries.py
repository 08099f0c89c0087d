"""What an operator's cluster is noted down for a restore or a drill: before it is asked for, until nothing is left.

Whoever calls these is a workflow that holds the lock on the row.
"""

from __future__ import annotations

from datetime import datetime

from changecontrol.events import Tag
from recovery.actions.owners import tell_owners
from recovery.models import Drill, Restore

CLUSTER = "cluster"
"""The key in `data` under which a row remembers the run of its cluster, and whether its owners know of what is left."""


def note_cluster(row: Restore | Drill, *, run: str, namespace: str) -> None:
    """Remember that a cluster is asked for: from then on it is looked for, and removed once the row is over."""
    row.data[CLUSTER] = {"run": run, "namespace": namespace, "is_told": False}
    row.save(update_fields=["data"])


def say_cluster(row: Restore | Drill, sentence: str) -> None:
    """Say how far the operator is."""
    if row.sentence != sentence:
        row.sentence = sentence
        row.save(update_fields=["sentence"])


def note_going(row: Restore | Drill, left: str, *, at: datetime) -> None:
    """Remember since when a cluster is asked to go, and say what is there of it."""
    if CLUSTER in row.data:
        row.data[CLUSTER].setdefault("going_at", at.isoformat())
        row.save(update_fields=["data"])
    say_cluster(row, left)


def going_since(row: Restore | Drill) -> datetime | None:
    """Return since when a cluster is asked to go; None where nobody has noted that."""
    said = row.data.get(CLUSTER, {}).get("going_at")
    return datetime.fromisoformat(said) if said else None


def forget_cluster(row: Restore | Drill) -> None:
    """Note that nothing of the cluster is left."""
    if row.data.pop(CLUSTER, None) is not None:
        row.save(update_fields=["data"])


def tell_leftovers(row: Restore | Drill, leftovers: str, *, at: datetime) -> None:
    """Tell the owners once of what a restore or a drill that is over has left in the cluster."""
    if row.data[CLUSTER]["is_told"]:
        return
    row.data[CLUSTER]["is_told"] = True
    row.save(update_fields=["data"])
    tag = Tag.DRILL_MOVED if isinstance(row, Drill) else Tag.RESTORE_MOVED
    subject = f"{'A drill' if isinstance(row, Drill) else 'A restore'} left something behind"
    tell_owners(row.environment, tag=tag, subject=subject, text=leftovers, at=at)
