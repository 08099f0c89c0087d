"""What the fake offers tests beyond the contract, which `tests/contracts/adapters` holds it to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from changecontrol.adapters.fakes.kubernetes import Effect, FakeKubernetes
from changecontrol.errors import Transient
from changecontrol.ports import INVENTORY_LABEL, ObjectRef, PodProblem, Right, WorkloadStatus

REF = ObjectRef("apps/v1", "Deployment", "shop", "web")
OLD, NEW = "odoo@sha256:" + "a" * 64, "odoo@sha256:" + "b" * 64


def web(image: str = OLD, *, replicas: int = 3) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "odoo", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {INVENTORY_LABEL: "acme.production"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def status(fake: FakeKubernetes) -> WorkloadStatus:
    found = fake.observe_workload(REF)
    assert found is not None
    return found


def test_effects_count_what_really_changed() -> None:  # RUN-1
    fake = FakeKubernetes()
    fake.script.fail_after("ensure_applied", Transient("cut"))
    with pytest.raises(Transient):
        fake.ensure_applied(web())

    fake.ensure_applied(web())
    fake.ensure_applied(web(NEW), dry_run=True)
    fake.ensure_deleted(REF, inventory="acme.production")

    assert fake.effects == [Effect("applied", REF), Effect("unchanged", REF), Effect("deleted", REF)]


def test_release_takes_its_time_while_the_old_one_serves() -> None:
    fake = FakeKubernetes(ready_after=timedelta(seconds=30))
    fake.ensure_applied(web(OLD))
    assert status(fake).available_count == 0
    fake.advance(timedelta(seconds=30))
    assert status(fake).available_count == 3
    fake.ensure_applied(web(NEW))

    during = status(fake)
    fake.advance(timedelta(seconds=30))
    after = status(fake)

    assert (during.available_count, during.updated_count, during.total_count, during.image_ids) == (3, 1, 4, ())
    assert (after.updated_count, after.total_count, after.image_ids) == (3, 3, (NEW.partition("@")[2],))


def test_spoiled_image_never_becomes_ready_until_healed() -> None:
    fake = FakeKubernetes()
    fake.spoil_image("b" * 64, reason="CrashLoopBackOff")
    fake.ensure_applied(web(NEW))

    spoiled = status(fake)
    fake.heal_image("b" * 64)

    assert spoiled.problems == (PodProblem("web-1-0", "CrashLoopBackOff", f"CrashLoopBackOff: {NEW}"),)
    assert (spoiled.available_count, spoiled.restart_count) == (0, 3)
    assert status(fake).available_count == 3


def test_rights_that_lack_are_told() -> None:
    fake = FakeKubernetes()
    lacking = Right("patch", "apps", "deployments")
    fake.lacking.add(lacking)

    assert fake.observe_rights(namespace="shop", rights=[lacking, Right("get", "", "pods")]) == (lacking,)


def test_object_can_be_taken_away_behind_our_back() -> None:
    fake = FakeKubernetes()
    fake.ensure_applied(web())
    fake.remove(REF)

    assert fake.observe_workload(REF) is None
    assert fake.objects() == {}


def test_claim_goes_after_the_pod_that_uses_it() -> None:
    fake = FakeKubernetes()
    fake.kinds.add(("v1", "Pod"))
    about = {"apiVersion": "v1", "metadata": {"name": "db-1", "namespace": "shop", "labels": {INVENTORY_LABEL: "acme"}}}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "db-1"}}]
    pod = fake.apply_as("operator", {**about, "kind": "Pod", "spec": {"nodeName": "node-1", "volumes": volumes}}).ref
    claim = fake.apply_as("operator", {**about, "kind": "PersistentVolumeClaim", "spec": {}}).ref

    deleted = fake.ensure_deleted(claim, inventory="acme")
    lingering = fake.observe_object(claim)
    fake.remove(pod)

    assert deleted
    assert lingering is not None
    assert "deletionTimestamp" in lingering["metadata"]
    assert fake.observe_object(claim) is None
