"""What is known of backups and drills stops a change, before its approval and again before its start (RBK-2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from changecontrol.models import ChangeRequest, GateResult, User
from recovery.models import BackupPolicy, ClusterCoverage, Drill, RecoveryPoint
from tests.deployments.workflows.scene import NEW, Scene, pass_time
from tests.factories import submitted_change
from tests.factories.recovery import backup_policy, finished_drill, recorded_point

CLAIM = """---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: filestore}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Gi}}}
"""


def submit(scene: Scene, *environments: str, before: Mapping[str, Any] | None = None) -> ChangeRequest:
    """Ask for a release, and let the gates judge it."""
    scene.deployed(**(before or {}))
    scene.commit(NEW)
    places = list(environments or ("production",))
    waves = [{"name": "Everybody", "environments": places, "bake_seconds": 30}]
    change = submitted_change(scene.estate, at=scene.now(), commit="", environments=places, waves=waves)
    return scene.assess(change)


def result(change: ChangeRequest, gate: str = "backup_freshness") -> GateResult:
    return GateResult.objects.filter(change=change, gate=gate).latest("pk")


def without_seconds(text: str) -> str:
    """Leave out what depends on how fast this machine is."""
    return re.sub(r" \d+ seconds?\b", "", re.sub(r"(\d\d:\d\d):\d\d UTC", r"\1 UTC", text))


def unprotect(scene: Scene) -> None:
    """Let nobody ever have written a backup policy."""
    BackupPolicy.objects.update(is_active=False)


def test_a_proved_point_and_a_drill_in_time_let_a_change_through(scene: Scene) -> None:
    change = submit(scene)

    assert change.state == "authorize", change.problem
    assert [
        (result(change, key).verdict, without_seconds(result(change, key).sentence))
        for key in ("backup_freshness", "drill_age")
    ] == [
        (
            "pass",
            "production: Point nightly of 23 Nov 2026 02:12 UTC, 8 hours old, is verified at L2.",
        ),
        (
            "pass",
            "production: The last drill passed at 23 Nov 2026 04:27 UTC, and the next is due by 21 Feb 2027 04:27 UTC.",
        ),
    ]
    assert result(change).artefact_sha256


def test_what_is_only_copied_stops_a_change_and_a_drill_lets_it_go_on(scene: Scene) -> None:  # RBK-2
    backup_policy(scene.estate.staging, at=scene.now() - timedelta(days=2))
    taken_at = scene.now() - timedelta(hours=1)
    rio = User.objects.get(username="rio")
    recorded_point(scene.estate.staging, "fresh", taken_at, by=rio)

    change = submit(scene, "staging")

    assert (change.state, result(change).verdict) == ("draft", "fail")
    assert change.problem == (
        "Freshness of backups: staging: No recovery point is verified. 1 is only copied. Take a backup, and hold a "
        "drill of it at L2 or above. Then submit this change again, or resume its run."
    )
    finished_drill(scene.estate.staging, by=rio, target_at=taken_at, at=scene.now() - timedelta(minutes=30))
    assert submit(scene, "staging").state == "authorize"


def test_a_point_at_l1_alone_does_not_count(scene: Scene) -> None:
    RecoveryPoint.objects.update(state="copied", level=1)

    assert result(submit(scene)).verdict == "fail"


def test_production_without_a_policy_fails_and_other_stages_pass(scene: Scene) -> None:
    unprotect(scene)

    production, staging = submit(scene), submit(scene, "staging")

    assert (result(production).verdict, result(staging).verdict) == ("fail", "pass")
    assert "production: nobody backs it up. A recovery owner writes a backup policy" in production.problem
    assert result(staging).sentence == "staging: nobody backs it up, and nothing asks for it here."


def test_where_policies_are_not_required_only_what_a_restore_alone_undoes_fails(scene: Scene, settings: Any) -> None:
    settings.BACKUP_POLICY_REQUIRED = False
    unprotect(scene)

    image_only, data_goes = submit(scene), submit(scene, before={"extra": CLAIM})

    assert [result(one).verdict for one in (image_only, data_goes)] == ["pass", "fail"]


def test_one_of_two_environments_is_enough_to_fail(scene: Scene) -> None:
    backup_policy(scene.estate.staging)

    change = submit(scene, "staging", "production")

    assert result(change).verdict == "fail"
    assert result(change).sentence.startswith(
        "staging: No recovery point is verified. There is none that is even copied."
    )
    assert "production" not in result(change).sentence


def test_a_point_of_another_environment_does_not_count(scene: Scene) -> None:
    backup_policy(scene.estate.staging)

    assert result(submit(scene, "staging")).verdict == "fail"


@pytest.mark.parametrize(("hours", "verdict"), [(16, "pass"), (18, "fail")])
def test_a_risky_change_needs_a_point_of_the_last_schedule(scene: Scene, hours: int, verdict: str) -> None:  # RBK-2
    pass_time(hours * 3600)  # the point is 8 hours old; one is taken every day, with an hour of grace

    change = submit(scene, before={"extra": CLAIM})

    assert result(change).verdict == verdict
    assert result(change, "drill_age").verdict == "pass"


def test_a_point_that_goes_stale_after_approval_stops_the_start(scene: Scene) -> None:  # GATE-1, RBK-2
    scene.scheduled(NEW)
    RecoveryPoint.objects.update(state="broken", level=0)
    pass_time(2 * 3600)

    run = scene.until("paused", "succeeded")

    assert (run.state, run.pause_reason) == ("paused", "needs_attention")
    assert run.sentence.startswith("Freshness of backups: production: No recovery point is verified.")


def test_an_overdue_drill_stops_a_change(scene: Scene) -> None:
    BackupPolicy.objects.update(verify_days=366)
    pass_time(91 * 86_400)

    change = submit(scene)

    assert [result(change, key).verdict for key in ("backup_freshness", "drill_age")] == ["pass", "fail"]
    assert without_seconds(change.problem) == (
        "Age of the last drill: production: The last drill passed at 23 Nov 2026 04:27 UTC, and one was due at "
        "21 Feb 2027 04:27 UTC. Hold a drill of it. Then submit this change again, or resume its run."
    )


def test_a_verified_point_that_leads_nowhere_stops_a_change(scene: Scene) -> None:  # RBK-2, BCK-3
    BackupPolicy.objects.update(engine="cloudnativepg")
    ClusterCoverage.objects.create(
        environment=scene.estate.production, system_identifier="7012", starts_at=scene.now(), ends_at=scene.now()
    )

    change = submit(scene, before={"extra": CLAIM})

    assert result(change).verdict == "fail"
    assert result(change).sentence.startswith(
        "production: No recovery point is verified. 1 that was can no longer be restored."
    )


@pytest.mark.parametrize("words", [{"sabotage": "flip"}, {"level": 1}, {"state": "failed"}], ids=str)
def test_a_drill_that_proves_no_way_back_is_none(scene: Scene, words: dict[str, Any]) -> None:
    BackupPolicy.objects.update(verify_days=366)
    BackupPolicy.objects.update(created_at=scene.now() - timedelta(days=100))
    Drill.objects.update(**words)

    change = submit(scene)

    assert result(change, "drill_age").verdict == "fail"
    assert "No drill has passed yet, and one was due at" in change.problem
