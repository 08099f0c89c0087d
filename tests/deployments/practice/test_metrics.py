"""Metrics follow what is deployed; queries are Prometheus', and what lies outside is refused in its words."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import pytest

from deployments.practice.promql import QueryError, parsed
from tests.deployments.practice.conftest import SPEED, Rehearsal

QUERY = "/prometheus/api/v1/query"
RATIO = "odoo_pos_orders_unsynchronised_ratio"


def _values(rehearsal: Rehearsal, query: str, **params: str) -> list[tuple[dict[str, str], float]]:
    answer = rehearsal.client.ask("GET", QUERY, query=query, **params)
    assert answer.status == 200, answer.body
    return [(entry["metric"], float(entry["value"][1])) for entry in answer.body["data"]["result"]]


def _ratio(rehearsal: Rehearsal) -> str:
    return f'{RATIO}{{namespace="{rehearsal.namespace}"}}'


def test_cohort_without_running_workload_has_no_series(rehearsal: Rehearsal) -> None:
    assert _values(rehearsal, _ratio(rehearsal)) == []

    rehearsal.apply(rehearsal.deployment(image="registry.example/odoo:19.0-bad"))
    rehearsal.until_pods(lambda pods: bool(pods) and all(pod["status"].get("containerStatuses") for pod in pods))

    assert _values(rehearsal, _ratio(rehearsal)) == []


def test_good_release_stays_below_half_a_percent(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment())
    rehearsal.settled()
    start = time.time()

    answer = rehearsal.client.ask(
        "GET", f"{QUERY}_range", query=_ratio(rehearsal), start=str(start), end=str(start + 3600), step="30"
    )

    (series,) = answer.body["data"]["result"]
    assert series["metric"] == {"__name__": RATIO, "namespace": rehearsal.namespace, "cohort": "north"}
    values = [float(value) for _, value in series["values"]]
    assert len(values) == 121
    assert 0 < min(values) <= max(values) < 0.005
    assert len(set(values)) > 10


def test_slow_leak_becomes_ready_then_loses_orders_until_it_is_rolled_back(rehearsal: Rehearsal) -> None:
    start = time.time()
    rehearsal.apply(rehearsal.deployment(image="registry.example/odoo:19.0-2-slow-leak"))
    rehearsal.settled()
    ready_at = time.time()

    history = rehearsal.client.ask(
        "GET", f"{QUERY}_range", query=_ratio(rehearsal), start=str(start), end=str(ready_at + 1 / SPEED), step="0.01"
    ).body["data"]["result"][0]["values"]
    late = _values(rehearsal, _ratio(rehearsal), time=str(ready_at + 22 / SPEED))
    breach = _values(rehearsal, f"{_ratio(rehearsal)} > 0.05", time=str(ready_at + 22 / SPEED))
    rehearsal.apply(rehearsal.deployment())
    rehearsal.settled()
    rehearsal.until_pods(lambda pods: len(pods) == 2)
    after = _values(rehearsal, _ratio(rehearsal))

    assert float(history[0][1]) < 0.005
    assert late[0][1] > 0.05
    assert breach == late
    assert after[0][1] < 0.005


def test_request_counter_grows_with_time_and_pods(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment(replicas=3))
    rehearsal.settled()
    later = str(time.time() + 600)
    selector = f'odoo_http_requests_total{{namespace="{rehearsal.namespace}"}}'

    rates = _values(rehearsal, f"sum by (cohort) (rate({selector}[5m]))", time=later)
    share = _values(
        rehearsal,
        f'sum(increase(odoo_http_requests_total{{namespace="{rehearsal.namespace}",code=~"5.."}}[5m])) '
        f"/ sum(increase({selector}[5m]))",
        time=later,
    )

    assert [labels for labels, _ in rates] == [{"cohort": "north"}]
    assert rates[0][1] == pytest.approx(36, rel=0.02)
    assert [labels for labels, _ in share] == [{}]
    assert share[0][1] == pytest.approx(0.001, rel=0.2)


def test_available_replicas_are_shown_per_deployment(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment())
    rehearsal.settled()

    name = "kube_deployment_status_replicas_available"
    found = _values(rehearsal, f'{name}{{namespace="{rehearsal.namespace}"}}')

    assert found == [({"__name__": name, "namespace": rehearsal.namespace, "deployment": "odoo"}, 2.0)]


def test_query_may_be_posted_as_a_form(rehearsal: Rehearsal) -> None:
    form = urlencode({"query": "1 + 2 * 3"})

    answer = rehearsal.client.ask("POST", QUERY, form, content_type="application/x-www-form-urlencoded")

    assert answer.body["data"]["resultType"] == "scalar"
    assert answer.body["data"]["result"][1] == "7"


def test_query_needs_a_token(rehearsal: Rehearsal) -> None:
    assert rehearsal.client.ask("GET", QUERY, query="up", token=None).status == 401
    assert rehearsal.client.ask("GET", QUERY, query="up", token="wrong").status == 401


@pytest.mark.parametrize(
    "query",
    [
        "", "sum(", "up{", "up{a=}", "rate(up)", "up[5m]", "histogram_quantile(0.9, up)", "up offset 5m", "up and up",
        'up{a=~"("}', 'up{a=~"(a+)+"}', "1 > 0", "up up", "(" * 60 + "1" + ")" * 60, "x" * 5000,
    ],
)  # fmt: skip
def test_query_beyond_the_subset_is_bad_data(rehearsal: Rehearsal, query: str) -> None:
    form = urlencode({"query": query})

    answer = rehearsal.client.ask("POST", QUERY, form, content_type="application/x-www-form-urlencoded")

    assert (answer.status, answer.body["status"], answer.body["errorType"]) == (400, "error", "bad_data")


def _read(name: str, at: float) -> list[tuple[Any, float]]:
    return {
        "a": [({"__name__": "a", "x": "1"}, 4.0), ({"__name__": "a", "x": "2"}, 6.0)],
        "b": [({"__name__": "b", "x": "1"}, 2.0), ({"__name__": "b", "x": "3"}, 9.0)],
    }.get(name, [])


@pytest.mark.parametrize(
    "query, expected",
    [
        ("a / b", [({"x": "1"}, 2.0)]),
        ("a > b", [({"__name__": "a", "x": "1"}, 4.0)]),
        ("sum(a)", [({}, 10.0)]),
        ("max by (x) (a)", [({"x": "1"}, 4.0), ({"x": "2"}, 6.0)]),
        ("avg(a) by (y)", [({}, 5.0)]),
        ("2 * a{x='2'} - 1", [({"x": "2"}, 11.0)]),
        ('a{x!="1"}', [({"__name__": "a", "x": "2"}, 6.0)]),
        ('a{x=~"1|3"}', [({"__name__": "a", "x": "1"}, 4.0)]),
        ("-a{x='1'}", [({"x": "1"}, -4.0)]),
        ("missing", []),
        ("sum(missing)", []),
    ],
)
def test_expressions_evaluate_as_prometheus_does(query: str, expected: list[Any]) -> None:
    assert parsed(query)(_read, 0.0) == expected


def test_two_series_for_one_match_are_refused() -> None:
    with pytest.raises(QueryError, match="duplicate series"):
        parsed("a / a")(_read_twice, 0.0)


def _read_twice(name: str, at: float) -> list[tuple[Any, float]]:
    return [({"x": "1"}, 1.0), ({"x": "1"}, 2.0)]
