"""The pages of recovery."""

from __future__ import annotations

from django.urls import path

from recovery.views import backups, drills, holds, home, places, points, policies, restores, retention

ENVIRONMENT = "recovery/environments/<slug:tenant>/<slug:slug>/"

urlpatterns = [
    path("recovery/", home.recovery, name="recovery"),
    path(ENVIRONMENT, places.environment, name="recovery-environment"),
    path(f"{ENVIRONMENT}hold/", holds.hold_everything, name="hold-everything"),
    path(f"{ENVIRONMENT}policy/", policies.backup_policy, name="backup-policy"),
    path(f"{ENVIRONMENT}policy/edit/", policies.backup_policy_edit, name="backup-policy-edit"),
    path("recovery/usage/", retention.usage, name="recovery-usage"),
    path(f"{ENVIRONMENT}retention/", retention.retention, name="retention"),
    path("recovery/differences/<int:disagreement_id>/let-go/", retention.unknown_let_go, name="unknown-let-go"),
    path("recovery/differences/<int:disagreement_id>/take-in/", retention.unknown_take_in, name="unknown-take-in"),
    path(f"{ENVIRONMENT}back-up/", backups.back_up, name="back-up"),
    path("recovery/backups/<int:run_id>/", backups.backup, name="backup"),
    path("recovery/backups/<int:run_id>/cancel/", backups.backup_cancel, name="backup-cancel"),
    path("recovery/points/<int:point_id>/", points.point, name="point"),
    path("recovery/points/<int:point_id>/hold/", holds.hold_point, name="hold-point"),
    path("recovery/points/<int:point_id>/drill/", points.point_drill, name="point-drill"),
    path("recovery/holds/<int:hold_id>/lift/", holds.hold_lift, name="hold-lift"),
    path("recovery/restores/", restores.restores, name="restores"),
    path("recovery/restores/new/", restores.restore_new, name="restore-new"),
    path("recovery/restores/<int:restore_id>/", restores.restore, name="restore"),
    path("recovery/restores/<int:restore_id>/cancel/", restores.restore_cancel, name="restore-cancel"),
    path("recovery/drills/", drills.drills, name="drills"),
    path("recovery/drills/new/", drills.drill_new, name="drill-new"),
    path("recovery/drills/reports.ndjson", drills.drill_reports, name="drill-reports"),
    path("recovery/drills/<int:drill_id>/", drills.drill, name="drill"),
    path("recovery/drills/<int:drill_id>/cancel/", drills.drill_cancel, name="drill-cancel"),
    path("recovery/drills/<int:drill_id>/sign-off/", drills.drill_sign_off, name="drill-sign-off"),
    path("recovery/drills/<int:drill_id>/report.pdf", drills.drill_pdf, name="drill-pdf"),
    path("recovery/drills/<int:drill_id>/report.json", drills.drill_json, name="drill-json"),
    path(
        "recovery/corrective-actions/<int:corrective_action_id>/link/",
        drills.corrective_action_link,
        name="corrective-action-link",
    ),
    path(
        "recovery/corrective-actions/<int:corrective_action_id>/close/",
        drills.corrective_action_close,
        name="corrective-action-close",
    ),
]
