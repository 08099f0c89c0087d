from __future__ import annotations

from typing import Any

import pytest

from changecontrol.ports import ObjectRef
from deployments.rules.dry_run import fights_of, findings_of, way_out

JOB = ObjectRef("batch/v1", "Job", "shop", "migrate")
IMMUTABLE = 'refused: Job.batch "migrate" is invalid: spec.template: Invalid value: {…}: field is immutable.'


def test_a_job_with_another_template_says_the_way_out() -> None:
    assert way_out(JOB, IMMUTABLE) == (
        "Job shop/migrate is there already with another template. A Job cannot be changed once it exists: give every "
        "version a name of its own, such as one that ends in the release. One that has ended may also be deleted first."
    )


@pytest.mark.parametrize(
    ("kind", "refusal", "help_"),
    [
        (
            "PersistentVolumeClaim",
            "spec: Forbidden: spec is immutable after creation except resources.requests",
            "may grow",
        ),
        ("StatefulSet", "Forbidden: updates to statefulset spec for fields other than 'replicas'", "move the data"),
        ("Deployment", "spec.selector: Invalid value: {}: field is immutable", "another name"),
    ],
)
def test_what_cannot_be_changed_says_what_helps(kind: str, refusal: str, help_: str) -> None:
    said = way_out(ObjectRef("v1", kind, "shop", "x"), refusal)

    assert said.startswith(refusal)
    assert help_ in said


def test_other_refusals_stay_as_they_are() -> None:
    assert way_out(JOB, "The quota is too small.") == "The quota is too small."


def deployment(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "s"}, "spec": spec}


def autoscaler(kind: str = "Deployment", name: str = "web") -> dict[str, Any]:
    spec = {"scaleTargetRef": {"kind": kind, "name": name}}
    metadata = {"name": "web", "namespace": "s"}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("manifest", "before", "after", "found"),
    [
        (deployment(replicas=2), deployment(replicas=4), deployment(replicas=2), ""),
        (deployment(), deployment(replicas=4), deployment(replicas=4), ""),
        (deployment(), None, deployment(replicas=1), ""),
        (deployment(), deployment(replicas=4), deployment(replicas=1), "would go from 4 replicas to 1"),
        (deployment(replicas=2), None, deployment(replicas=2, paused=True), "is paused"),
    ],
)
def test_what_would_be_accepted_and_go_wrong_is_found(
    manifest: dict[str, Any], before: dict[str, Any] | None, after: dict[str, Any], found: str
) -> None:
    findings = findings_of(manifest, before=before, after=after)

    assert len(findings) == bool(found)
    assert not found or found in findings[0]


@pytest.mark.parametrize(
    ("manifests", "count"),
    [
        ([deployment(replicas=2), autoscaler()], 1),
        ([autoscaler(), deployment(replicas=2)], 1),
        ([deployment(), autoscaler()], 0),
        ([deployment(replicas=2), autoscaler(name="other")], 0),
        ([deployment(replicas=2), autoscaler(kind="StatefulSet")], 0),
    ],
)
def test_an_autoscaler_is_never_fought(manifests: list[dict[str, Any]], count: int) -> None:
    assert len(fights_of(manifests)) == count
