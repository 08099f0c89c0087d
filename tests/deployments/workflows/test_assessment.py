"""Assessment: from a submitted revision to a plan that approvers are asked about, or back to its author."""

from __future__ import annotations

from typing import Any

import pytest

from changecontrol.actions.changes import cancel_change, hold_change, release_change, revise_change
from changecontrol.errors import Permanent, Transient, UnderWay
from changecontrol.models import AuditEvent, ChangeRequest, Contributor, GateResult, Message, Run
from changecontrol.ports import Right
from deployments.workflows.assessment import Assessment
from tests.deployments.workflows.scene import GOOD, NEW, Scene, manifests
from tests.factories import actor, submitted_change


def submit(scene: Scene, **answers: Any) -> ChangeRequest:
    asked = {"commit": "", "environments": ["production"], **answers}
    return submitted_change(scene.estate, at=scene.now(), **asked)


def only(image: str = NEW, **words: Any) -> str:
    return manifests(image, cohorts=["pilot", "rest"], **words)


def production(scene: Scene, text: str) -> None:
    scene.deployed()
    scene.git.commit({"environments/production/all.yaml": text})


def test_a_good_change_gets_a_plan_its_gates_and_its_approvers(scene: Scene) -> None:  # GATE-1, APR-9
    before = scene.deployed()
    commit = scene.commit(NEW)
    change = submit(scene)

    scene.assess(change)

    assert (change.state, change.problem) == ("authorize", "")
    document = change.plan.content
    assert (document["commit"], document["commit_from"]) == (commit, before)
    assert [(one["workload"], one["wave"], one["cohort"]) for one in document["targets"]] == [
        ("", 0, ""),
        ("Deployment/odoo-pilot", 0, "pilot"),
        ("Deployment/odoo-rest", 1, "rest"),
    ]
    assert {one["digest"] for one in document["images"]} == {"sha256:" + "b" * 64}
    assert document["rollback"]["class"] == "R0"
    results = GateResult.objects.filter(change=change)
    assert {one["gate"] for one in document["gates"]} == {result.gate for result in results}
    for result in results:
        assert (result.verdict, bool(result.judged), bool(result.tool)) == ("pass", True, True)
        assert result.expires_at > result.at
        assert result.artefact_sha256
    assert Message.objects.filter(recipient=scene.estate.cy, subject__contains="needs your decision").exists()


def test_the_difference_each_cluster_would_make_is_kept_for_approvers(scene: Scene) -> None:
    scene.deployed()
    scene.commit(NEW)
    change = scene.assess(submit(scene))

    artefact = change.artefacts.get(name="difference-production.diff")
    text = scene.store.objects[f"sha256/{artefact.sha256[:2]}/{artefact.sha256}"].decode()

    assert f"-      - image: {GOOD}\n+      - image: {NEW}\n" in text
    assert not [effect for effect in scene.cluster.effects if effect.verb == "applied"]


def test_whoever_wrote_a_commit_is_remembered(scene: Scene) -> None:  # APR-2
    scene.deployed()
    scene.commit(NEW)

    change = scene.assess(submit(scene))

    assert Contributor.objects.filter(change=change, email="linus@example.com", contribution="authored").exists()


def test_two_workers_take_a_change_up_once(scene: Scene) -> None:
    change = submit(scene)

    Assessment().find(scene.now())
    Assessment().find(scene.now())

    assert Run.objects.filter(change=change, kind="assessment").count() == 1


PROBLEMS = {
    "Schema and server-side dry run": only().replace("livenessProbe", "livenesProbe"),
    "The image must be pinned by digest": only("registry.example/odoo:19.0"),
    "The tag latest says nothing": only("registry.example/odoo:latest"),
    "CPU and memory need requests": only().replace("cpu: 500m", "gpu: 500m"),
    "a readiness and a liveness probe": only().replace("readinessProbe", "startupProbe"),
    "must not run as root": only().replace("runAsNonRoot: true", "runAsNonRoot: false"),
    "allowPrivilegeEscalation must be false": only().replace("allowPrivilegeEscalation: false", "privileged: true"),
    "one replica is an interruption": only(replicas=1),
    "needs a PodDisruptionBudget": only()
    .replace("PodDisruptionBudget", "PodDisruptionBudge")
    .replace("kind: PodDisruptionBudge\n", "kind: ConfigMap\n")
    .replace("apiVersion: policy/v1", "apiVersion: v1"),
    "must not stand in a deployment definition": only()
    + "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n",
    "looks like a private key": only(message="-----BEGIN RSA PRIVATE KEY-----"),
    "names the namespace elsewhere": only().replace(
        "kind: ConfigMap\nmetadata:\n", "kind: ConfigMap\nmetadata:\n  namespace: elsewhere\n"
    ),
    "is cluster-scoped": only() + "\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: mine}\n",
    "not valid YAML": only() + "\n---\n{",
    "no program renders one here": "",
    "serves the cohort moon": only().replace("changecontrol.io/cohort: rest", "changecontrol.io/cohort: moon"),
}


