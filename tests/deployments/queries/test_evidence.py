"""What a rollout leaves for the auditor: targets, samples and log, without a secret among them."""

from __future__ import annotations

import json

from changecontrol.models import Artefact, AuditEvent, GateResult
from deployments.queries.evidence import contribute
from tests.deployments.workflows.scene import NEW, Scene
from tests.factories import submitted_change

CANARY = "canary-4711-never-to-be-seen"


def test_a_rollout_tells_every_target_and_the_whole_log(scene: Scene) -> None:  # RUN-9
    change = scene.scheduled(NEW)
    scene.until("succeeded")

    files = dict(contribute(change))

    assert sorted(files) == [
        "runs/01-assessment/log.ndjson",
        "runs/01-assessment/run.json",
        "runs/02-rollout/log.ndjson",
        "runs/02-rollout/run.json",
        "runs/02-rollout/targets.json",
    ]
    targets = json.loads(files["runs/02-rollout/targets.json"])
    assert [(one["workload"], one["wave"], one["state"]) for one in targets] == [
        (None, 0, "healthy"),
        ("Deployment/odoo-pilot", 0, "healthy"),
        ("Deployment/odoo-rest", 1, "healthy"),
    ]
    assert dict(contribute(change)) == files


def test_a_secret_in_a_variable_is_kept_nowhere(scene: Scene) -> None:  # RUN-9, SEC-1
    extra = f"""
---
apiVersion: batch/v1
kind: CronJob
metadata: {{name: nightly}}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - name: odoo
            image: {NEW}
            env: [{{name: DB_PASSWORD, value: {CANARY}}}]
"""
    scene.deployed()
    scene.commit(NEW, extra=extra)
    change = scene.assess(
        submitted_change(scene.estate, at=scene.now(), commit="", environments=["production"], waves=[])
    )

    assert change.state == "draft"
    assert change.problem.startswith("Deployment policy: ")
    kept = b"".join(scene.store.objects.values()) + b"".join(data for _, data in contribute(change))
    kept += "".join(AuditEvent.objects.values_list("body", flat=True)).encode()
    kept += "".join(GateResult.objects.values_list("sentence", flat=True)).encode() + change.problem.encode()
    assert Artefact.objects.filter(change=change).exists()
    assert b"no_secret_variables" in kept
    assert b"redacted:" in kept
    assert CANARY.encode() not in kept
