"""The life of a restore. Its states are the parts into which the time to recover is split: BCK-6."""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class RestoreState(Word):
    QUEUED = "queued"
    PROVISIONING = "provisioning"
    RESTORING = "restoring"
    VALIDATING = "validating"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


_R = RestoreState

ENDED = frozenset({_R.SUCCEEDED, _R.FAILED, _R.CANCELED})
ACTIVE = frozenset(_R) - ENDED

RESTORE: Lifecycle[RestoreState] = Lifecycle(
    name="restore",
    initial=_R.QUEUED,
    transitions={
        "provision": (frozenset({_R.QUEUED}), _R.PROVISIONING),
        "restore": (frozenset({_R.PROVISIONING}), _R.RESTORING),
        "validate": (frozenset({_R.RESTORING}), _R.VALIDATING),
        "succeed": (frozenset({_R.VALIDATING}), _R.SUCCEEDED),
        "fail": (ACTIVE, _R.FAILED),
        "cancel": (ACTIVE, _R.CANCELED),
    },
)
