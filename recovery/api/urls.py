"""The addresses of recovery's part of the API."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from recovery.api.alarms import AlarmViewSet
from recovery.api.backups import BackupViewSet
from recovery.api.corrective_actions import CorrectiveActionViewSet
from recovery.api.drills import DrillViewSet
from recovery.api.environments import EnvironmentRecoveryViewSet
from recovery.api.holds import HoldViewSet
from recovery.api.points import PointViewSet
from recovery.api.policies import BackupPolicyViewSet
from recovery.api.restores import RestoreViewSet

router = SimpleRouter()
router.register("policies", BackupPolicyViewSet, basename="api-recovery-policy")
router.register("points", PointViewSet, basename="api-recovery-point")
router.register("backups", BackupViewSet, basename="api-recovery-backup")
router.register("restores", RestoreViewSet, basename="api-recovery-restore")
router.register("drills", DrillViewSet, basename="api-recovery-drill")
router.register("corrective-actions", CorrectiveActionViewSet, basename="api-recovery-corrective-action")
router.register("holds", HoldViewSet, basename="api-recovery-hold")
router.register("alarms", AlarmViewSet, basename="api-recovery-alarm")
router.register("environments", EnvironmentRecoveryViewSet, basename="api-recovery-environment")

urlpatterns = router.urls
