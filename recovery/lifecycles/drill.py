"""The life of a drill. Whatever happens, it tears down before it has a verdict: cleaning up is part of it (BCK-8)."""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class DrillState(Word):
    QUEUED = "queued"
    PROVISIONING = "provisioning"
    RESTORING = "restoring"
    CHECKING = "checking"
    TEARING_DOWN = "tearing_down"
    PASSED = "passed"
    FAILED = "failed"
    CANCELED = "canceled"


_D = DrillState

JUDGED = frozenset({_D.PASSED, _D.FAILED})
ENDED = JUDGED | {_D.CANCELED}
ACTIVE = frozenset(_D) - ENDED
UNDER_WAY = ACTIVE - {_D.TEARING_DOWN}
"""It waits, brings back or asks: what comes of it is not known yet, so it may be canceled."""

DRILL: Lifecycle[DrillState] = Lifecycle(
    name="drill",
    initial=_D.QUEUED,
    transitions={
        "provision": (frozenset({_D.QUEUED}), _D.PROVISIONING),
        "restore": (frozenset({_D.PROVISIONING}), _D.RESTORING),
        # L1 questions the copy where it lies: it needs no sandbox.
        "check": (frozenset({_D.QUEUED, _D.RESTORING}), _D.CHECKING),
        "tear_down": (UNDER_WAY, _D.TEARING_DOWN),
        # By a person: it clears away like any other, and is then neither passed nor failed.
        "cancel": (UNDER_WAY, _D.TEARING_DOWN),
        "pass": (frozenset({_D.TEARING_DOWN}), _D.PASSED),
        "fail": (frozenset({_D.TEARING_DOWN}), _D.FAILED),
        "end_unjudged": (frozenset({_D.TEARING_DOWN}), _D.CANCELED),
    },
)
