"""The one table of what each role may do. `access.py` asks it; nothing else decides by role.

Whoever configures never votes by that power, an auditor only reads, and the executor never votes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Role(StrEnum):
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

    @property
    def label(self) -> str:
        return self.value.replace("_", " ").capitalize()

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        return [(role.value, role.label) for role in cls]


class Ability(StrEnum):
    CHANGE_VIEW = "change.view"
    CHANGE_CREATE = "change.create"
    CHANGE_EDIT = "change.edit"
    CHANGE_SUBMIT = "change.submit"
    CHANGE_VOTE = "change.vote"
    CHANGE_SCHEDULE = "change.schedule"
    CHANGE_HOLD = "change.hold"
    CHANGE_CANCEL = "change.cancel"
    CHANGE_REVIEW = "change.review"
    CHANGE_CLOSE = "change.close"
    CHANGE_EXECUTE = "change.execute"
    RUN_VIEW = "run.view"
    RUN_START = "run.start"
    RUN_PAUSE = "run.pause"
    RUN_RESUME = "run.resume"
    RUN_PROMOTE = "run.promote"
    RUN_SKIP = "run.skip"
    RUN_ABORT = "run.abort"
    RUN_ROLL_BACK = "run.roll_back"
    WINDOW_VIEW = "window.view"
    WINDOW_EDIT = "window.edit"
    FREEZE_OPEN = "freeze.open"
    FREEZE_LIFT = "freeze.lift"
    POLICY_VIEW = "policy.view"
    POLICY_EDIT = "policy.edit"
    ESTATE_VIEW = "estate.view"
    ESTATE_EDIT = "estate.edit"
    ACCESS_VIEW = "access.view"
    ACCESS_GRANT = "access.grant"
    AUDIT_VIEW = "audit.view"
    EVIDENCE_VIEW = "evidence.view"
    EVIDENCE_EXPORT = "evidence.export"
    RECOVERY_VIEW = "recovery.view"
    RECOVERY_EDIT = "recovery.edit"
    RECOVERY_BACK_UP = "recovery.back_up"
    RECOVERY_RESTORE = "recovery.restore"
    RECOVERY_RESTORE_INCIDENT = "recovery.restore_incident"
    RECOVERY_DRILL = "recovery.drill"
    RECOVERY_SIGN_OFF = "recovery.sign_off"
    RECOVERY_HOLD = "recovery.hold"


_A = Ability
VIEWING = frozenset(
    {_A.CHANGE_VIEW, _A.RUN_VIEW, _A.WINDOW_VIEW, _A.POLICY_VIEW, _A.ESTATE_VIEW, _A.EVIDENCE_VIEW, _A.RECOVERY_VIEW}
)
CONFIGURING = frozenset({_A.WINDOW_EDIT, _A.POLICY_EDIT, _A.ESTATE_EDIT, _A.ACCESS_GRANT})
SAFETY = frozenset({_A.RUN_PAUSE, _A.RUN_ABORT, _A.RUN_ROLL_BACK})
_OPERATING = SAFETY | {_A.RUN_START, _A.RUN_RESUME, _A.RUN_PROMOTE, _A.RUN_SKIP}
_REQUESTING = frozenset({_A.CHANGE_CREATE, _A.CHANGE_EDIT, _A.CHANGE_SUBMIT, _A.CHANGE_CANCEL, _A.CHANGE_REVIEW})

_RECOVERING = frozenset(
    {_A.RECOVERY_EDIT, _A.RECOVERY_BACK_UP, _A.RECOVERY_RESTORE, _A.RECOVERY_RESTORE_INCIDENT, _A.RECOVERY_DRILL}
    | {_A.RECOVERY_SIGN_OFF, _A.RECOVERY_HOLD}
)

ABILITIES: Mapping[Role, frozenset[Ability]] = {
    Role.ENGINEER: VIEWING | _REQUESTING | {_A.CHANGE_SCHEDULE, _A.RUN_START, _A.RUN_PAUSE, _A.EVIDENCE_EXPORT},
    Role.TECHNICAL_REVIEWER: VIEWING | {_A.CHANGE_VOTE},
    Role.CHANGE_MANAGER: VIEWING
    | SAFETY
    | {_A.CHANGE_VOTE, _A.CHANGE_SCHEDULE, _A.CHANGE_HOLD, _A.CHANGE_CANCEL, _A.CHANGE_REVIEW, _A.CHANGE_CLOSE}
    | {_A.RUN_START, _A.RUN_RESUME, _A.RUN_PROMOTE, _A.AUDIT_VIEW, _A.EVIDENCE_EXPORT},
    Role.FREEZE_OWNER: VIEWING | {_A.FREEZE_OPEN, _A.FREEZE_LIFT, _A.CHANGE_HOLD, _A.RUN_PAUSE},
    Role.PROCESS_OWNER: VIEWING | {_A.CHANGE_VOTE, _A.CHANGE_HOLD, _A.RUN_PAUSE, _A.RECOVERY_SIGN_OFF},
    Role.RELEASE_OPERATOR: VIEWING | _OPERATING | {_A.RECOVERY_BACK_UP},
    Role.INCIDENT_COMMANDER: VIEWING
    | _OPERATING
    | {_A.CHANGE_CREATE, _A.CHANGE_HOLD, _A.FREEZE_OPEN, _A.RECOVERY_BACK_UP, _A.RECOVERY_RESTORE_INCIDENT},
    Role.RECOVERY_OWNER: VIEWING | _RECOVERING | {_A.CHANGE_VOTE, _A.RUN_ROLL_BACK},
    Role.SECURITY_APPROVER: VIEWING | {_A.CHANGE_VOTE, _A.AUDIT_VIEW, _A.RECOVERY_HOLD},
    Role.TENANT_ADMINISTRATOR: VIEWING | CONFIGURING | {_A.ACCESS_VIEW, _A.AUDIT_VIEW},
    Role.PLATFORM_ADMINISTRATOR: VIEWING
    | CONFIGURING
    | {_A.ACCESS_VIEW, _A.AUDIT_VIEW, _A.FREEZE_OPEN, _A.FREEZE_LIFT, _A.RECOVERY_EDIT},
    Role.AUDITOR: VIEWING | {_A.ACCESS_VIEW, _A.AUDIT_VIEW, _A.EVIDENCE_EXPORT},
    Role.EXECUTOR: VIEWING | {_A.CHANGE_EXECUTE},
}


def abilities_of(roles: Iterable[str]) -> frozenset[Ability]:
    """Return what holding these roles allows. A role that is not in the table allows nothing."""
    held = {role.value for role in Role} & set(roles)
    return frozenset(ability for role in held for ability in ABILITIES[Role(role)])


def roles_with(ability: Ability) -> tuple[Role, ...]:
    """List the roles that allow it, for the sentence that says whom to ask."""
    return tuple(role for role in Role if ability in ABILITIES[role])
