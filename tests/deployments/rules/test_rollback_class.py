from __future__ import annotations

from typing import Any

import pytest

from deployments.rules.rollback_class import Classification, RollbackClass, classify, stricter


def thing(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "namespace": "n"}, "spec": spec}


def pods(image: str, **more: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [{"name": "odoo", "image": image}], **more}}}


CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], [], "R0"),
        ([thing("Deployment", **pods("a:1"))], [thing("Deployment", **pods("a:1"))], "R0"),
        ([thing("Deployment", **pods("a:1"))], [thing("Deployment", **pods("a:2"))], "R0"),
        ([thing("Deployment", replicas=1)], [thing("Deployment", replicas=2)], "R0"),
        ([CONFIG], [{**CONFIG, "data": {"x": "2"}}], "R0"),
        ([CONFIG], [], "R1"),
        ([], [CONFIG], "R1"),
        ([thing("Service", port=1)], [thing("Service", port=2)], "R1"),
        ([thing("Deployment", **pods("a:1"))], [thing("Deployment", **pods("a:2", hostNetwork=True))], "R1"),
        ([], [thing("Job", **pods("a:1"))], "R1"),
        ([thing("Job", **pods("a:1"))], [thing("Job", **pods("a:2"))], "R1"),
        ([thing("PersistentVolumeClaim")], [], "R2"),
        ([thing("StatefulSet")], [], "R2"),
        ([thing("PersistentVolumeClaim", size="1Gi")], [thing("PersistentVolumeClaim", size="2Gi")], "R2"),
        ([thing("StatefulSet", volumeClaimTemplates=[])], [thing("StatefulSet", volumeClaimTemplates=[{}])], "R2"),
    ],
)
def test_class_follows_from_what_differs(  # RBK-1
    old: list[dict[str, Any]], new: list[dict[str, Any]], expected: str
) -> None:
    assert classify(old, new).rollback_class == expected


def test_worst_difference_decides_and_gives_the_reason() -> None:  # RBK-1
    old = [thing("PersistentVolumeClaim"), thing("Deployment", replicas=1)]

    assert classify(old, [thing("Deployment", replicas=2)]) == Classification(
        RollbackClass.R2, ("PersistentVolumeClaim n/a is removed, and data may go with it.",)
    )


def test_requester_may_declare_a_stricter_class_and_never_a_milder() -> None:  # RBK-1
    assert stricter(RollbackClass.R0, declared=RollbackClass.R2) is RollbackClass.R2
    assert stricter(RollbackClass.R2, declared=RollbackClass.R0) is RollbackClass.R2
