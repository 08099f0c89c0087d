"""What every Kubernetes adapter must do: one suite for the fake, the practice estate and a cluster named by
`TEST_KUBECONFIG`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from changecontrol.adapters.kubernetes.workloads import digest_of
from changecontrol.ports import (
    COHORT_LABEL,
    INVENTORY_LABEL,
    SUPPORTED_KINDS,
    ApplyConflict,
    FieldConflict,
    Kubernetes,
    ObjectRef,
    Rejected,
    WorkloadStatus,
    rights_for,
)
from tests.contracts.adapters.worlds import (
    PINNED,
    World,
    fake_world,
    named_images,
    practice_kubeconfig,
    served_world,
)
from tests.contracts.named import NAMED, named_kubeconfig, named_node

INVENTORY = "acme.production"
__all__ = ["named_node"]


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with practice_kubeconfig(tmp_path_factory.mktemp("practice")) as text:
        yield text


@pytest.fixture(params=["fake", "practice", NAMED])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield fake_world()
        return
    is_named = request.param == "named"
    if is_named:
        request.getfixturevalue("named_node")
    text = named_kubeconfig() if is_named else str(request.getfixturevalue("practice"))
    with served_world(text, images=named_images() if is_named else PINNED) as served:
        yield served


@pytest.fixture
def cluster(world: World) -> Kubernetes:
    return world.cluster


def settings(world: World, name: str = "settings", *, inventory: str = INVENTORY, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": world.namespace, "labels": {INVENTORY_LABEL: inventory}},
        "data": data or {"workers": "4"},
    }


def web(world: World, *, image: str = "", replicas: int | None = 2, **container: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "odoo", "image": image or world.images[0], **container}]},
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    labels = {INVENTORY_LABEL: INVENTORY, COHORT_LABEL: "north"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": world.namespace, "labels": labels},
        "spec": spec,
    }


def status_of(world: World) -> WorkloadStatus:
    statuses = world.cluster.observe_workloads(namespace=world.namespace, inventory=INVENTORY)
    return statuses[ObjectRef("apps/v1", "Deployment", world.namespace, "web")]


def is_healthy(status: WorkloadStatus, *, generation: int, image: str) -> bool:
    counts = (status.updated_count, status.available_count, status.ready_count, status.total_count)
    return (
        status.observed_generation >= generation
        and set(counts) == {status.desired_count}
        and status.image_ids == (digest_of(image),)
    )


def test_version_is_told(cluster: Kubernetes) -> None:
    assert cluster.observe_version().startswith("v1.")


def test_applied_object_is_there(world: World, cluster: Kubernetes) -> None:
    manifest = settings(world)

    applied = cluster.ensure_applied(manifest)

    live = cluster.observe_object(applied.ref)
    assert applied.ref == ObjectRef.of(manifest)
    assert live is not None
    assert (live["kind"], live["data"], live["metadata"]["uid"]) == ("ConfigMap", {"workers": "4"}, applied.uid)
    assert live["metadata"]["resourceVersion"] == applied.resource_version
    assert applied.live["data"] == {"workers": "4"}


def test_absent_object_is_none(world: World, cluster: Kubernetes) -> None:
    assert cluster.observe_object(ObjectRef("v1", "ConfigMap", world.namespace, "absent")) is None


def test_dry_run_changes_nothing(world: World, cluster: Kubernetes) -> None:
    cluster.ensure_applied(settings(world, workers="4"))

    tried = cluster.ensure_applied(settings(world, workers="8"), dry_run=True)
    created = cluster.ensure_applied(settings(world, "other"), dry_run=True)

    assert tried.live["data"] == {"workers": "8"}
    live = cluster.observe_object(tried.ref)
    assert live is not None
    assert live["data"] == {"workers": "4"}
    assert cluster.observe_object(created.ref) is None


def test_same_content_again_changes_nothing(world: World, cluster: Kubernetes) -> None:  # RUN-1
    first = cluster.ensure_applied(settings(world))
    again = cluster.ensure_applied(settings(world))

    assert (again.uid, again.resource_version) == (first.uid, first.resource_version)


def test_generation_counts_changes_of_the_spec_alone(world: World, cluster: Kubernetes) -> None:  # RUN-2
    first = cluster.ensure_applied(web(world)).generation
    labelled = web(world)
    labelled["metadata"]["labels"]["team"] = "retail"
    with_label = cluster.ensure_applied(labelled).generation
    with_image = cluster.ensure_applied(web(world, image=world.images[1])).generation

    assert (with_label, with_image) == (first, first + 1)


def test_field_left_out_is_taken_away(world: World, cluster: Kubernetes) -> None:
    cluster.ensure_applied(settings(world, workers="4", limit="2"))

    applied = cluster.ensure_applied(settings(world, workers="4"))

    assert applied.live["data"] == {"workers": "4"}


def test_field_of_another_manager_is_a_finding_and_is_left(world: World, cluster: Kubernetes) -> None:  # RUN-8
    cluster.ensure_applied(web(world, replicas=None))
    theirs = web(world, replicas=5)
    theirs["metadata"] = {"name": "web", "namespace": world.namespace}
    del theirs["spec"]["template"]["spec"]["containers"][0]["image"]
    world.apply_as("autoscaler", theirs)

    with pytest.raises(ApplyConflict) as raised:
        cluster.ensure_applied(web(world, replicas=2))

    assert raised.value.conflicts == (FieldConflict(manager="autoscaler", path=".spec.replicas"),)
    assert ".spec.replicas belongs to autoscaler" in raised.value.reason
    live = cluster.observe_object(ObjectRef.of(theirs))
    assert live is not None
    assert live["spec"]["replicas"] == 5


def test_field_that_two_managers_want_alike_is_no_conflict(world: World, cluster: Kubernetes) -> None:
    world.apply_as("someone-else", settings(world))

    assert cluster.ensure_applied(settings(world)).live["data"] == {"workers": "4"}


def test_misspelt_field_is_rejected(world: World, cluster: Kubernetes) -> None:
    with pytest.raises(Rejected, match="imagee") as raised:
        cluster.ensure_applied(web(world, imagee="x"))

    assert f"apply Deployment {world.namespace}/web" in raised.value.reason


def test_selector_that_does_not_match_is_rejected(world: World, cluster: Kubernetes) -> None:
    manifest = web(world)
    manifest["spec"]["selector"] = {"matchLabels": {"app": "other"}}

    with pytest.raises(Rejected, match="`selector` does not match template `labels`"):
        cluster.ensure_applied(manifest)


def test_unknown_kind_is_rejected(world: World, cluster: Kubernetes) -> None:
    manifest = {**settings(world), "apiVersion": "nosuch.example/v1", "kind": "Widget"}

    with pytest.raises(Rejected, match=r"does not know the kind Widget of nosuch\.example/v1"):
        cluster.ensure_applied(manifest)


def test_absent_namespace_is_rejected(world: World, cluster: Kubernetes) -> None:
    manifest = settings(world)
    manifest["metadata"]["namespace"] = "absent"

    with pytest.raises(Rejected, match="has no namespace absent"):
        cluster.ensure_applied(manifest)


def test_secret_values_do_not_come_back(world: World, cluster: Kubernetes) -> None:  # RUN-9
    manifest = {**settings(world), "kind": "Secret", "data": {"key": "Y2FuYXJ5"}}

    applied = cluster.ensure_applied(manifest)

    assert applied.live["data"] == {"key": "redacted"}
    assert "Y2FuYXJ5" not in repr(cluster.observe_object(applied.ref))


def test_good_release_becomes_healthy_with_its_digest(world: World, cluster: Kubernetes) -> None:  # RUN-2
    applied = cluster.ensure_applied(web(world))

    healthy = world.eventually(
        lambda: is_healthy(status_of(world), generation=applied.generation, image=world.images[0])
    )

    status = status_of(world)
    assert healthy, status
    assert (status.desired_count, status.uid, status.pod_images) == (2, applied.uid, (world.images[0],))
    assert (status.problems, status.is_deadline_exceeded) == ((), False)


def test_new_release_is_healthy_only_with_the_new_digest(world: World, cluster: Kubernetes) -> None:  # RUN-2
    old = cluster.ensure_applied(web(world))
    assert world.eventually(lambda: is_healthy(status_of(world), generation=old.generation, image=world.images[0]))
    new = cluster.ensure_applied(web(world, image=world.images[1]))

    at_once = is_healthy(status_of(world), generation=new.generation, image=world.images[1])
    later = world.eventually(lambda: is_healthy(status_of(world), generation=new.generation, image=world.images[1]))

    assert (at_once, later) == (False, True)


def test_bad_image_is_told_while_the_old_release_goes_on_and_comes_back(
    world: World, cluster: Kubernetes
) -> None:  # RUN-2
    old = cluster.ensure_applied(web(world))
    assert world.eventually(lambda: is_healthy(status_of(world), generation=old.generation, image=world.images[0]))
    cluster.ensure_applied(web(world, image=world.bad_image))

    def is_told() -> bool:
        status = status_of(world)
        reasons = {problem.reason for problem in status.problems}
        # Its pods are listed after itself, so they may be the newer news.
        return bool(reasons & {"ImagePullBackOff", "ErrImagePull"}) and status.updated_count < status.total_count

    told = world.eventually(is_told)

    status = status_of(world)
    assert told, status
    assert status.available_count >= 1
    assert status.image_ids == ()
    back = cluster.ensure_applied(web(world))
    assert world.eventually(lambda: is_healthy(status_of(world), generation=back.generation, image=world.images[0]))


def test_progress_deadline_is_told(world: World, cluster: Kubernetes) -> None:
    manifest = web(world, image=world.bad_image)
    manifest["spec"]["progressDeadlineSeconds"] = 30

    cluster.ensure_applied(manifest)

    assert world.eventually(lambda: status_of(world).is_deadline_exceeded)
    assert "timed out progressing" in status_of(world).message


def test_one_workload_is_told_as_among_all(world: World, cluster: Kubernetes) -> None:
    applied = cluster.ensure_applied(web(world))
    assert world.eventually(lambda: is_healthy(status_of(world), generation=applied.generation, image=world.images[0]))

    assert cluster.observe_workload(applied.ref) == status_of(world)
    assert cluster.observe_workload(ObjectRef("apps/v1", "Deployment", world.namespace, "absent")) is None


def test_workloads_of_another_environment_are_left_out(world: World, cluster: Kubernetes) -> None:  # BIZ-1
    cluster.ensure_applied(web(world))

    assert cluster.observe_workloads(namespace=world.namespace, inventory="acme.staging") == {}


def test_inventory_is_what_carries_the_label(world: World, cluster: Kubernetes) -> None:
    cluster.ensure_applied(settings(world, "b"))
    cluster.ensure_applied(settings(world, "a"))
    cluster.ensure_applied(settings(world, "stranger", inventory="acme.staging"))
    cluster.ensure_applied(web(world))

    maps = cluster.observe_inventory(namespace=world.namespace, inventory=INVENTORY, kinds=[("v1", "ConfigMap")])
    everything = cluster.observe_inventory(namespace=world.namespace, inventory=INVENTORY, kinds=SUPPORTED_KINDS)

    assert [ref.name for ref in maps] == ["a", "b"]
    assert [(ref.kind, ref.name) for ref in everything] == [
        ("Deployment", "web"),
        ("ConfigMap", "a"),
        ("ConfigMap", "b"),
    ]


def test_deletion_asks_for_the_label_and_happens_once(world: World, cluster: Kubernetes) -> None:
    mine = cluster.ensure_applied(settings(world)).ref
    theirs = cluster.ensure_applied(settings(world, "stranger", inventory="acme.staging")).ref

    deleted = [cluster.ensure_deleted(ref, inventory=INVENTORY) for ref in (mine, mine, theirs)]

    assert deleted == [True, False, False]
    assert cluster.observe_object(mine) is None
    assert cluster.observe_object(theirs) is not None


def test_another_label_finds_and_deletes_as_the_inventory_label_does(world: World, cluster: Kubernetes) -> None:
    label, kinds = "changecontrol.io/recovery-run", [("v1", "ConfigMap")]
    marked = settings(world, "marked", inventory="acme.staging")
    marked["metadata"]["labels"][label] = "drill-7"
    mine = cluster.ensure_applied(marked).ref
    theirs = cluster.ensure_applied(settings(world, "stranger")).ref

    found = cluster.observe_inventory(namespace=world.namespace, inventory="drill-7", kinds=kinds, label=label)
    deleted = [cluster.ensure_deleted(ref, inventory="drill-7", label=label) for ref in (mine, theirs)]

    assert [ref.name for ref in found] == ["marked"]
    assert deleted == [True, False]
    assert cluster.observe_object(theirs) is not None


def test_deleted_workload_is_gone_in_the_end(world: World, cluster: Kubernetes) -> None:
    applied = cluster.ensure_applied(web(world))
    ref = applied.ref
    assert world.eventually(lambda: is_healthy(status_of(world), generation=applied.generation, image=world.images[0]))

    assert cluster.ensure_deleted(ref, inventory=INVENTORY)

    assert world.eventually(lambda: cluster.observe_object(ref) is None)


def test_owner_of_the_cluster_lacks_no_right(world: World, cluster: Kubernetes) -> None:
    assert (
        cluster.observe_rights(
            namespace=world.namespace, rights=rights_for(written=SUPPORTED_KINDS, listed=SUPPORTED_KINDS)
        )
        == ()
    )


def test_labelled_objects_are_returned_whole_and_only_those(world: World, cluster: Kubernetes) -> None:
    for name, inventory in (("one", INVENTORY), ("two", INVENTORY), ("other", "acme.staging")):
        cluster.ensure_applied(settings(world, name, inventory=inventory, mode=name))

    found = cluster.observe_labelled(
        ("v1", "ConfigMap"), namespace=world.namespace, label=INVENTORY_LABEL, value=INVENTORY
    )

    assert {one["metadata"]["name"]: one["data"] for one in found} == {"one": {"mode": "one"}, "two": {"mode": "two"}}
    assert {(one["apiVersion"], one["kind"]) for one in found} == {("v1", "ConfigMap")}


def test_an_object_without_events_has_no_warnings(world: World, cluster: Kubernetes) -> None:
    cluster.ensure_applied(settings(world))

    assert cluster.observe_warnings(ObjectRef("v1", "ConfigMap", world.namespace, "settings")) == ()
