"""An environment is brought up in another cluster, in a namespace of its own, and nothing else is touched (BCK-5)."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.errors import Permanent, Transient
from changecontrol.models import AuditEvent, Rehearsal
from changecontrol.ports import INVENTORY_LABEL, RUN_LABEL, NotAllowed, Right
from changecontrol.workflow import engine
from deployments.workflows.rehearsal import RehearsalRun
from tests.deployments.workflows.rehearsals import Elsewhere, elsewhere_of
from tests.deployments.workflows.scene import BAD, NEW, Scene, pass_time

CLUSTER_WIDE = """---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reads-all}
rules: []
"""
ELSEWHERE = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: somebody-else}\n"
AWAY = Transient("It does not answer.")
UNKNOWN = "---\napiVersion: acme.example/v1\nkind: ShopGroup\nmetadata: {name: all}\n"
CLAIMED = f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, labels: {{{INVENTORY_LABEL}: another}}}}\n"


@pytest.fixture
def elsewhere(scene: Scene) -> Elsewhere:
    return elsewhere_of(scene)


def refs_of(elsewhere: Elsewhere) -> list[str]:
    return [str(ref) for ref in elsewhere.cluster.objects()]


def empty_namespace(elsewhere: Elsewhere) -> None:
    """Let the namespace and all in it go, as once the last finalizer is done."""
    for ref in list(elsewhere.cluster.objects()):
        elsewhere.cluster.remove(ref)


def stay_away(elsewhere: Elsewhere, length: timedelta) -> None:
    """Have the other cluster not answer for so long."""
    ends_at = clock.now() + length
    elsewhere.cluster.script.fail_before("*", AWAY, times=10_000, when=lambda call: clock.now() < ends_at)


def pass_minutes(count: int) -> None:
    for _ in range(count):
        engine.drain(RehearsalRun(), budget_seconds=30)
        pass_time(60)


def labels_of(live: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = live["metadata"].get("labels") or {}
    return found


def test_it_is_brought_up_with_the_label_of_its_run_and_taken_down(elsewhere: Elsewhere) -> None:
    rehearsal = elsewhere.ask()

    up = elsewhere.work("up", "failed")

    objects = elsewhere.cluster.objects()
    name = f"rehearsal-{rehearsal.key}"
    assert (up.state, up.problem, up.namespace) == ("up", "", name)
    assert [str(ref) for ref in objects if ref.namespace not in ("", name)] == []
    assert len(objects) == 6
    assert {labels_of(live).get(RUN_LABEL) for live in objects.values()} == {str(rehearsal.key)}
    assert {labels_of(live).get(INVENTORY_LABEL) for live in objects.values()} == {name, None}
    assert [(one["name"], one["is_healthy"], one["digests"]) for one in up.workloads] == [
        ("Deployment odoo-pilot", True, [NEW.partition("@")[2]]),
        ("Deployment odoo-rest", True, [NEW.partition("@")[2]]),
    ]
    assert elsewhere.scene.cluster.effects == []

    elsewhere.take_down(up)
    gone = elsewhere.work("gone", "left")

    assert (gone.state, gone.leftovers, refs_of(elsewhere)) == ("gone", "", [])
    assert gone.up_at is not None
    assert gone.ended_at is not None
    assert gone.next_due_at is None


def test_every_step_is_an_event_of_its_tenant(elsewhere: Elsewhere) -> None:
    rehearsal = elsewhere.ask()

    elsewhere.take_down(elsewhere.work("up"))
    elsewhere.work("gone")

    events = AuditEvent.objects.filter(subject=f"rehearsal:{rehearsal.pk}")
    assert set(events.values_list("tenant", flat=True)) == {elsewhere.scene.estate.tenant.pk}
    assert list(events.order_by("sequence").values_list("tag", flat=True)) == [
        "rehearsal:asked",
        "rehearsal:moved",
        "rehearsal:applied",
        "rehearsal:applied",
        "rehearsal:moved",
        "rehearsal:teardown_asked",
        "rehearsal:moved",
        "rehearsal:moved",
    ]


def test_what_nobody_takes_down_is_taken_down_in_time(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    up = elsewhere.work("up")

    pass_time(timedelta(hours=4).total_seconds())
    gone = elsewhere.work("gone", "left")

    assert (gone.state, gone.teardown_asked_at, refs_of(elsewhere)) == ("gone", None, [])
    assert gone.up_at == up.up_at


def test_what_is_in_time_waits_without_asking_the_cluster(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    elsewhere.work("up")
    elsewhere.cluster.script.calls.clear()

    pass_time(3600)
    with pytest.raises(AssertionError):
        elsewhere.work("gone", limit=3)

    assert elsewhere.cluster.script.calls == []


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (CLUSTER_WIDE, "ClusterRole reads-all is cluster-scoped"),
        (ELSEWHERE, "ConfigMap a names the namespace somebody-else; this environment is rehearsal-"),
        (CLAIMED, "ConfigMap a claims to belong to another environment"),
        (UNKNOWN, "ShopGroup all is cluster-scoped: a rehearsal stays in its own namespace."),
    ],
    ids=["cluster-scoped", "another namespace", "another environment", "an unknown kind of the cluster"],
)
def test_what_would_reach_beyond_its_namespace_is_refused(elsewhere: Elsewhere, extra: str, words: str) -> None:
    elsewhere.cluster.cluster_scoped.add(("acme.example/v1", "ShopGroup"))
    elsewhere.ask(elsewhere.commit(extra=extra))

    failed = elsewhere.work("up", "failed")

    beyond = [ref for ref in elsewhere.cluster.objects() if ref.namespace != failed.namespace]
    assert failed.state == "failed"
    assert words in failed.problem
    assert [ref for ref in beyond if ref.kind != "Namespace"] == []


def test_a_namespace_that_is_there_before_stays_as_it_is(elsewhere: Elsewhere) -> None:
    rehearsal = elsewhere.ask()
    metadata = {"name": rehearsal.namespace, "labels": {"owner": "somebody"}}
    elsewhere.cluster.apply_as("somebody", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    failed = elsewhere.work("up", "failed")
    elsewhere.take_down(failed)
    gone = elsewhere.work("gone", "left")

    assert "already: it stays as it is." in failed.problem
    assert (gone.state, refs_of(elsewhere)) == ("gone", [f"Namespace {rehearsal.namespace}"])
    assert elsewhere.cluster.effects == []


def test_a_namespace_that_lost_its_label_is_left_and_named(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    up = elsewhere.work("up")
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": up.namespace, "labels": {RUN_LABEL: "x"}}}
    elsewhere.cluster.apply_as("somebody", manifest, force=True)

    elsewhere.take_down(up)
    left = elsewhere.work("gone", "left")

    assert (left.state, left.leftovers) == (
        "left",
        f"The namespace {up.namespace} lost the label of its run, and was not deleted.",
    )
    assert f"Namespace {up.namespace}" in refs_of(elsewhere)


def test_a_namespace_that_does_not_end_is_a_leftover(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.ends_namespaces = False
    elsewhere.ask()
    up = elsewhere.work("up")

    elsewhere.take_down(up)
    left = elsewhere.work("gone", "left", limit=400)

    assert left.state == "left"
    assert left.leftovers.startswith(f"The namespace {up.namespace} is still being deleted after 10 min; in it: ")
    assert f"ConfigMap {up.namespace}/odoo" in left.leftovers


def test_a_broken_image_is_no_environment(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.spoil_image(BAD)
    elsewhere.ask(elsewhere.commit(BAD))

    failed = elsewhere.work("up", "failed")

    assert (failed.state, failed.up_at) == ("failed", None)
    assert "ImagePullBackOff" in failed.problem
    assert [one["is_healthy"] for one in failed.workloads] == [False, False]


def test_what_does_not_become_healthy_fails_in_time(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.ready_after = timedelta(hours=2)
    elsewhere.ask()

    failed = elsewhere.work("up", "failed", step=30)

    assert failed.state == "failed"
    assert "of 2 replicas" in failed.problem or "progress" in failed.problem


def test_a_path_without_workloads_brings_nothing_up(elsewhere: Elsewhere) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    commit = elsewhere.scene.git.commit({"bare/all.yaml": text}, message="Bare.", author="linus@example.com")
    elsewhere.ask(commit, path="bare")

    failed = elsewhere.work("up", "failed")

    assert failed.problem == f"There is no workload below bare at {commit[:8]}: nothing could be brought up."
    assert elsewhere.cluster.effects == []


def test_rights_that_are_lacking_are_named_before_anything_is_made(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.lacking = {Right("delete", "", "namespaces"), Right("create", "apps", "deployments")}
    elsewhere.ask()

    failed = elsewhere.work("up", "failed")

    assert failed.problem == (
        "In Falkenstein 1 the executor may not delete namespaces, create deployments. Grant it as "
        "deploy/rbac-rehearsal.yaml does."
    )
    assert elsewhere.cluster.effects == []

    elsewhere.cluster.script.fail_before("*", NotAllowed("It may not."), times=99)
    elsewhere.take_down(failed)
    gone = elsewhere.work("gone", "left")

    assert (gone.state, gone.leftovers, gone.sentence) == ("gone", "", "Nothing was made in Falkenstein 1.")


def test_an_environment_that_moved_into_the_cluster_is_not_rehearsed_there(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    production = elsewhere.scene.estate.production
    production.cluster = elsewhere.row
    production.save()

    failed = elsewhere.work("up", "failed")

    assert failed.problem == "An environment is rehearsed in another cluster than the one it runs in."
    assert elsewhere.cluster.effects == []


def test_a_namespace_deleted_by_somebody_else_is_not_made_again(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.ready_after = timedelta(hours=2)
    rehearsal = elsewhere.ask()
    while not any(ref.kind == "Deployment" for ref in elsewhere.cluster.objects()):
        engine.tick(RehearsalRun())
    for ref in list(elsewhere.cluster.objects()):
        elsewhere.cluster.remove(ref)

    failed = elsewhere.work("up", "failed")

    assert failed.problem == f"The namespace {rehearsal.namespace} in Falkenstein 1 was deleted by somebody else."


def test_a_cluster_that_does_not_answer_is_asked_again(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.script.fail_after("ensure_applied", Transient("It does not answer."), times=2)
    elsewhere.ask()

    up = elsewhere.work("up", "failed")

    assert (up.state, up.trouble) == ("up", "")


def test_a_cluster_that_is_gone_for_good_leaves_doubt_in_words(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    up = elsewhere.work("up")
    elsewhere.cluster.script.fail_before("ensure_deleted", AWAY, times=10_000)

    elsewhere.take_down(up)
    left = elsewhere.work("gone", "left", limit=400, step=600)

    assert (left.state, left.leftovers) == ("left", "It does not answer.")
    assert left.teardown_at is not None
    assert left.ended_at is not None
    assert timedelta(days=1) <= left.ended_at - left.teardown_at <= timedelta(hours=27)


def test_a_cluster_that_is_away_for_an_hour_is_cleared_once_it_answers(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    up = elsewhere.work("up")
    elsewhere.cluster.ends_namespaces = False
    stay_away(elsewhere, timedelta(hours=1))

    elsewhere.take_down(up)
    # Far longer than it may take to empty, of which five minutes have passed: it was let go only when it answered.
    pass_minutes(65)
    still = Rehearsal.objects.get()
    empty_namespace(elsewhere)
    gone = elsewhere.work("gone", "left")

    assert (still.state, still.trouble) == ("tearing_down", "")
    assert (gone.state, gone.leftovers, refs_of(elsewhere)) == ("gone", "", [])


def test_a_cluster_that_is_away_while_it_comes_up_is_waited_for(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    stay_away(elsewhere, timedelta(hours=1))

    up = elsewhere.work("up", "failed", step=60)

    assert (up.state, up.trouble) == ("up", "")


def test_what_never_answers_is_why_it_did_not_come_up(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    elsewhere.cluster.script.fail_before("*", AWAY, times=10_000)

    gone = elsewhere.work("gone", "left", limit=400, step=120)

    assert (gone.state, gone.problem, gone.up_at) == ("gone", "It does not answer.", None)
    assert gone.ended_at is not None
    assert gone.ended_at >= gone.ends_at


def test_what_was_left_is_looked_at_hourly_until_it_is_gone(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.ends_namespaces = False
    elsewhere.ask()
    elsewhere.take_down(elsewhere.work("up"))
    left = elsewhere.work("left", limit=400)
    assert left.next_due_at is not None
    waits_for = left.next_due_at - clock.now()
    pass_time(3601)
    engine.drain(RehearsalRun(), budget_seconds=30)
    again = Rehearsal.objects.get()
    empty_namespace(elsewhere)

    pass_time(3601)
    gone = elsewhere.work("gone", limit=2)

    assert timedelta(minutes=59) < waits_for <= timedelta(hours=1)
    assert (again.state, again.leftovers, again.trouble) == ("left", left.leftovers, "")
    assert (gone.leftovers, gone.next_due_at, refs_of(elsewhere)) == ("", None, [])
    assert gone.sentence == "Nothing of it is left in Falkenstein 1."


def test_what_an_earlier_version_left_for_good_is_looked_at_again(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.ends_namespaces = False
    elsewhere.ask()
    elsewhere.take_down(elsewhere.work("up"))
    elsewhere.work("left", limit=400)
    Rehearsal.objects.update(next_due_at=None)
    empty_namespace(elsewhere)

    RehearsalRun().find(clock.now())
    gone = elsewhere.work("gone", limit=2)

    assert (gone.leftovers, refs_of(elsewhere)) == ("", [])


def test_what_may_not_be_deleted_is_left_and_goes_on_request(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    up = elsewhere.work("up")
    elsewhere.cluster.script.fail_before("ensure_deleted", NotAllowed("It may not delete it."), times=2)
    elsewhere.take_down(up)
    left = elsewhere.work("left")
    elsewhere.take_down(left)
    engine.drain(RehearsalRun(), budget_seconds=30)
    refused = Rehearsal.objects.get()

    elsewhere.take_down(left)
    gone = elsewhere.work("gone", limit=2)

    assert (left.leftovers, refused.state, refused.leftovers) == (
        "It may not delete it.",
        "left",
        "It may not delete it.",
    )
    assert (gone.leftovers, refs_of(elsewhere)) == ("", [])


def test_a_cluster_that_is_away_says_nothing_new_of_what_was_left(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.ends_namespaces = False
    elsewhere.ask()
    elsewhere.take_down(elsewhere.work("up"))
    left = elsewhere.work("left", limit=400)
    stay_away(elsewhere, timedelta(days=1))

    pass_minutes(85)

    again = Rehearsal.objects.get()
    assert (again.state, again.leftovers) == ("left", left.leftovers)
    assert again.next_due_at is not None
    assert again.next_due_at > clock.now() + timedelta(minutes=30)


def test_what_kills_its_workers_comes_before_a_person(elsewhere: Elsewhere) -> None:
    elsewhere.ask()
    elsewhere.take_down(elsewhere.work("up"))
    held: dict[str, Any] = {"lease_token": uuid.uuid4(), "lease_until": clock.now(), "next_due_at": clock.now()}
    Rehearsal.objects.update(state="tearing_down", attempts=engine.ATTEMPTS_LIMIT - 1, **held)

    engine.tick(RehearsalRun())

    left = Rehearsal.objects.get()
    assert (left.state, left.leftovers) == (
        "left",
        "Its workers ended in the middle of this step, again and again.",
    )


def test_a_refusal_in_the_middle_keeps_what_was_applied(elsewhere: Elsewhere) -> None:
    refused = Permanent("A quota is exceeded.")
    elsewhere.cluster.script.fail_before(
        "ensure_applied", refused, times=9, when=lambda call: call.args[0].kind == "Deployment"
    )
    elsewhere.ask()

    failed = elsewhere.work("up", "failed")

    assert failed.problem == "A quota is exceeded."
    assert set(failed.applied) == set(refs_of(elsewhere))
    assert len(failed.applied) == 4


def test_one_row_is_asked_for_once(elsewhere: Elsewhere) -> None:
    first = elsewhere.ask()

    again = elsewhere.ask(first.commit, key=first.key)

    assert (again.pk, Rehearsal.objects.count()) == (first.pk, 1)
