"""The life of a restore into production: what is done beside what runs, and how long the way back stays open."""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class CutOverState(Word):
    BACKING_UP = "backing_up"
    RESTORING = "restoring"
    READY = "ready"
    KEPT = "kept"
    OVER = "over"
    FAILED = "failed"
    ABANDONED = "abandoned"


_C = CutOverState

PREPARING = frozenset({_C.BACKING_UP, _C.RESTORING})
"""Nothing that runs has been touched yet."""
ACTIVE = PREPARING | {_C.READY, _C.KEPT}

CUT_OVER: Lifecycle[CutOverState] = Lifecycle(
    name="cut-over",
    initial=_C.BACKING_UP,
    transitions={
        "restore": (frozenset({_C.BACKING_UP}), _C.RESTORING),
        "ready": (frozenset({_C.RESTORING}), _C.READY),
        # The rollout has begun: from then on the new database takes what is written.
        "put_in_place": (frozenset({_C.READY}), _C.READY),
        # The rollout has put the new database in the place of the old one, which stays for a while.
        "keep": (frozenset({_C.READY}), _C.KEPT),
        "release": (frozenset({_C.KEPT}), _C.OVER),
        "fail": (PREPARING, _C.FAILED),
        "abandon": (PREPARING | {_C.READY}, _C.ABANDONED),
        # A run that had ended in the middle was taken back afterwards.
        "take_back": (frozenset({_C.ABANDONED}), _C.ABANDONED),
    },
)
