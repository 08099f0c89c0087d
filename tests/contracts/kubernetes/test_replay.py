"""The practice estate answers as the recorded API server did: status, reason, words, fields, owners."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.kubernetes.normal import normal, of_interest
from tests.contracts.kubernetes.replay import RECORDED, SAMPLES, Replay

DISCOVERY = range(2, 12)
_SEEN_ON_THE_WAY = 93
_EVENTS = 65
_CASES = [
    number for number in range(len(RECORDED)) if number not in {*DISCOVERY, *SAMPLES, 0, _SEEN_ON_THE_WAY, _EVENTS}
]


def _named(number: int) -> str:
    entry = RECORDED[number]
    return f"{number}-{entry['case']}-{entry['note'] or entry['request']['method']}"


@pytest.mark.parametrize("number", _CASES, ids=_named)
def test_answer_is_the_recorded_one(replay: Replay, number: int) -> None:
    recorded, observed = RECORDED[number]["response"], replay.answers[number]

    assert observed.status == recorded["status"], observed.body
    assert of_interest(number, normal(observed.body)) == of_interest(number, normal(recorded["body"]))
    for name, value in recorded["headers"].items():
        assert observed.headers[name] == value


def test_version_is_of_the_recorded_minor(replay: Replay) -> None:
    recorded, observed = RECORDED[0]["response"]["body"], replay.answers[0].body

    for key in ("major", "minor", "gitVersion", "emulationMinor", "minCompatibilityMinor", "platform"):
        assert observed[key] == recorded[key]
    assert set(observed) == set(recorded)


def test_every_group_served_was_recorded_so(replay: Replay) -> None:
    recorded = {group["name"]: group for group in RECORDED[2]["response"]["body"]["groups"]}
    observed = replay.answers[2].body

    assert {key: observed[key] for key in ("kind", "apiVersion")} == {"kind": "APIGroupList", "apiVersion": "v1"}
    for group in observed["groups"]:
        expected = recorded[group["name"]]
        served = [version for version in expected["versions"] if version in group["versions"]]
        assert group == {**expected, "versions": served}
    missing = set(recorded) - {group["name"] for group in observed["groups"]}
    assert missing == {
        "apiregistration.k8s.io", "events.k8s.io", "certificates.k8s.io", "admissionregistration.k8s.io",
        "scheduling.k8s.io", "node.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
    }  # fmt: skip


_NOT_SERVED = {
    "bindings", "componentstatuses", "nodes/proxy", "pods/attach", "pods/binding", "pods/ephemeralcontainers",
    "pods/exec",
    "pods/portforward", "pods/proxy", "pods/resize", "podtemplates", "replicationcontrollers",
    "replicationcontrollers/scale",
    "replicationcontrollers/status", "services/proxy", "ipaddresses", "servicecidrs", "servicecidrs/status",
}  # fmt: skip


@pytest.mark.parametrize("number", range(3, 12), ids=_named)
def test_resources_of_a_group_are_the_recorded_ones(replay: Replay, number: int) -> None:
    def of(body: dict[str, Any]) -> dict[str, Any]:
        kept = [
            {key: value for key, value in entry.items() if key != "storageVersionHash"}
            for entry in body["resources"]
            if entry["name"] not in _NOT_SERVED
        ]
        return {**body, "resources": kept}

    assert of(replay.answers[number].body) == of(RECORDED[number]["response"]["body"])


_ON_THE_WAY = ("NewReplicaSetCreated", "ReplicaSetUpdated", "NewReplicaSetAvailable")


def _progress(status: dict[str, Any]) -> dict[str, Any]:
    return next(entry for entry in status["conditions"] if entry["type"] == "Progressing")


def _is_reachable(status: dict[str, Any], replicas: int) -> bool:
    """Say what is true of every status that a rollout of this size passes through."""
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available, unavailable = status.get("availableReplicas", 0), status.get("unavailableReplicas", 0)
    is_done = _progress(status)["reason"] == "NewReplicaSetAvailable"
    return (
        total <= replicas + 1
        and updated <= total
        and available <= status.get("readyReplicas", 0) <= total
        and unavailable <= replicas + 1
        and {entry["type"] for entry in status["conditions"]} == {"Available", "Progressing"}
        and _progress(status)["status"] == "True"
        and _progress(status)["reason"] in _ON_THE_WAY
        and (not is_done or "successfully progressed" in _progress(status)["message"])
    )


def test_rollout_passes_only_through_reachable_states_in_the_recorded_order(replay: Replay) -> None:
    recorded = [RECORDED[number]["response"]["body"]["status"] for number in SAMPLES]
    observed = [entry["status"] for entry in replay.rollout if entry["metadata"]["generation"] == 5]

    for statuses in (recorded, observed):
        fresh = [status for status in statuses if status["observedGeneration"] == 5]
        assert all(_is_reachable(status, 3) for status in fresh)
        updated = [
            status.get("updatedReplicas", 0) for status in fresh if _progress(status)["reason"] != _ON_THE_WAY[2]
        ]
        assert updated == sorted(updated)
    reasons = [_progress(status)["reason"] for status in observed]
    assert tuple(dict.fromkeys(reasons)) == _ON_THE_WAY
    # A stale success is never shown as the new generation's.
    assert all(
        status.get("updatedReplicas") == 3 for status in observed if _progress(status)["reason"] == _ON_THE_WAY[2]
    )


def test_failing_job_passes_through_the_recorded_state_and_ends_failed(replay: Replay) -> None:
    recorded = of_interest(_SEEN_ON_THE_WAY, normal(RECORDED[_SEEN_ON_THE_WAY]["response"]["body"]))

    seen = [of_interest(_SEEN_ON_THE_WAY, normal(entry)) for entry in replay.failing_job]
    last = replay.failing_job[-1]["status"]

    assert recorded in seen
    assert [entry["type"] for entry in last["conditions"]] == ["FailureTarget", "Failed"]
    assert (last["failed"], last["uncountedTerminatedPods"]) == (1, {})


def test_events_tell_what_happened_in_the_recorded_words(replay: Replay) -> None:
    recorded = of_interest(_EVENTS, normal(RECORDED[_EVENTS]["response"]["body"]))
    answer = replay.answers[_EVENTS].body

    assert set(recorded) <= set(replay.events)
    assert len(answer["items"]) == 20
    assert answer["metadata"]["continue"]
    assert answer["metadata"]["remainingItemCount"] == len(replay.raw_events) - 20
