"""Refused attempts are part of the trail, on the chain of what was aimed at: recovery's own things among them."""

from __future__ import annotations

from changecontrol.actions.refusals import audited_for
from changecontrol.models import Environment
from recovery.models import CorrectiveAction, Drill, LegalHold, Restore

audited = audited_for(
    {
        "environment_id": Environment,
        "hold_id": LegalHold,
        "drill_id": Drill,
        "restore_id": Restore,
        "corrective_action_id": CorrectiveAction,
    }
)
