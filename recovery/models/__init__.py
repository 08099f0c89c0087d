"""What recovery keeps. Destinations, sources and credentials are addresses and references, never secrets."""

from recovery.models.backup import BackupRun
from recovery.models.drill import CorrectiveAction, Drill, DrillCheck, SignOff
from recovery.models.point import LegalHold, PointCopy, PointPart, RecoveryPoint, Verification, WalSegment
from recovery.models.policy import BackupPolicy
from recovery.models.restore import Restore

__all__ = [
    "BackupPolicy",
    "BackupRun",
    "CorrectiveAction",
    "Drill",
    "DrillCheck",
    "LegalHold",
    "PointCopy",
    "PointPart",
    "RecoveryPoint",
    "Restore",
    "SignOff",
    "Verification",
    "WalSegment",
]
