"""Every list of the API: what it costs, whose rows it shows, how it pages and what it refuses to be asked."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from changecontrol import clock, outbox
from changecontrol.actions.freezes import open_freeze
from changecontrol.actions.policies import publish_policy
from changecontrol.actions.windows import WindowContent, create_window
from changecontrol.models import Cluster, Cohort, GitSource, Region, Tenant, User
from changecontrol.rules.roles import Role
from tests.changecontrol.api.conftest import client_for, secret_for, sentence
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    add_environment,
    add_person,
    advance_to,
    draft_change,
    grant,
    small_estate,
    stranger_estate,
)

OWN = ["me", "tokens", "messages"]
"""What is one's own, and so has nothing of a tenant in it."""
LISTS = [
    "changes",
    "runs",
    "windows",
    "freezes",
    "policies",
    "tenants",
    "regions",
    "stores",
    "cohorts",
    "environments",
    "clusters",
    "processes",
    "sources",
    "role-grants",
    "audit/events",
]
MOST_STATEMENTS = 6


def fill(estate: SmallEstate, person: User) -> None:
    """Have three of everything at least."""
    tenant, slug = estate.tenant, estate.tenant.slug
    for number in range(3):
        draft_change(estate, title=f"Change {number} of {slug}")
        Region.objects.create(tenant=tenant, slug=f"region-{number}", name=f"Region {number}")
        Cohort.objects.create(tenant=tenant, slug=f"cohort-{number}", name=f"Cohort {number}")
        source = GitSource.objects.create(tenant=tenant, slug=f"source-{number}", name="Source", url="/srv/git")
        cluster = Cluster.objects.create(slug=f"{slug}-{number}", name="Cluster", credential="env:KUBE")
        add_environment(
            tenant,
            "staging",
            cluster=cluster,
            source=source,
            cohorts=[estate.pilot, estate.rest],
            processes=[estate.process],
            slug=f"extra-{number}",
        )
        estate.process.pk = None
        estate.process.slug = f"process-{number}"
        estate.process.save()
        administrator = actor(_administrator(estate))
        create_window(
            actor=administrator,
            tenant_id=tenant.pk,
            content=WindowContent(
                name=f"Window {number}", starts_local=NOW.replace(tzinfo=None), duration_seconds=3600, zone="UTC"
            ),
            at=NOW,
        )
        publish_policy(
            actor=administrator,
            tenant_id=tenant.pk,
            slug=f"policy-{number}",
            name="Policy",
            content={"match": {"environment_stages": ["staging"]}, "stages": []},
            seen_version=0,
            at=NOW,
        )
        open_freeze(
            actor=actor(_freeze_owner(estate)),
            tenant_id=tenant.pk,
            name=f"Freeze {number}",
            reason="Stocktaking.",
            starts_at=NOW,
            ends_at=NOW.replace(year=2027),
            at=NOW,
        )
        secret_for(person)
        with transaction.atomic():
            outbox.post(to=[person], tag="change:held", subject="Held", text="Wait.", at=NOW, path="/")
    for _ in range(3):
        advance_to(estate, "review")


def _administrator(estate: SmallEstate) -> User:
    return _person(f"tess-{estate.tenant.slug}", Role.TENANT_ADMINISTRATOR, estate.tenant)


def _freeze_owner(estate: SmallEstate) -> User:
    return _person(f"fred-{estate.tenant.slug}", Role.FREEZE_OWNER, estate.tenant)


def _person(username: str, role: Role, tenant: Tenant) -> User:
    person = User.objects.filter(username=username).first()
    if person is None:
        person = add_person(username)
        grant(person, role, tenant)
    return person


def cost(client: APIClient, url: str) -> int:
    """Count the statements of one call; the borders of a transaction inside the test's own are none."""
    with CaptureQueriesContext(connection) as seen:
        assert client.get(url).status_code == 200
    return sum("SAVEPOINT" not in one["sql"] for one in seen.captured_queries)


def test_every_list_costs_the_same_for_one_row_and_for_three(estate: SmallEstate) -> None:
    fill(estate, estate.dee)
    small_estate(slug="kite")
    small_estate(slug="third")
    for slug in ("kite", "third"):
        grant(estate.dee, Role.AUDITOR, Tenant.objects.get(slug=slug))
    client = client_for(estate.dee, warm=True)
    costs = {}

    for name in [*LISTS, "tokens", "messages"]:
        url = f"/api/v1/{name}/?page_size="
        rows = [len(client.get(f"{url}{size}").json()["results"]) for size in (1, 3)]
        costs[name] = (rows, cost(client, f"{url}1"), cost(client, f"{url}3"))

    assert {name: rows for name, (rows, _, _) in costs.items()} == {name: [1, 3] for name in costs}
    assert {name: found for name, found in costs.items() if found[1] != found[2]} == {}
    assert {name: found for name, found in costs.items() if found[2] > MOST_STATEMENTS} == {}


