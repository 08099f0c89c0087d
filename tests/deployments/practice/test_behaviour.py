"""How a release fares is decided by what stands in its manifest."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.practice.behaviour import ANNOTATION, Behaviour, behaviour_of, image_id

DIGEST = "sha256:" + "bad0" * 16


def _pod(image: str, **more: Any) -> dict[str, Any]:
    annotations = {ANNOTATION: more.pop("annotation")} if "annotation" in more else {}
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [{"image": image, **more}]}}


@pytest.mark.parametrize(
    "pod, expected",
    [
        (_pod("registry.example/odoo:19.0-20261120"), Behaviour.GOOD),
        (_pod(f"registry.example/odoo:19.0-20261120@{DIGEST}"), Behaviour.GOOD),
        (_pod(f"registry.example/odoo:19.0-20261121-bad@{DIGEST}"), Behaviour.BAD_IMAGE),
        (_pod("registry.invalid/odoo:19.0"), Behaviour.BAD_IMAGE),
        (_pod("registry.example/odoo:19.0-slow-leak"), Behaviour.SLOW_LEAK),
        (_pod("registry.example/odoo:19.0-crash"), Behaviour.CRASH_LOOP),
        (_pod("registry.example/odoo:19.0-slow-start"), Behaviour.SLOW_START),
        (_pod("registry.example/odoo:19.0-bad", annotation="good"), Behaviour.GOOD),
        (_pod("registry.example/odoo:19.0", annotation="never-ready"), Behaviour.NEVER_READY),
        (_pod("registry.example/odoo:19.0", annotation="no such word"), Behaviour.GOOD),
        (_pod("registry.example/odoo:19.0", command=["sh", "-c", "update; exit 3"]), Behaviour.FAIL),
        (_pod("registry.example/odoo:19.0", command=["sh", "-c", "update; exit 0"]), Behaviour.GOOD),
    ],
)
def test_manifest_decides_the_behaviour(pod: dict[str, Any], expected: Behaviour) -> None:
    assert behaviour_of(pod) is expected


def test_image_id_carries_the_pinned_digest() -> None:
    assert image_id(f"host:5000/shop/odoo:19.0-1@{DIGEST}") == f"host:5000/shop/odoo@{DIGEST}"
    assert image_id("registry.example/odoo:17.0-r1") == "registry.example/odoo:17.0-r1"
