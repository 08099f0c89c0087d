"""The way back: what was touched serves what it served before, Git says so, and its times are told apart."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import yaml

from changecontrol.actions.runs import ask_run
from changecontrol.errors import Transient
from changecontrol.models import AuditEvent, Freeze, Message, Run
from changecontrol.ports import NotAllowed, ObjectRef
from tests.deployments.workflows.scene import BAD, GOOD, NEW, Scene, manifests, pass_time
from tests.factories import actor


def ask(scene: Scene, verb: str, reason: str = "Tills stand still.") -> None:
    ask_run(actor=actor(scene.estate.cy), run_id=scene.run().pk, verb=verb, reason=reason, at=scene.now())


def test_a_bad_image_is_rolled_back_and_git_says_so(scene: Scene) -> None:  # RBK-4, GIT-2
    scene.cluster.spoil_image(BAD)
    change = scene.scheduled(BAD)

    run = scene.until("rolled_back", "paused", "succeeded", "rollback_failed")

    assert run.state == "rolled_back", run.sentence
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}
    change.refresh_from_db()
    assert (change.state, change.close_code) == ("review", "rolled_back")
    newest, before = scene.git.log(scene.estate.production.ref)[:2]
    assert newest.startswith(f"Roll back {change.number}: ")
    assert before.startswith("Run aaaa")
    tree = scene.repository().inner.observe_tree
    ref = scene.git.ref(scene.estate.production.ref)
    scene.repository().inner.ensure_fetched()
    path = scene.estate.production.path
    assert tree(sha=ref, path=path) == tree(sha=change.plan.content["commit_from"], path=path)


def test_detected_decided_started_serving_and_verified_are_told_apart(scene: Scene) -> None:  # RBK-5
    scene.cluster.spoil_image(BAD)
    scene.scheduled(BAD)

    run = scene.until("rolled_back")

    times = [
        run.detected_at,
        run.rollback_decided_at,
        run.rollback_started_at,
        run.rollback_serving_at,
        run.rollback_verified_at,
    ]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]
    assert run.rollback_started_at < run.rollback_serving_at  # type: ignore[operator]


def test_only_what_was_touched_is_touched_again(scene: Scene) -> None:
    scene.cluster.spoil_image(BAD)
    scene.scheduled(BAD)

    scene.until("rolled_back")

    assert scene.target("Deployment/odoo-rest").state == "pending"
    assert scene.target("Deployment/odoo-pilot").state == "reverted"
    touched = {effect.ref.name for effect in scene.cluster.effects if effect.ref.kind == "Deployment"}
    assert touched == {"odoo-pilot"}


def test_a_person_can_roll_back_during_a_freeze_and_it_is_recorded_as_a_safety_action(scene: Scene) -> None:  # WIN-8
    change = scene.scheduled(NEW)
    scene.until("baking")
    Freeze.objects.create(
        name="Stop the line",
        reason="Tills stand still.",
        starts_at=scene.now(),
        ends_at=scene.now() + timedelta(days=1),
        opened_by=scene.estate.ben,
    )

    ask(scene, "roll_back")
    run = scene.until("rolled_back", "paused")

    assert run.state == "rolled_back"
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}
    assert AuditEvent.objects.filter(change=change, tag="run:safety_action", actor=scene.estate.cy).exists()


def test_an_aborted_run_can_still_be_rolled_back(scene: Scene) -> None:
    change = scene.scheduled(NEW)
    scene.until("baking")
    ask(scene, "abort")
    scene.until("aborted")

    ask(scene, "roll_back")
    scene.until("rolled_back")

    change.refresh_from_db()
    assert (change.state, change.close_code) == ("review", "rolled_back")
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}


def test_a_first_deployment_is_taken_back_by_deleting_what_it_created(scene: Scene) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "foreign", "namespace": "northwind-production"},
        "data": {"a": "b"},
    }
    scene.cluster.apply_as("somebody", foreign)
    scene.scheduled(NEW, before=None)
    scene.until("baking")

    ask(scene, "roll_back")
    scene.until("rolled_back")

    left = [ref.name for ref in scene.cluster.objects() if ref.namespace == "northwind-production"]
    assert left == ["foreign"]
    assert scene.git.ref(scene.estate.production.ref) is None


def test_a_rollback_that_fails_sounds_the_alarm_and_can_be_tried_again(scene: Scene) -> None:  # RBK-5
    change = scene.scheduled(NEW)
    scene.until("baking")
    scene.cluster.spoil_image(GOOD)

    ask(scene, "roll_back")
    run = scene.until("rollback_failed", "rolled_back")

    assert "ImagePullBackOff" in run.sentence
    change.refresh_from_db()
    assert (change.state, change.close_code) == ("review", "failed")
    assert Message.objects.filter(recipient=scene.estate.cy, text__contains="The rollback failed.").exists()
    scene.cluster.heal_image(GOOD)
    pass_time(60)
    scene.cluster.remove(
        next(
            ref
            for ref in scene.cluster.objects()
            if ref.name == "odoo-pilot" and ref.kind == "Deployment" and ref.namespace == "northwind-production"
        )
    )
    ask(scene, "roll_back", "The registry is back.")
    assert scene.until("rolled_back").state == "rolled_back"
    change.refresh_from_db()
    assert change.close_code == "rolled_back"


def test_a_right_that_is_lacking_for_a_moment_does_not_end_the_way_back(scene: Scene) -> None:  # RUN-8
    scene.scheduled(NEW)
    scene.until("baking")
    refusal = NotAllowed("The cluster no longer accepts this credential. Renew it where it is stored.")
    scene.cluster.script.fail_before("ensure_applied", refusal, times=2)

    ask(scene, "roll_back")

    assert scene.until("rolled_back", "rollback_failed").state == "rolled_back"


def test_a_way_back_whose_proof_never_comes_sounds_the_alarm(scene: Scene) -> None:  # RBK-5
    scene.scheduled(NEW)
    scene.until("baking")
    ask(scene, "roll_back")
    scene.cluster.script.fail_before(
        "observe_workloads", Transient("No route."), when=lambda call: scene.run().rollback_serving_at is not None
    )
    scene.work(until=lambda: scene.run().rollback_serving_at is not None)
    pilot = ObjectRef("apps/v1", "Deployment", scene.estate.production.namespace, "odoo-pilot")
    stored = scene.cluster._objects[pilot]
    stored.content["spec"]["progressDeadlineSeconds"] = 100_000
    stored.releases[-1] = replace(stored.releases[-1], ready_at=scene.now() + timedelta(days=1))

    run = scene.until("rollback_failed", "rolled_back", limit=2000)

    assert run.state == "rollback_failed"
    assert "no longer does" in run.sentence


def test_git_moved_by_a_worker_that_died_is_taken_back_all_the_same(scene: Scene) -> None:  # GIT-2, RBK-4
    change = scene.scheduled(NEW)
    scene.repository().script.fail_after("ensure_ref", Transient("The connection was cut."))
    scene.work(until=lambda: Run.objects.filter(data__has_key="pruned").exists())
    assert scene.git.ref(scene.estate.production.ref) == change.plan.content["commit"]

    ask(scene, "roll_back")
    run = scene.until("rolled_back", "rollback_failed", "succeeded")

    assert run.state == "rolled_back", run.sentence
    assert scene.git.log(scene.estate.production.ref)[0].startswith(f"Roll back {change.number}: ")
    bodies = [json.loads(one.body)["data"] for one in AuditEvent.objects.filter(tag="run:git:moved").order_by("pk")]
    commit = change.plan.content["commit"]
    assert [(one["from"], one["to"]) for one in bodies] == [
        (change.plan.content["environments"][0]["commit_from"], commit),
        (commit, scene.git.ref(scene.estate.production.ref)),
    ]


def prune_and_stand_still(scene: Scene) -> None:
    """Bring a version without `odoo-rest` to an environment without shared objects, up to the move of its ref."""

    def workloads(image: str, *cohorts: str) -> list[dict[str, Any]]:
        found = []
        for one in yaml.safe_load_all(manifests(image, cohorts=list(cohorts), replicas=1)):
            if one["kind"] == "Deployment":
                annotations = {"changecontrol.io/single-replica": "One till."}
                metadata = {**one["metadata"], "annotations": annotations}
                found.append(json.loads(json.dumps({**one, "metadata": metadata})))
        return found

    environment = scene.estate.production
    path = f"{environment.path}/all.yaml"
    before = workloads(GOOD, "pilot", "rest")
    scene.git.move(environment.ref, scene.git.commit({path: yaml.safe_dump_all(before)}))
    for document in before:
        document["metadata"]["namespace"] = environment.namespace
        document["metadata"]["labels"]["changecontrol.io/environment"] = environment.inventory
        scene.cluster.ensure_applied(document)
    scene.git.commit({path: yaml.safe_dump_all(workloads(NEW, "pilot"))})
    waves = [{"name": "All", "environments": ["production"], "bake_seconds": 1}]
    scene.scheduled(before=None, commit=False, waves=waves)
    scene.repository().script.fail_before("ensure_ref", Transient("No route."))
    scene.work(until=lambda: Run.objects.filter(data__has_key="pruned").exists())
    assert set(scene.images()) == {"odoo-pilot"}


def test_what_was_pruned_comes_back_where_nothing_is_shared(scene: Scene) -> None:
    prune_and_stand_still(scene)

    ask(scene, "roll_back")
    run = scene.until("rolled_back", "rollback_failed", "succeeded")

    assert run.state == "rolled_back", run.sentence
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}


def test_what_was_pruned_has_to_be_healthy_again_too(scene: Scene) -> None:  # RBK-5
    prune_and_stand_still(scene)
    ask(scene, "roll_back")
    scene.cluster.script.fail_before(
        "observe_workloads", Transient("No route."), when=lambda call: scene.run().rollback_serving_at is not None
    )
    scene.work(until=lambda: scene.run().rollback_serving_at is not None)
    rest = ObjectRef("apps/v1", "Deployment", scene.estate.production.namespace, "odoo-rest")
    scene.cluster.remove(rest)

    run = scene.until("rolled_back", "rollback_failed")

    assert (run.state, "odoo-rest is gone" in run.sentence) == ("rollback_failed", True)