def test_every_list_pages_forwards_and_back_without_losing_a_row(estate: SmallEstate) -> None:
    fill(estate, estate.dee)
    client = client_for(estate.dee)
    for name in [one for one in LISTS if one not in {"tenants", "audit/events"}]:
        every = client.get(f"/api/v1/{name}/?page_size=200").json()
        assert (every["next"], every["previous"]) == (None, None)
        first = client.get(f"/api/v1/{name}/?page_size=2").json()
        second = client.get(first["next"]).json()
        last = client.get(f"/api/v1/{name}/?page_size=2&cursor=last").json()

        assert [*first["results"], *second["results"]] == every["results"][:4], name
        assert client.get(second["previous"]).json()["results"] == first["results"], name
        assert last["results"] == every["results"][-2:], name
        assert last["next"] is None, name


def test_no_list_shows_anything_of_another_tenant(estate: SmallEstate) -> None:  # BIZ-1
    fill(estate, estate.ada)
    _, eve = stranger_estate()
    client = client_for(eve)

    told = {name: client.get(f"/api/v1/{name}/?page_size=200") for name in LISTS}

    assert {name: answer.status_code for name, answer in told.items()} == dict.fromkeys(LISTS, 200)
    assert [name for name, answer in told.items() if b"northwind" in answer.content.lower()] == []
    # Every list was able to leak: its owner sees rows in it.
    dee = client_for(estate.dee)
    assert [name for name in LISTS if not dee.get(f"/api/v1/{name}/").json()["results"]] == []


def test_a_person_without_any_role_finds_every_list_empty_or_closed(estate: SmallEstate) -> None:
    fill(estate, estate.ada)
    client = client_for(add_person("nobody"))

    for name in LISTS:
        answer = client.get(f"/api/v1/{name}/")
        if name in {"role-grants", "audit/events"}:
            assert answer.status_code == 403, name
            assert sentence(answer)
        else:
            assert answer.json() == {"next": None, "previous": None, "results": []}, name


@pytest.mark.parametrize("query", ["nonsense=1", "cursor=%00", "cursor=after-x", "page_size=x", "page_size=201"])
def test_every_list_refuses_what_makes_no_sense(estate: SmallEstate, query: str) -> None:
    client = client_for(estate.dee)

    for name in [*LISTS, "tokens", "messages"]:
        answer = client.get(f"/api/v1/{name}/?{query}")

        assert (name, answer.status_code) == (name, 422)
        assert list(answer.json()["errors"]) == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "query",
    [
        "windows/?is_active=maybe",
        "windows/?effect=explode",
        "windows/?stage=moon",
        "freezes/?holds_at=tomorrow",
        "environments/?stage=moon",
        "processes/?tier=17",
        "runs/?state=flying",
        "audit/events/?since=yesterday",
        "audit/events/?tag=%00",
        "stores/?region=%00",
        "role-grants/?holder=%00",
        "messages/?is_read=sometimes",
    ],
)
def test_an_unknown_value_of_a_filter_is_a_problem_that_names_it(estate: SmallEstate, query: str) -> None:
    answer = client_for(estate.dee).get(f"/api/v1/{query}")

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [query.partition("?")[2].partition("=")[0]]


def test_freezes_that_hold_at_a_moment(estate: SmallEstate) -> None:
    fill(estate, estate.ada)
    client = client_for(estate.dee)

    def names(at: str) -> list[str]:
        return [one["name"] for one in client.get("/api/v1/freezes/", {"holds_at": at}).json()["results"]]

    assert names(NOW.isoformat()) == ["Freeze 2", "Freeze 1", "Freeze 0"]
    assert names(NOW.replace(year=2027).isoformat()) == []


def test_oneself_is_told_with_roles_and_scopes(estate: SmallEstate) -> None:
    grant(estate.ada, Role.TECHNICAL_REVIEWER, estate.staging)

    told = client_for(estate.ada, scopes=["change.view"]).get("/api/v1/me/").json()

    assert told["authentication"].startswith("token cc_")
    assert {key: told[key] for key in ("username", "scopes", "everywhere", "roles")} == {
        "username": "ada",
        "scopes": ["change.view"],
        "everywhere": [],
        "roles": [
            {"tenant": "northwind", "environment": None, "roles": ["engineer"]},
            {"tenant": "northwind", "environment": "staging", "roles": ["technical_reviewer"]},
        ],
    }


def test_unread_messages_are_found_and_read_once(estate: SmallEstate) -> None:
    fill(estate, estate.ada)
    client = client_for(estate.ada)
    unread = client.get("/api/v1/messages/?is_read=false").json()["results"]

    answer = client.post(f"/api/v1/messages/{unread[0]['id']}/read/")
    stranger = client_for(estate.ben).post(f"/api/v1/messages/{unread[0]['id']}/read/")

    assert answer.json()["read_at"] is not None
    assert len(client.get("/api/v1/messages/?is_read=false").json()["results"]) == len(unread) - 1
    assert stranger.status_code == 404
    assert clock.now().isoformat()[:10] == answer.json()["read_at"][:10]
