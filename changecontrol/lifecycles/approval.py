"""The life of an approval round and of the stages inside it. A vote has no life: it is a row that never changes."""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class RoundState(Word):
    OPEN = "open"
    GRANTED = "granted"
    REFUSED = "refused"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class StageState(Word):
    WAITING = "waiting"
    OPEN = "open"
    COMPLETE = "complete"
    ENDED = "ended"


_R = RoundState
_S = StageState

ROUND: Lifecycle[RoundState] = Lifecycle(
    name="approval round",
    initial=_R.OPEN,
    transitions={
        "grant": (frozenset({_R.OPEN}), _R.GRANTED),
        "refuse": (frozenset({_R.OPEN}), _R.REFUSED),
        # A vote was withdrawn, the plan was resolved again, or an approver left before the start.
        "reopen": (frozenset({_R.GRANTED}), _R.OPEN),
        "expire": (frozenset({_R.OPEN, _R.GRANTED}), _R.EXPIRED),
        # Another round took its place after resubmission.
        "supersede": (frozenset({_R.OPEN, _R.GRANTED}), _R.SUPERSEDED),
    },
)

STAGE: Lifecycle[StageState] = Lifecycle(
    name="approval stage",
    initial=_S.WAITING,
    transitions={
        "open": (frozenset({_S.WAITING}), _S.OPEN),
        "complete": (frozenset({_S.OPEN}), _S.COMPLETE),
        "reopen": (frozenset({_S.COMPLETE}), _S.OPEN),
        # An earlier stage lost its quorum, so this one waits for it again.
        "wait": (frozenset({_S.OPEN, _S.COMPLETE}), _S.WAITING),
        # The round ended before this stage was complete.
        "end": (frozenset({_S.WAITING, _S.OPEN}), _S.ENDED),
    },
)
