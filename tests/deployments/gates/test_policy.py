"""The shipped deployment policy, rule by rule, and what its reader refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from deployments.gates.evaluation import answer
from deployments.rules.policy import (
    MAX_LIST_ITEMS,
    Finding,
    TooMuch,
    findings_of,
    is_secret_variable,
    load_rules,
    shipped_rules,
    subjects_of,
)
from tests.deployments.workflows.scene import NEW, manifests


def good() -> list[dict[str, Any]]:
    return copy.deepcopy([*yaml.safe_load_all(manifests(NEW, cohorts=["pilot"]))])


def judge(found: list[dict[str, Any]], *, stage: str = "production") -> tuple[Finding, ...]:
    rules = shipped_rules()
    subjects = subjects_of(rules, found, environment="shop", stage=stage)
    return findings_of(rules, subjects, answers=answer(subjects))


def deployment(found: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one for one in found if one["kind"] == "Deployment")


def pod(found: list[dict[str, Any]]) -> dict[str, Any]:
    inner: dict[str, Any] = deployment(found)["spec"]["template"]["spec"]
    return inner


def test_the_good_example_has_no_finding() -> None:
    assert judge(good()) == ()


CHANGES = {
    "image_pinned": lambda one: pod(one)["containers"][0].update(image="odoo:19.0"),
    "image_not_latest": lambda one: pod(one)["containers"][0].update(image="odoo:latest@sha256:" + "a" * 64),
    "resources": lambda one: pod(one)["containers"][0].pop("resources"),
    "probes": lambda one: pod(one)["containers"][0].pop("livenessProbe"),
    "non_root": lambda one: pod(one)["containers"][0]["securityContext"].update(runAsNonRoot=False),
    "no_privilege": lambda one: pod(one)["containers"][0]["securityContext"].update(privileged=True),
    "no_host_access": lambda one: pod(one).update(hostNetwork=True),
    "disruption_budget": lambda one: one.pop(),
    "replicas": lambda one: deployment(one)["spec"].update(replicas=1),
    "no_secret_objects": lambda one: one.append({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}}),
    "no_secret_variables": lambda one: pod(one)["containers"][0].update(env=[{"name": "DB_PASSWORD", "value": "x"}]),
}


def test_every_shipped_rule_has_a_case() -> None:
    assert {rule.key for rule in shipped_rules().rules} == set(CHANGES)


def test_each_rule_finds_its_case_and_only_that() -> None:
    for key, change in CHANGES.items():
        found = good()
        change(found)

        assert {finding.rule for finding in judge(found)} == {key}


def test_one_replica_is_enough_before_production_or_with_a_reason() -> None:
    found = good()
    deployment(found)["spec"]["replicas"] = 1
    assert judge(found, stage="staging") == ()

    deployment(found)["metadata"]["annotations"] = {"changecontrol.io/single-replica": "Cron must run once."}
    assert judge(found) == ()


def test_an_init_container_needs_no_probes_but_everything_else() -> None:
    found = good()
    container = {key: value for key, value in pod(found)["containers"][0].items() if not key.endswith("Probe")}
    pod(found)["initContainers"] = [{**container, "image": "busybox"}]

    assert {finding.rule for finding in judge(found)} == {"image_pinned"}


def test_a_list_beyond_the_cap_is_not_judged() -> None:
    found = good()
    pod(found)["containers"][0]["args"] = ["x"] * (MAX_LIST_ITEMS + 1)

    with pytest.raises(TooMuch):
        judge(found)


def test_an_expression_beyond_the_cap_is_refused() -> None:
    rule = {"key": "a", "each": "object", "sentence": "S.", "expression": "true || " * 400 + "true"}
    text = yaml.safe_dump({"version": 1, "rules": [rule]})

    with pytest.raises(ValueError, match="at most 2000 characters"):
        load_rules(text)


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("DB_PASSWORD", True),
        ("API_KEY", True),
        ("SMTP_TOKEN", True),
        ("DB_PASS", True),
        ("SENTRY_DSN", True),
        ("SIGNING_KEY", True),
        ("DATABASE_URI", True),
        ("DATABASE_URL", False),
        ("BYPASS_CACHE", False),
        ("PASSWORD_FILE", False),
        ("SECRET_NAME", False),
        ("WORKERS", False),
    ],
)
def test_a_variable_is_a_secret_by_its_name_unless_it_names_a_place(name: str, is_secret: bool) -> None:
    assert is_secret_variable(name) is is_secret


@pytest.mark.parametrize(("least", "found"), [(2, []), (1, ["replicas"])])
def test_replicas_left_to_an_autoscaler_are_at_least_its_minimum(least: int, found: list[str]) -> None:
    one = good()
    deployment(one)["spec"].pop("replicas")
    target = {"kind": "Deployment", "name": deployment(one)["metadata"]["name"]}
    metadata = {"name": "web", "namespace": "shop"}
    spec = {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": 5}
    one.append({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec})

    assert [finding.rule for finding in judge(one)] == found
