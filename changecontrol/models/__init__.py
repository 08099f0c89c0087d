"""What the database holds. Constraints are named as the law they enforce."""

from changecontrol.models.access import (
    ApiToken,
    EnvironmentGroupObjectPermission,
    EnvironmentUserObjectPermission,
    TenantGroupObjectPermission,
    TenantUserObjectPermission,
    User,
)
from changecontrol.models.approval import ApprovalPolicy, ApprovalRound, Requirement, Vote
from changecontrol.models.audit import AuditEvent, AuditHead
from changecontrol.models.change import ChangeRequest, Contributor, Revision
from changecontrol.models.estate import (
    BusinessProcess,
    Cluster,
    Cohort,
    Environment,
    GitSource,
    Region,
    Store,
    Tenant,
)
from changecontrol.models.evidence import Artefact
from changecontrol.models.gate import GateResult
from changecontrol.models.job import Job
from changecontrol.models.outbox import IdempotencyKey, Message
from changecontrol.models.plan import Plan
from changecontrol.models.rehearsal import Rehearsal
from changecontrol.models.run import EnvironmentLock, Run, RunLog, RunTarget
from changecontrol.models.window import Freeze, Window

__all__ = [
    "ApiToken",
    "ApprovalPolicy",
    "ApprovalRound",
    "Artefact",
    "AuditEvent",
    "AuditHead",
    "BusinessProcess",
    "ChangeRequest",
    "Cluster",
    "Cohort",
    "Contributor",
    "Environment",
    "EnvironmentGroupObjectPermission",
    "EnvironmentLock",
    "EnvironmentUserObjectPermission",
    "Freeze",
    "GateResult",
    "GitSource",
    "IdempotencyKey",
    "Job",
    "Message",
    "Plan",
    "Region",
    "Rehearsal",
    "Requirement",
    "Revision",
    "Run",
    "RunLog",
    "RunTarget",
    "Store",
    "Tenant",
    "TenantGroupObjectPermission",
    "TenantUserObjectPermission",
    "User",
    "Vote",
    "Window",
]
