"""A rollout that goes as planned: waves, bakes, promotion, pruning, and what Git and the change say in the end."""

from __future__ import annotations

from datetime import timedelta

from changecontrol.actions.runs import ask_run
from changecontrol.models import AuditEvent, RunLog, RunTarget
from changecontrol.ports import ObjectRef
from tests.deployments.workflows.scene import GOOD, NEW, Scene, pass_time
from tests.factories import actor


def ask(scene: Scene, verb: str, reason: str = "Because.") -> None:
    ask_run(actor=actor(scene.estate.cy), run_id=scene.run().pk, verb=verb, reason=reason, at=scene.now())


def test_a_good_change_reaches_every_wave_and_git_names_it(scene: Scene) -> None:  # RUN-2, GIT-2
    change = scene.scheduled(NEW)

    run = scene.until("succeeded", "paused", "rolled_back", "failed")

    assert run.state == "succeeded", run.sentence
    assert scene.images() == {"odoo-pilot": NEW, "odoo-rest": NEW}
    assert scene.git.ref(scene.estate.production.ref) == change.plan.content["commit"]
    change.refresh_from_db()
    assert (change.state, change.close_code) == ("review", "successful")
    assert not run.locks.exists()


def test_the_second_wave_waits_until_the_first_is_healthy_and_baked(scene: Scene) -> None:  # RUN-2
    scene.scheduled(NEW)

    scene.until("baking")
    assert scene.images() == {"odoo-pilot": NEW, "odoo-rest": GOOD}
    scene.work(until=lambda: scene.run().wave == 1)

    pilot = scene.target("Deployment/odoo-pilot")
    opened_at = scene.run().wave_opened_at
    assert opened_at is not None
    assert pilot.finished_at is not None
    assert opened_at >= pilot.finished_at + timedelta(seconds=30)
    assert (pilot.state, pilot.sentence) == (
        "healthy",
        "production Deployment/odoo-pilot: healthy, 2 of 2 pods run the new version.",
    )


def test_shared_objects_go_before_the_workloads(scene: Scene) -> None:
    scene.scheduled(NEW)

    scene.until("succeeded")

    kinds = [effect.ref.kind for effect in scene.cluster.effects]
    assert kinds.index("ConfigMap") < kinds.index("Deployment")


def test_no_more_targets_are_updated_at_once_than_may_be_unavailable(scene: Scene) -> None:
    waves = [{"name": "All", "environments": ["production"], "bake_seconds": 10}]
    scene.scheduled(NEW, waves=waves, max_unavailable=1)
    seen = set()

    def done() -> bool:
        seen.add(RunTarget.objects.filter(state__in=["updating", "updated"]).count())
        return bool(scene.run().state == "succeeded") if RunTarget.objects.exists() else False

    scene.work(until=done)

    assert max(seen) == 1


def test_a_manual_wave_waits_for_a_person(scene: Scene) -> None:  # RUN-5
    waves = [
        {
            "name": "Pilot",
            "environments": ["production"],
            "cohorts": ["pilot"],
            "bake_seconds": 5,
            "promotion": "manual",
        },
        {"name": "Rest", "environments": ["production"], "bake_seconds": 5},
    ]
    scene.scheduled(NEW, waves=waves)

    scene.until("awaiting_promotion")
    pass_time(3600)
    scene.work(until=lambda: scene.run().state == "awaiting_promotion", limit=5)
    ask(scene, "promote")
    run = scene.until("succeeded")

    assert run.data["promoted"] == [0]
    assert RunLog.objects.filter(run=run, sentence__startswith="Promoted by Cy").exists()


def test_the_rest_of_a_bake_can_be_skipped_with_a_reason(scene: Scene) -> None:  # RUN-5
    waves = [{"name": "All", "environments": ["production"], "bake_seconds": 86_400}]
    scene.scheduled(NEW, waves=waves)

    scene.until("baking")
    ask(scene, "skip", "Measured by hand.")
    run = scene.until("succeeded", limit=20)

    assert run.data["skipped"] == [0]


def test_what_the_new_version_no_longer_has_is_pruned_and_nothing_else(scene: Scene) -> None:
    production = scene.estate.production
    scene.deployed()
    stray = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "old", "namespace": production.namespace}}
    labels = {"changecontrol.io/environment": production.inventory}
    scene.cluster.ensure_applied({**stray, "metadata": {**stray["metadata"], "labels": labels}})  # type: ignore[dict-item]
    foreign = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "foreign", "namespace": production.namespace},
        "data": {"a": "b"},
    }
    scene.cluster.apply_as("somebody", foreign)
    scene.scheduled(NEW, before=None)

    scene.until("succeeded")

    names = {ref.name for ref in scene.cluster.objects() if ref.namespace == production.namespace}
    assert "old" not in names
    assert {"foreign", "odoo"} <= names


def test_every_move_is_in_the_trail_and_in_the_log(scene: Scene) -> None:  # RUN-9
    change = scene.scheduled(NEW)

    run = scene.until("succeeded")

    tags = list(AuditEvent.objects.filter(change=change).values_list("tag", flat=True))
    assert tags.count("run:target:moved") == 3 * 3
    assert {"run:created", "run:moved", "run:object:applied", "run:git:moved", "change:started"} <= set(tags)
    applied = RunLog.objects.get(run=run, sentence__contains="odoo-rest: 1 object applied")
    changed = [line.strip() for line in applied.detail.splitlines() if line.startswith(("-  ", "+  "))]
    assert [line.lstrip("+- ") for line in changed] == [f"image: {GOOD}", f"image: {NEW}"]


def test_a_first_deployment_creates_everything(scene: Scene) -> None:
    change = scene.scheduled(NEW, before=None)

    scene.until("succeeded")

    assert change.plan.content["rollback"]["how"].startswith("Nothing was deployed here before")
    assert scene.git.ref(scene.estate.production.ref) == change.plan.content["commit"]


def test_effects_are_made_once_each(scene: Scene) -> None:  # RUN-1
    scene.scheduled(NEW)

    scene.until("succeeded")

    applied = [effect.ref for effect in scene.cluster.effects if effect.verb == "applied"]
    assert sorted(applied) == [
        ObjectRef("apps/v1", "Deployment", "northwind-production", "odoo-pilot"),
        ObjectRef("apps/v1", "Deployment", "northwind-production", "odoo-rest"),
    ]
