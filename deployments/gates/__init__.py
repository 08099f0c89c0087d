"""The gates of a deployment, in the order a person reads them. Settings name `GATES`."""

from __future__ import annotations

from deployments.gates.conflicts import ConflictGate
from deployments.gates.cut_over import CutOverGate
from deployments.gates.dry_run import DryRunGate
from deployments.gates.policy import PolicyGate
from deployments.gates.recovery import BackupGate, DrillGate
from deployments.gates.rights import RightsGate
from deployments.gates.secrets import SecretGate
from deployments.gates.window import WindowGate

GATES = (
    DryRunGate(),
    CutOverGate(),
    PolicyGate(),
    SecretGate(),
    RightsGate(),
    WindowGate(),
    ConflictGate(),
    BackupGate(),
    DrillGate(),
)
