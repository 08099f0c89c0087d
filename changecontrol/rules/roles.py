"""The one table of roles and what each may do. Data; `changecontrol.access` asks it.

Whoever configures the platform has no vote by that power, and the executing identity never votes.
"""

from __future__ import annotations

from collections.abc import Mapping

from changecontrol.lifecycles.machine import Word


class Role(Word):
    ENGINEER = "engineer"
    TECHNICAL_REVIEWER = "technical_reviewer"
    CHANGE_MANAGER = "change_manager"
    FREEZE_OWNER = "freeze_owner"
    PROCESS_OWNER = "process_owner"
    RELEASE_OPERATOR = "release_operator"
    INCIDENT_COMMANDER = "incident_commander"
    RECOVERY_OWNER = "recovery_owner"
    SECURITY_APPROVER = "security_approver"
    TENANT_ADMINISTRATOR = "tenant_administrator"
    PLATFORM_ADMINISTRATOR = "platform_administrator"
    AUDITOR = "auditor"
    EXECUTOR = "executor"


class Ability(Word):
    CHANGE_VIEW = "change.view"
    CHANGE_CREATE = "change.create"
    CHANGE_EDIT = "change.edit"
    CHANGE_SUBMIT = "change.submit"
    CHANGE_VOTE = "change.vote"
    CHANGE_SCHEDULE = "change.schedule"
    CHANGE_CANCEL = "change.cancel"
    CHANGE_HOLD = "change.hold"
    CHANGE_CLOSE = "change.close"
    RUN_VIEW = "run.view"
    RUN_START = "run.start"
    RUN_PAUSE = "run.pause"
    RUN_RESUME = "run.resume"
    RUN_PROMOTE = "run.promote"
    RUN_SKIP = "run.skip"
    RUN_ABORT = "run.abort"
    RUN_ROLL_BACK = "run.roll_back"
    WINDOW_EDIT = "window.edit"
    FREEZE_OPEN = "freeze.open"
    FREEZE_LIFT = "freeze.lift"
    POLICY_EDIT = "policy.edit"
    ESTATE_VIEW = "estate.view"
    ESTATE_EDIT = "estate.edit"
    CLUSTER_EDIT = "cluster.edit"
    ACCESS_GRANT = "access.grant"
    AUDIT_VIEW = "audit.view"
    EVIDENCE_EXPORT = "evidence.export"


_A = Ability
_VIEW = frozenset({_A.CHANGE_VIEW, _A.RUN_VIEW, _A.ESTATE_VIEW})
_FILE = frozenset({_A.CHANGE_CREATE, _A.CHANGE_EDIT, _A.CHANGE_SUBMIT, _A.CHANGE_CANCEL, _A.EVIDENCE_EXPORT})
_SAFETY = frozenset({_A.RUN_PAUSE, _A.RUN_ABORT, _A.RUN_ROLL_BACK})
_OPERATE = _SAFETY | {_A.RUN_START, _A.RUN_RESUME, _A.RUN_PROMOTE, _A.RUN_SKIP}
_CONFIGURE = frozenset({_A.WINDOW_EDIT, _A.POLICY_EDIT, _A.ESTATE_EDIT, _A.ACCESS_GRANT, _A.AUDIT_VIEW})

ABILITIES: Mapping[Role, frozenset[Ability]] = {
    Role.ENGINEER: _VIEW | _FILE | {_A.RUN_PAUSE, _A.RUN_ABORT},
    Role.TECHNICAL_REVIEWER: _VIEW | {_A.CHANGE_VOTE, _A.EVIDENCE_EXPORT},
    Role.CHANGE_MANAGER: _VIEW
    | _SAFETY
    | {
        _A.CHANGE_VOTE,
        _A.CHANGE_SCHEDULE,
        _A.CHANGE_CANCEL,
        _A.CHANGE_HOLD,
        _A.CHANGE_CLOSE,
        _A.WINDOW_EDIT,
        _A.AUDIT_VIEW,
        _A.EVIDENCE_EXPORT,
    },
    Role.FREEZE_OWNER: _VIEW | {_A.FREEZE_OPEN, _A.FREEZE_LIFT},
    Role.PROCESS_OWNER: _VIEW | {_A.CHANGE_VOTE},
    Role.RELEASE_OPERATOR: _VIEW | _OPERATE | {_A.EVIDENCE_EXPORT},
    Role.INCIDENT_COMMANDER: _VIEW | _SAFETY | {_A.CHANGE_HOLD, _A.FREEZE_OPEN},
    Role.RECOVERY_OWNER: _VIEW,
    Role.SECURITY_APPROVER: _VIEW | {_A.CHANGE_VOTE},
    Role.TENANT_ADMINISTRATOR: _VIEW | _CONFIGURE,
    Role.PLATFORM_ADMINISTRATOR: _VIEW | _CONFIGURE | {_A.CLUSTER_EDIT},
    Role.AUDITOR: _VIEW | {_A.AUDIT_VIEW, _A.EVIDENCE_EXPORT},
    Role.EXECUTOR: frozenset(),
}
