"""The life of a run and of each of its targets, whichever app carries it out.

A paused run goes back through preflight: leave to start is not leave to go on.
"""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class RunState(Word):
    QUEUED = "queued"
    WAITING_FOR_WINDOW = "waiting_for_window"
    PREFLIGHT = "preflight"
    RUNNING = "running"
    BAKING = "baking"
    AWAITING_PROMOTION = "awaiting_promotion"
    PAUSED = "paused"
    ABORTING = "aborting"
    ABORTED = "aborted"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class TargetState(Word):
    PENDING = "pending"
    UPDATING = "updating"
    UPDATED = "updated"
    HEALTHY = "healthy"
    DEFERRED = "deferred"
    FAILED = "failed"
    REVERTED = "reverted"
    SKIPPED = "skipped"


class PauseReason(Word):
    """Why a run stands still."""

    BY_PERSON = "by_person"
    WINDOW_CLOSED = "window_closed"
    FREEZE = "freeze"
    PLAN_DRIFT = "plan_drift"
    CLUSTER_UNREACHABLE = "cluster_unreachable"
    APPLY_CONFLICT = "apply_conflict"
    FAILURE_BUDGET = "failure_budget"
    HEALTH = "health"
    ANALYSIS = "analysis"
    DEFERRED_TARGETS = "deferred_targets"
    NEEDS_ATTENTION = "needs_attention"


_R = RunState
_T = TargetState
_UNDER_WAY = frozenset({_R.RUNNING, _R.BAKING, _R.AWAITING_PROMOTION})
_BEFORE_WORK = frozenset({_R.QUEUED, _R.WAITING_FOR_WINDOW, _R.PREFLIGHT})

ENDED = frozenset({_R.ABORTED, _R.ROLLED_BACK, _R.ROLLBACK_FAILED, _R.SUCCEEDED, _R.FAILED})
"""Nothing more happens by itself. A person may still roll back what was aborted or failed."""
ACTIVE = frozenset(_R) - ENDED
SAFETY_VERBS = frozenset({"pause", "abort", "roll_back"})
"""No window or freeze ever blocks these."""
HUMAN_VERBS = ("start", "pause", "resume", "promote", "skip", "abort", "roll_back")

RUN: Lifecycle[RunState] = Lifecycle(
    name="run",
    initial=_R.QUEUED,
    transitions={
        "wait": (frozenset({_R.QUEUED, _R.PREFLIGHT}), _R.WAITING_FOR_WINDOW),
        "start": (frozenset({_R.QUEUED, _R.WAITING_FOR_WINDOW}), _R.PREFLIGHT),
        # Preflight passed, or the wave before it baked: the next wave opens.
        "advance": (frozenset({_R.PREFLIGHT, _R.BAKING}), _R.RUNNING),
        "bake": (frozenset({_R.RUNNING}), _R.BAKING),
        "await_promotion": (frozenset({_R.RUNNING, _R.BAKING}), _R.AWAITING_PROMOTION),
        "promote": (frozenset({_R.AWAITING_PROMOTION}), _R.RUNNING),
        # Skips what is left of a bake, with a reason.
        "skip": (frozenset({_R.BAKING}), _R.RUNNING),
        "pause": (_BEFORE_WORK | _UNDER_WAY, _R.PAUSED),
        "resume": (frozenset({_R.PAUSED}), _R.PREFLIGHT),
        "abort": (_BEFORE_WORK | _UNDER_WAY | {_R.PAUSED}, _R.ABORTING),
        "finish_abort": (frozenset({_R.ABORTING}), _R.ABORTED),
        # Never from `rolling_back`: there is no rollback of a rollback. A failed one may be tried again.
        "roll_back": (
            _UNDER_WAY
            | {_R.WAITING_FOR_WINDOW, _R.PREFLIGHT, _R.PAUSED}
            | {_R.ABORTING, _R.ABORTED, _R.FAILED, _R.ROLLBACK_FAILED},
            _R.ROLLING_BACK,
        ),
        "finish_rollback": (frozenset({_R.ROLLING_BACK}), _R.ROLLED_BACK),
        "fail_rollback": (frozenset({_R.ROLLING_BACK}), _R.ROLLBACK_FAILED),
        "succeed": (_UNDER_WAY, _R.SUCCEEDED),
        "fail": (_BEFORE_WORK | _UNDER_WAY | {_R.PAUSED}, _R.FAILED),
    },
)

TARGET: Lifecycle[TargetState] = Lifecycle(
    name="target",
    initial=_T.PENDING,
    transitions={
        "update": (frozenset({_T.PENDING}), _T.UPDATING),
        # Every object is applied; the cluster has yet to follow.
        "finish_update": (frozenset({_T.UPDATING}), _T.UPDATED),
        "confirm": (frozenset({_T.UPDATED}), _T.HEALTHY),
        # Unreachable is deferred, not failed, and is chased.
        "defer": (frozenset({_T.PENDING, _T.UPDATING, _T.UPDATED}), _T.DEFERRED),
        "retry": (frozenset({_T.DEFERRED, _T.FAILED}), _T.PENDING),
        "fail": (frozenset({_T.PENDING, _T.UPDATING, _T.UPDATED, _T.HEALTHY, _T.DEFERRED}), _T.FAILED),
        "skip": (frozenset({_T.PENDING, _T.DEFERRED, _T.FAILED}), _T.SKIPPED),
        "revert": (frozenset({_T.UPDATING, _T.UPDATED, _T.HEALTHY, _T.DEFERRED, _T.FAILED}), _T.REVERTED),
    },
)
