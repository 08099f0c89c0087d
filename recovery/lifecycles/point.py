"""The life of a recovery point, and of the backup that makes one.

A point is `copied` until it was restored, started and questioned; whatever a check finds wrong breaks it.
"""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class PointState(Word):
    COPIED = "copied"
    VERIFIED = "verified"
    BROKEN = "broken"
    REMOVED = "removed"


class BackupState(Word):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


_P = PointState
_B = BackupState

RESTORABLE = frozenset({_P.COPIED, _P.VERIFIED})
KEPT = frozenset(_P) - {_P.REMOVED}
"""Whose bytes are still in the store."""
ACTIVE_BACKUPS = frozenset({_B.QUEUED, _B.RUNNING})

POINT: Lifecycle[PointState] = Lifecycle(
    name="recovery point",
    initial=_P.COPIED,
    transitions={
        # Once more is proof too: a later check may reach a higher level, or mend what an earlier one found.
        "verify": (KEPT, _P.VERIFIED),
        "break": (KEPT, _P.BROKEN),
        # What failed passes now, and there is no proof of more.
        "mend": (frozenset({_P.BROKEN}), _P.COPIED),
        "remove": (KEPT, _P.REMOVED),
    },
)

BACKUP: Lifecycle[BackupState] = Lifecycle(
    name="backup",
    initial=_B.QUEUED,
    transitions={
        "start": (frozenset({_B.QUEUED}), _B.RUNNING),
        "succeed": (frozenset({_B.RUNNING}), _B.SUCCEEDED),
        "fail": (ACTIVE_BACKUPS, _B.FAILED),
        "cancel": (ACTIVE_BACKUPS, _B.CANCELED),
    },
)
