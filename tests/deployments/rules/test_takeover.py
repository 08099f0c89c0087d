from __future__ import annotations

from typing import Any

import pytest

from deployments.rules.takeover import is_unclaimed, refusal_of

LABEL = "changecontrol.io/environment"
MANIFEST: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web", LABEL: "shop"}},
    "spec": {
        "replicas": 2,
        "template": {
            "metadata": {"finalizers": ["example.com/one"]},
            "spec": {"containers": [{"name": "odoo", "image": "odoo", "ports": [{"containerPort": 80}]}]},
        },
    },
}


def live(*managed: dict[str, Any], label: str = "shop", **metadata: Any) -> dict[str, Any]:
    labels = {LABEL: label} if label else {}
    return {**MANIFEST, "metadata": {"name": "web", "labels": labels, "managedFields": list(managed), **metadata}}


def managed(fields: dict[str, Any], *, by: str = "argocd-controller", **rest: Any) -> dict[str, Any]:
    return {"manager": by, "operation": "Apply", "fieldsV1": fields, **rest}


def container(**fields: Any) -> dict[str, Any]:
    inner = {".": {}, "f:name": {}, **fields}
    return {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"odoo"}': inner}}}}}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}


@pytest.mark.parametrize(
    "there",
    [
        live(),
        live(label=""),
        live(ownerReferences=[{"kind": "Tenant", "name": "northwind"}]),
        live(managed(REPLICAS, by="changecontrol")),
        live(managed(REPLICAS, by="kubectl-client-side-apply", operation="Update")),
        live(managed(REPLICAS, by="autoscaler", subresource="scale")),
        live(managed({"f:metadata": {"f:annotations": {"f:note": {}}}})),
        # Whoever adds a variable to the container names the container, and takes nothing of ours.
        live(managed(container(**{"f:env": {'k:{"name":"ZONE"}': {".": {}, "f:value": {}}}}))),
        live(managed(container(**{"f:ports": {'k:{"containerPort":81,"protocol":"TCP"}': {"f:hostPort": {}}}}))),
        live(managed(container(**{"f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {"f:containerPort": {}}}}))),
    ],
)
def test_what_nobody_else_manages_may_be_written(there: dict[str, Any]) -> None:
    assert refusal_of(MANIFEST, there) == ""


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (live(label="other"), "belongs to another environment (changecontrol.io/environment: other)"),
        (
            live(ownerReferences=[{"kind": "OdooInstance", "name": "nw", "controller": True}]),
            "is managed by OdooInstance nw, which would undo what is written",
        ),
        (live(managed(REPLICAS)), "is also applied by argocd-controller, which sets .spec.replicas."),
        (live(managed(REPLICAS), label=""), "is also applied by argocd-controller"),
        (
            live(managed(container(**{"f:image": {}}))),
            "which sets .spec.template.spec.containers[name=odoo].image.",
        ),
        (
            live(managed({"f:spec": {"f:template": {"f:metadata": {"f:finalizers": {'v:"example.com/one"': {}}}}}})),
            'which sets .spec.template.metadata.finalizers["example.com/one"].',
        ),
        (live(managed({"f:metadata": {"f:labels": {"f:app": {}}}})), "which sets .metadata.labels.app."),
    ],
)
def test_what_somebody_else_manages_is_refused(there: dict[str, Any], sentence: str) -> None:
    refusal = refusal_of(MANIFEST, there)

    assert sentence in refusal
    assert refusal.startswith("Deployment shop/web ")


def test_more_than_three_shared_fields_are_counted() -> None:
    fields: dict[str, Any] = {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:replicas": {}}}
    more = container(**{"f:image": {}})["f:spec"]["f:template"]
    finalizers: dict[str, Any] = {"f:finalizers": {'v:"example.com/one"': {}}}
    fields["f:spec"]["f:template"] = {**more, "f:metadata": finalizers}

    assert " and 1 more. Let one of the two manage it." in refusal_of(MANIFEST, live(managed(fields)))


@pytest.mark.parametrize(("label", "unclaimed"), [("", True), ("shop", False), ("other", False)])
def test_what_carries_no_label_is_nobodys(label: str, unclaimed: bool) -> None:
    assert is_unclaimed(live(label=label)) is unclaimed
