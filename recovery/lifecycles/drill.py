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


_D = DrillState

ENDED = frozenset({_D.PASSED, _D.FAILED})
ACTIVE = frozenset(_D) - ENDED

DRILL: Lifecycle[DrillState] = Lifecycle(
    name="drill",
    initial=_D.QUEUED,
    transitions={
        "provision": (frozenset({_D.QUEUED}), _D.PROVISIONING),
        "restore": (frozenset({_D.PROVISIONING}), _D.RESTORING),
        # L1 questions the copy where it lies: it needs no sandbox.
        "check": (frozenset({_D.QUEUED, _D.RESTORING}), _D.CHECKING),
        "tear_down": (ACTIVE - {_D.TEARING_DOWN}, _D.TEARING_DOWN),
        "pass": (frozenset({_D.TEARING_DOWN}), _D.PASSED),
        "fail": (frozenset({_D.TEARING_DOWN}), _D.FAILED),
    },
)
