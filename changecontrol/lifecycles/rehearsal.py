"""The life of a rehearsal: an environment brought up elsewhere, looked at, and taken down again whatever came of it."""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class RehearsalState(Word):
    ASKED = "asked"
    BRINGING_UP = "bringing_up"
    UP = "up"
    FAILED = "failed"
    TEARING_DOWN = "tearing_down"
    GONE = "gone"
    LEFT = "left"


_S = RehearsalState

ENDED = frozenset({_S.GONE, _S.LEFT})
ACTIVE = frozenset(_S) - ENDED

REHEARSAL: Lifecycle[RehearsalState] = Lifecycle(
    name="rehearsal",
    initial=_S.ASKED,
    transitions={
        "begin": (frozenset({_S.ASKED}), _S.BRINGING_UP),
        "confirm": (frozenset({_S.BRINGING_UP}), _S.UP),
        "fail": (frozenset({_S.ASKED, _S.BRINGING_UP}), _S.FAILED),
        "tear_down": (ACTIVE - {_S.TEARING_DOWN}, _S.TEARING_DOWN),
        # What was left may go later, by itself, by a person or once its cluster answers again.
        "finish": (frozenset({_S.TEARING_DOWN, _S.LEFT}), _S.GONE),
        # Something of it is still there, and a person has to look.
        "give_up": (frozenset({_S.TEARING_DOWN}), _S.LEFT),
    },
)
