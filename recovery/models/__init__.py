"""What recovery keeps. Destinations, sources and credentials are addresses and references, never secrets."""

from recovery.models.alarm import AlarmWatch, RaisedAlarm, WalSlot
from recovery.models.backup import BackupRun
from recovery.models.comparison import Disagreement
from recovery.models.cut_over import CutOver
from recovery.models.drill import CorrectiveAction, Drill, DrillCheck, SignOff
from recovery.models.point import (
    ClusterCoverage,
    FilestoreCopy,
    LegalHold,
    PointCopy,
    PointPart,
    RecoveryPoint,
    Upkeep,
    Verification,
    WalSegment,
)
from recovery.models.policy import BackupPolicy
from recovery.models.restore import Restore

__all__ = [
    "AlarmWatch",
    "BackupPolicy",
    "BackupRun",
    "ClusterCoverage",
    "CorrectiveAction",
    "CutOver",
    "Disagreement",
    "Drill",
    "DrillCheck",
    "FilestoreCopy",
    "LegalHold",
    "PointCopy",
    "PointPart",
    "RaisedAlarm",
    "RecoveryPoint",
    "Restore",
    "SignOff",
    "Upkeep",
    "Verification",
    "WalSegment",
    "WalSlot",
]
