"""Every list of recovery over REST: what it costs, whose rows it shows, how it pages and what it refuses."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.actions.holds import place_hold
from recovery.actions.points import record_copy
from recovery.actions.restores import ask_restore
from recovery.rules.locks import ToldLock
from tests.changecontrol.api.conftest import client_for, sentence
from tests.changecontrol.api.test_lists import cost
from tests.factories import actor, add_environment, add_person, stranger_estate
from tests.factories.recovery import POLICY, backup_policy, finished_drill, recorded_point
from tests.recovery.api.conftest import AT, Scene

LISTS = [
    *("policies", "points", "backups", "restores", "drills", "corrective-actions", "holds"),
    *("alarms", "environments"),
]
MOST_STATEMENTS = {"alarms": 14, "environments": 20}
"""Where more than six are needed: what is wrong and how far back one can go is judged from all that is recorded."""


@pytest.fixture
def full(scene: Scene) -> Scene:
    """Have three of everything at least, each of an environment of its own."""
    estate = scene.estate
    for number in range(3):
        place = add_environment(
            estate.tenant,
            "staging",
            cluster=estate.cluster,
            source=estate.source,
            cohorts=[estate.pilot],
            processes=[estate.process],
            slug=f"extra-{number}",
        )
        fill(scene, place)
    return scene


def fill(scene: Scene, place: Environment) -> None:
    now = clock.now()
    at = now - timedelta(hours=3)
    backup_policy(place, at=at - timedelta(days=100))
    point = recorded_point(place, "p", at, by=scene.rio)
    recorded_point(place, "q", at + timedelta(hours=1), by=scene.rio, kind="incremental", parent_id=point.pk)
    words: dict[str, Any] = {"actor": actor(scene.rio), "environment_id": place.pk, "at": now}
    ask_restore(target_at=point.consistent_at, target_database="look", reason="-", **words)
    drill = finished_drill(place, by=scene.rio, target_at=point.consistent_at, is_passed=False, at=now)
    place_hold(name="Case", reason="-", point_id=point.pk, **words)
    assert drill.verifications.exists()


def test_every_list_costs_the_same_for_one_row_and_for_three(full: Scene) -> None:
    client = client_for(full.estate.dee, warm=True)
    costs = {}

    for name in LISTS:
        url = f"{AT}/{name}/?page_size="
        rows = [len(client.get(f"{url}{size}").json()["results"]) for size in (1, 3)]
        costs[name] = (rows, cost(client, f"{url}1"), cost(client, f"{url}3"))

    assert {name: rows for name, (rows, _, _) in costs.items()} == {name: [1, 3] for name in LISTS}
    assert {name: found for name, found in costs.items() if found[1] != found[2]} == {}
    assert {name: found for name, found in costs.items() if found[2] > MOST_STATEMENTS.get(name, 6)} == {}


def test_every_list_pages_forwards_and_back_without_losing_a_row(full: Scene, rio: APIClient) -> None:
    def keys(url: str) -> list[int]:
        return [one["id"] for one in rio.get(url).json()["results"]]

    for name in LISTS:
        every = keys(f"{AT}/{name}/?page_size=200")
        first = rio.get(f"{AT}/{name}/?page_size=2").json()
        second = rio.get(first["next"]).json()

        assert [*(one["id"] for one in first["results"]), *keys(first["next"])] == every[:4], name
        assert keys(second["previous"]) == every[:2], name
        assert keys(f"{AT}/{name}/?page_size=2&cursor=last") == every[-2:], name


def test_no_list_and_no_thing_of_another_tenant_is_shown(full: Scene, rio: APIClient) -> None:  # BIZ-1
    _, eve = stranger_estate()
    client = client_for(eve)

    for name in LISTS:
        answer = client.get(f"{AT}/{name}/?page_size=200")
        mine = rio.get(f"{AT}/{name}/").json()["results"]

        assert answer.status_code == 200, name
        assert b"northwind" not in answer.content, name
        assert mine, name
        hidden = client.get(f"{AT}/{'environments' if name == 'alarms' else name}/{mine[0]['id']}/")
        assert (hidden.status_code, sentence(hidden)) == (404, "There is nothing here that you may see."), name


def test_a_person_without_any_role_finds_every_list_empty(full: Scene) -> None:
    client = client_for(add_person("nobody"))

    for name in LISTS:
        assert client.get(f"{AT}/{name}/").json() == {"next": None, "previous": None, "results": []}, name


def test_a_token_needs_the_scope_for_reading_and_the_one_for_the_command(full: Scene) -> None:
    place = {"tenant": "northwind", "environment": "production"}
    reader = client_for(full.rio, scopes=[Ability.RECOVERY_VIEW])
    other = client_for(full.rio, scopes=[Ability.CHANGE_VIEW, Ability.RECOVERY_BACK_UP])

    for name in LISTS:
        assert reader.get(f"{AT}/{name}/").status_code == 200, name
        refused = other.get(f"{AT}/{name}/")
        assert (refused.status_code, sentence(refused)) == (403, "This token is not scoped for “recovery.view”."), name
    assert reader.post(f"{AT}/backups/", {**place, "reason": "-"}).status_code == 403
    assert other.post(f"{AT}/backups/", {**place, "reason": "-"}).status_code == 201


@pytest.mark.parametrize("query", ["nonsense=1", "cursor=%00", "cursor=after-x", "page_size=x", "page_size=201"])
def test_every_list_refuses_what_makes_no_sense(scene: Scene, rio: APIClient, query: str) -> None:
    for name in LISTS:
        answer = rio.get(f"{AT}/{name}/?{query}")

        assert (name, answer.status_code) == (name, 422)
        assert list(answer.json()["errors"]) == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "query",
    [
        "policies/?engine=barman",
        "points/?state=flying",
        "points/?kind=%00",
        "points/?min_level=9",
        "points/?min_level=" + "9" * 400,
        "points/?min_level=NaN",
        "points/?since=yesterday",
        "points/?until=9999-12-31T23:59:59-23:59",
        "points/?is_going=perhaps",
        "points/?tenant=%00",
        "backups/?state=flying",
        "backups/?environment=%00",
        "restores/?purpose=fun",
        "drills/?level=6",
        "drills/?is_sabotaged=perhaps",
        "drills/?is_signed_off=perhaps",
        "holds/?is_lifted=perhaps",
        "environments/?is_drill_overdue=perhaps",
        "environments/?has_policy=perhaps",
        "environments/?has_alarm=perhaps",
        "alarms/?kind=noise",
        "corrective-actions/?is_open=perhaps",
    ],
)
def test_an_unknown_value_of_a_filter_is_a_problem_that_names_it(scene: Scene, rio: APIClient, query: str) -> None:
    answer = rio.get(f"{AT}/{query}")

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [query.partition("?")[2].partition("=")[0]]


def test_points_are_found_by_where_when_and_how_far_they_are_proved(full: Scene, rio: APIClient) -> None:
    def keys(**query: Any) -> list[str]:
        return [one["key"] for one in rio.get(f"{AT}/points/", query).json()["results"]]

    assert keys(environment="production") == ["newer", "older"]
    assert keys(environment="production", since=full.newer.consistent_at.isoformat()) == ["newer"]
    assert keys(environment="production", until=full.newer.consistent_at.isoformat()) == ["older"]
    assert keys(tenant="kite") == []
    # What builds upon the one that a drill found broken is broken with it.
    assert keys(state="broken") == ["q", "p"] * 3
    assert keys(kind="incremental") == ["q", "q", "q"]
    assert keys(min_level="2") == []
    assert len(keys(min_level="0")) == 8


def test_each_copy_of_a_point_tells_what_its_store_said_of_its_lock(scene: Scene, rio: APIClient) -> None:
    at = scene.newer.finished_at
    words: dict[str, Any] = {"actor": system_actor(), "at": at}
    record_copy(scene.newer, store="s3://locked", lock=ToldLock(at, at + timedelta(days=30)), **words)
    record_copy(scene.newer, store="s3://plain", lock=ToldLock(at, None), **words)

    told = rio.get(f"{AT}/points/{scene.newer.pk}/").json()["copies"]

    moments = [
        [one["store"], *(one[name] and datetime.fromisoformat(one[name]) for name in ("locked_until", "lock_told_at"))]
        for one in told
    ]
    assert moments == [
        [POLICY.store, None, None],
        ["s3://locked", at + timedelta(days=30), at],
        ["s3://plain", None, at],
    ]


def test_every_thing_costs_the_same_however_much_belongs_to_it(full: Scene) -> None:
    client = client_for(full.rio, warm=True)
    point = client.get(f"{AT}/points/?state=broken").json()["results"][0]["id"]
    drill = client.get(f"{AT}/drills/").json()["results"][0]["id"]

    before = (cost(client, f"{AT}/points/{point}/"), cost(client, f"{AT}/drills/{drill}/"))
    place = Environment.objects.get(slug="extra-2")
    for number in range(3):
        words: dict[str, Any] = {"actor": actor(full.rio), "environment_id": place.pk, "at": clock.now()}
        place_hold(name=f"Case {number}", reason="-", **words)

    assert (cost(client, f"{AT}/points/{point}/"), cost(client, f"{AT}/drills/{drill}/")) == before
