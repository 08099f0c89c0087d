"""Faults on demand, effects counted at the far side."""

from __future__ import annotations

import http.client
import time
from typing import Any

import pytest

from tests.deployments.practice.conftest import Rehearsal


def _config(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "1"}}


def _inject(rehearsal: Rehearsal, **rule: Any) -> None:
    rule.setdefault("path", rehearsal.path("configmaps", group="v1"))
    assert rehearsal.client.ask("POST", "/practice/faults", rule).status == 201


def _effects(rehearsal: Rehearsal, name: str) -> int:
    effects = rehearsal.client.ask("GET", "/practice/calls").body["effects"]
    return int(effects.get(f"apply configmaps {rehearsal.namespace}/{name}", 0))


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("401", "Unauthorized"), ("403", "Forbidden"), ("409", "Conflict"), ("429", "TooManyRequests"),
        ("500", "InternalError"), ("503", "ServiceUnavailable"),
    ],
)  # fmt: skip
def test_status_fault_strikes_as_often_as_asked_and_acts_on_nothing(
    rehearsal: Rehearsal, kind: str, reason: str
) -> None:
    _inject(rehearsal, kind=kind, times=2, seconds=3)
    path = rehearsal.path("configmaps", "c", group="v1")

    answers = [rehearsal.client.apply(path, _config("c")) for _ in range(3)]

    assert [answer.status for answer in answers] == [int(kind), int(kind), 201]
    assert answers[0].body["reason"] == reason
    assert answers[0].headers.get("retry-after") == ("3" if kind in ("429", "503") else None)
    assert _effects(rehearsal, "c") == 1


def test_connection_cut_before_acting_leaves_nothing(rehearsal: Rehearsal) -> None:
    _inject(rehearsal, kind="cut-before")

    with pytest.raises((ConnectionError, http.client.HTTPException, OSError)):
        rehearsal.client.apply(rehearsal.path("configmaps", "c", group="v1"), _config("c"))

    assert _effects(rehearsal, "c") == 0
    assert rehearsal.client.ask("GET", rehearsal.path("configmaps", "c", group="v1")).status == 404


def test_connection_cut_after_acting_leaves_the_effect_and_a_repeat_adds_none(rehearsal: Rehearsal) -> None:
    _inject(rehearsal, kind="cut-after")
    path = rehearsal.path("configmaps", "c", group="v1")

    with pytest.raises((ConnectionError, http.client.HTTPException, OSError)):
        rehearsal.client.apply(path, _config("c"))
    again = rehearsal.client.apply(path, _config("c"))

    assert again.status == 200
    assert _effects(rehearsal, "c") == 1


def test_slow_answer_takes_its_time_and_holds_up_nobody_else(rehearsal: Rehearsal) -> None:
    _inject(rehearsal, kind="slow", seconds=0.5, method="GET")
    start = time.monotonic()

    answer = rehearsal.client.ask("GET", rehearsal.path("configmaps", group="v1"))

    assert answer.status == 200
    assert time.monotonic() - start >= 0.5


def test_fault_is_matched_by_method_and_path_and_may_skip(rehearsal: Rehearsal) -> None:
    _inject(rehearsal, kind="500", method="PATCH", skip=1, times=1)
    path = rehearsal.path("configmaps", "c", group="v1")

    read = rehearsal.client.ask("GET", rehearsal.path("configmaps", group="v1")).status
    writes = [rehearsal.client.apply(path, _config("c")).status for _ in range(3)]

    assert read == 200
    assert writes == [201, 500, 200]


def test_faults_are_cleared_in_one_call(rehearsal: Rehearsal) -> None:
    _inject(rehearsal, kind="500", times=None)
    path = rehearsal.path("configmaps", group="v1")
    assert rehearsal.client.ask("GET", path).status == 500

    rehearsal.client.ask("DELETE", "/practice/faults")

    assert rehearsal.client.ask("GET", path).status == 200


@pytest.mark.parametrize(
    "rule",
    [{}, {"kind": "418"}, {"kind": "500", "times": 0}, {"kind": "slow", "seconds": 1e9},
     {"kind": "500", "colour": "red"}, {"kind": "500", "skip": -1}, [{"kind": "500"}] * 101],
)  # fmt: skip
def test_senseless_or_boundless_fault_is_refused(rehearsal: Rehearsal, rule: Any) -> None:
    assert rehearsal.client.ask("POST", "/practice/faults", rule).status == 400
    assert rehearsal.client.ask("GET", "/practice/faults").body == {"faults": []}
