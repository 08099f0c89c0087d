"""Reads of what is kept of recovery for the record: every version, every backup, every hold, not what is in force."""

from __future__ import annotations

from django.db.models import QuerySet

from changecontrol.access import Scope
from recovery.models import BackupPolicy, BackupRun, CorrectiveAction, Drill, LegalHold
from recovery.queries.points import in_sight


def policy_versions_of(scope: Scope) -> QuerySet[BackupPolicy]:
    """Return every version of every policy, newest first."""
    return in_sight(scope, BackupPolicy.objects.select_related("environment__tenant", "created_by")).order_by("-id")


def backups_of(scope: Scope) -> QuerySet[BackupRun]:
    """Return backups, newest first, with the policy they follow and the point they made."""
    rows = BackupRun.objects.select_related("environment__tenant", "policy", "asked_by", "point")
    return in_sight(scope, rows).order_by("-id")


def corrective_actions_of(scope: Scope) -> QuerySet[CorrectiveAction]:
    """Return what drills found to be mended, closed ones too, newest first."""
    rows = CorrectiveAction.objects.select_related("drill__environment__tenant", "owner", "change", "closed_by")
    return rows.filter(drill__in=in_sight(scope, Drill.objects.all())).order_by("-id")


def holds_ever_of(scope: Scope) -> QuerySet[LegalHold]:
    """Return legal holds, lifted ones too, newest first."""
    rows = LegalHold.objects.select_related("environment__tenant", "point", "placed_by", "lifted_by")
    return in_sight(scope, rows).order_by("-id")