@pytest.mark.parametrize("sentence", PROBLEMS)
def test_what_must_not_go_out_goes_back_to_its_author(scene: Scene, sentence: str) -> None:  # SEC-1, GATE-1
    text = PROBLEMS[sentence]
    if text:
        production(scene, text)
    else:
        scene.deployed()
        scene.git.commit({"environments/production/kustomization.yaml": "resources: [all.yaml]\n"})

    change = scene.assess(submit(scene))

    assert change.state == "draft"
    assert sentence in change.problem
    assert Message.objects.filter(recipient=scene.estate.ada, subject__contains="needs a correction").exists()
    assert AuditEvent.objects.filter(change=change, tag="change:assessment:failed").count() == 1


def test_a_branch_that_does_not_exist_is_named(scene: Scene) -> None:
    scene.deployed()

    change = scene.assess(submit(scene, revision_name="mian"))

    assert change.state == "draft"
    assert "mian" in change.problem


def test_a_right_the_executor_lacks_is_named(scene: Scene) -> None:
    scene.deployed()
    scene.commit(NEW)
    scene.cluster.lacking.add(Right(verb="patch", group="apps", resource="deployments"))

    change = scene.assess(submit(scene))

    assert "the executor may not patch deployments" in change.problem


def test_a_git_server_that_comes_back_costs_only_time(scene: Scene) -> None:
    scene.deployed()
    scene.commit(NEW)
    scene.repository().script.fail_before("ensure_fetched", Transient("The Git server did not answer."), times=3)

    assert scene.assess(submit(scene)).state == "authorize"


def test_a_commit_that_is_in_the_mirror_waits_for_no_fetch(scene: Scene) -> None:
    scene.deployed()
    commit = scene.commit(NEW)
    scene.repository().inner.ensure_fetched()
    scene.repository().script.fail_before("ensure_fetched", UnderWay("Fetching the source (1 MB)…"), times=1000)

    change = scene.assess(submit(scene, commit=commit))

    assert change.state == "authorize", change.problem


def test_a_gate_that_cannot_judge_does_not_pass(scene: Scene) -> None:  # GATE-1
    scene.deployed()
    scene.commit(NEW)
    scene.cluster.script.fail_before("observe_version", Transient("The cluster did not answer."), times=1000)

    change = scene.assess(submit(scene))

    assert change.state == "draft"
    said = f"{scene.estate.cluster.name}: The cluster did not answer. (production)"
    assert f"It could not be judged, so it does not pass. {said}" in change.problem
    assert GateResult.objects.get(change=change, gate="dry_run").verdict == "error"


def test_a_refused_credential_is_an_error_at_once(scene: Scene) -> None:
    scene.deployed()
    scene.commit(NEW)
    refusal = Permanent("The kubeconfig asks for a program to run, which is refused.")
    scene.cluster.script.fail_before("observe_version", refusal, times=1000)

    change = scene.assess(submit(scene))

    assert "asks for a program to run" in change.problem


def test_the_same_plan_again_keeps_its_digest_and_its_votes(scene: Scene) -> None:  # APR-8
    change = scene.scheduled(NEW)
    digest = change.plan.digest
    hold_change(actor=actor(scene.estate.ben), change_id=change.pk, reason="Lunch.", at=scene.now())
    release_change(actor=actor(scene.estate.ben), change_id=change.pk, at=scene.now())

    scene.assess(change)

    assert (change.state, change.plan.digest) == ("scheduled", digest)


def test_a_rebase_that_renders_the_same_keeps_the_plan(scene: Scene) -> None:  # APR-8
    change = scene.scheduled(NEW)
    digest = change.plan.digest
    scene.git.commit({"README": "Nothing that is deployed."})
    hold_change(actor=actor(scene.estate.ben), change_id=change.pk, reason="Lunch.", at=scene.now())
    release_change(actor=actor(scene.estate.ben), change_id=change.pk, at=scene.now())

    scene.assess(change)

    assert (change.state, change.plan.digest) == ("scheduled", digest)


def test_another_title_keeps_the_digest_and_another_bake_does_not(scene: Scene) -> None:  # APR-8
    change = scene.scheduled(NEW)
    digest = change.plan.digest
    content = change.revision.content

    revise_change(
        actor=actor(scene.estate.ada), change_id=change.pk, content={**content, "title": "A typo less"}, at=scene.now()
    )
    scene.assess(change)
    assert (change.state, change.plan.digest) == ("scheduled", digest)

    revise_change(
        actor=actor(scene.estate.ada), change_id=change.pk, content={**content, "failure_budget": 1}, at=scene.now()
    )
    scene.assess(change)
    assert change.state == "authorize"
    assert change.plan.digest != digest


def test_a_change_that_is_canceled_meanwhile_ends_its_assessment(scene: Scene) -> None:
    scene.deployed()
    scene.commit(NEW)
    change = submit(scene)
    Assessment().find(scene.now())
    cancel_change(actor=actor(scene.estate.ada), change_id=change.pk, reason="Not needed.", at=scene.now())

    scene.assess(change)

    assert change.state == "canceled"
    assert Run.objects.get(change=change).state == "failed"


def test_a_revision_during_the_assessment_starts_it_over(scene: Scene) -> None:
    scene.deployed()
    scene.commit(NEW)
    change = submit(scene)
    Assessment().find(scene.now())
    revised = {**change.revision.content, "failure_budget": 1}
    revise_change(actor=actor(scene.estate.ada), change_id=change.pk, content=revised, at=scene.now())

    scene.assess(change)

    assert change.state == "authorize"
    assert [run.state for run in Run.objects.filter(change=change)] == ["failed", "succeeded"]
    assert change.plan.content["content"]["failure_budget"] == 1
