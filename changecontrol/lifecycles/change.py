"""The life of a change: its states, the one table of moves between them, and how it may end.

A verb is named after the state it reaches wherever that reads as an order.
"""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class ChangeState(Word):
    DRAFT = "draft"
    SUBMITTED = "submitted"
    ASSESS = "assess"
    AUTHORIZE = "authorize"
    SCHEDULED = "scheduled"
    IMPLEMENTING = "implementing"
    VALIDATING = "validating"
    REVIEW = "review"
    CLOSED = "closed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELED = "canceled"
    ON_HOLD = "on_hold"


class ChangeType(Word):
    STANDARD = "standard"
    NORMAL = "normal"
    EMERGENCY = "emergency"


class ChangeKind(Word):
    DEPLOY = "deploy"
    PROVISION = "provision"
    ROTATE_SECRET = "rotate_secret"  # noqa: S105 - a kind of work
    RENEW_CERTIFICATE = "renew_certificate"
    BACKUP = "backup"
    RESTORE = "restore"
    FAILOVER = "failover"
    MANUAL = "manual"


class CloseCode(Word):
    SUCCESSFUL = "successful"
    SUCCESSFUL_WITH_ISSUES = "successful_with_issues"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    NOT_EXECUTED = "not_executed"


_S = ChangeState
_BEFORE_EXECUTION = frozenset({_S.SUBMITTED, _S.ASSESS, _S.AUTHORIZE, _S.SCHEDULED})

MAIN_PATH = (
    _S.DRAFT,
    _S.SUBMITTED,
    _S.ASSESS,
    _S.AUTHORIZE,
    _S.SCHEDULED,
    _S.IMPLEMENTING,
    _S.VALIDATING,
    _S.REVIEW,
    _S.CLOSED,
)
"""The states a change that goes well passes, in order."""

EXECUTING = frozenset({_S.IMPLEMENTING, _S.VALIDATING})
EDITABLE = _BEFORE_EXECUTION | {_S.DRAFT, _S.REJECTED, _S.EXPIRED}
"""Where a new revision may be written: in place for a draft, else by `revise` or `resubmit`."""
ENDED = frozenset({_S.CLOSED, _S.CANCELED})

CHANGE: Lifecycle[ChangeState] = Lifecycle(
    name="change",
    initial=_S.DRAFT,
    transitions={
        "submit": (frozenset({_S.DRAFT}), _S.SUBMITTED),
        # The plan is resolved and its gates begin.
        "assess": (frozenset({_S.SUBMITTED}), _S.ASSESS),
        # The requester mends what a gate or the resolver found; nothing was asked of an approver yet.
        "fail_assessment": (frozenset({_S.SUBMITTED, _S.ASSESS}), _S.DRAFT),
        # Every blocking gate passed; approvers are asked.
        "authorize": (frozenset({_S.ASSESS}), _S.AUTHORIZE),
        # A new revision is resolved and judged from the start. Votes survive only where its digest is the same.
        "revise": (_BEFORE_EXECUTION, _S.SUBMITTED),
        "reject": (frozenset({_S.AUTHORIZE}), _S.REJECTED),
        # Nobody decided in time. A timeout is a refusal.
        "expire": (frozenset({_S.AUTHORIZE}), _S.EXPIRED),
        "resubmit": (frozenset({_S.REJECTED, _S.EXPIRED}), _S.SUBMITTED),
        # The quorum is met; also a new planned start for what is scheduled already.
        "schedule": (frozenset({_S.AUTHORIZE, _S.SCHEDULED}), _S.SCHEDULED),
        # A vote was withdrawn, an approval expired, or an approver left before the start.
        "unschedule": (frozenset({_S.SCHEDULED}), _S.AUTHORIZE),
        "hold": (_BEFORE_EXECUTION, _S.ON_HOLD),
        # The world moved on during a hold: resolve and judge again. Votes on an unchanged digest still count.
        "release": (frozenset({_S.ON_HOLD}), _S.SUBMITTED),
        "start": (frozenset({_S.SCHEDULED}), _S.IMPLEMENTING),
        "finish": (frozenset({_S.IMPLEMENTING}), _S.VALIDATING),
        # The run failed, was aborted or was rolled back: there is nothing to validate, much to review.
        "fail": (EXECUTING, _S.REVIEW),
        "review": (frozenset({_S.VALIDATING}), _S.REVIEW),
        "close": (frozenset({_S.REVIEW}), _S.CLOSED),
        "reopen": (frozenset({_S.CLOSED}), _S.REVIEW),
        "cancel": (_BEFORE_EXECUTION | {_S.DRAFT, _S.REJECTED, _S.EXPIRED, _S.ON_HOLD}, _S.CANCELED),
    },
)
