"""The job that makes a recovery point of what an operator took: attachments after it, then what belongs together.

The base backup and its WAL stay in the operator's object store, where it alone writes and removes. Killed and begun
again the job goes on, as that of a backup does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from changecontrol import clock
from changecontrol.errors import Transient
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.jobs import points
from recovery.jobs.saying import CountedStore, Saying


def complete_point(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Make the point of a backup run. The order: that of a backup, and `cluster`, what the operator says it took.

    Returns what the job of a backup does. It reads nothing of the database, so it knows no modules.
    """
    run = points.run_of(order)
    policy, label, cluster = run.policy, str(order["label"]), order["cluster"]
    stopped_at = datetime.fromisoformat(cluster["stopped_at"])
    _wait_for_clock(stopped_at)
    saying = Saying(report)
    store = CountedStore(doors.open_store(policy), saying)
    filestore, parts = points.take_attachments(policy, store=store, label=label, saying=saying)
    runs_there = {"commit": order.get("commit", ""), "image": order.get("image", ""), "modules": {}}
    database = {"operator": "cloudnativepg", **cluster}
    together = {"database": database, "filestore": filestore, "runs_there": runs_there}
    described = points.write_set(policy, store=store, label=label, **together, saying=saying)
    copied = points.copy_elsewhere(policy, store=store, saying=saying)
    parts = [*parts, described]
    locks = points.observe_locks(policy, parts=parts, copied_at=copied["copied_at"], saying=saying)
    told = ("system_identifier", "server_version", "timeline", "start_lsn", "stop_lsn", "started_at")
    return {
        **{name: cluster[name] for name in told},
        "consistent_at": stopped_at.isoformat(),
        "finished_at": clock.now().isoformat(),
        "parts": parts,
        "filestore": filestore,
        "locks": locks,
        "cluster_facts": cluster,
        **copied,
        **runs_there,
    }


def _wait_for_clock(stopped_at: datetime) -> None:
    """Attachments are copied after the database by every clock, or what names them may be newer than they are."""
    ahead = (stopped_at - clock.now()).total_seconds()
    if ahead > 0:
        raise Transient(
            "The cluster's clock is ahead of ours: the attachments are copied once ours is there.", after=ahead
        )
