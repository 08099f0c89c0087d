"""The estate over REST: made, changed, found, and kept apart."""

from __future__ import annotations

from typing import Any

import pytest

from changecontrol.models import AuditEvent, Cluster, Environment, GitSource, Region, Store, Tenant
from changecontrol.rules.roles import Role
from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import SmallEstate, add_person, grant, stranger_estate

NEW: dict[str, dict[str, Any]] = {
    "regions": {"tenant": "northwind", "slug": "nordics", "name": "Nordics"},
    "cohorts": {"tenant": "northwind", "slug": "airports", "name": "Airports", "is_pilot": False},
    "stores": {
        "tenant": "northwind",
        "code": "NW-900",
        "name": "Faro",
        "region": "iberia",
        "cohort": "pilot",
        "zone": "Europe/Lisbon",
        "opens_at": "09:00:00",
        "closes_at": "20:00:00",
        "sales_share": "1.2500",
    },
    "sources": {
        "tenant": "northwind",
        "slug": "tills",
        "name": "Tills",
        "url": "https://git.example/tills.git",
        "default_branch": "main",
        "credential": "",
    },
    "processes": {
        "tenant": "northwind",
        "slug": "checkout",
        "name": "Checkout",
        "tier": 0,
        "rto_seconds": 900,
        "rpo_seconds": 60,
        "owner": "ben",
    },
    "environments": {
        "tenant": "northwind",
        "slug": "training",
        "name": "Training",
        "stage": "staging",
        "cluster": "pt-1",
        "namespace": "northwind-training",
        "source": "estate",
        "path": "environments/training",
        "processes": ["warehouse"],
        "cohorts": ["pilot", "rest"],
        "cluster_scoped_kinds": [],
        "database": "training",
        "filestore": "",
    },
}


@pytest.fixture
def client(estate: SmallEstate) -> Any:
    tess = add_person("tess")
    grant(tess, Role.TENANT_ADMINISTRATOR, estate.tenant)
    return client_for(tess)


@pytest.mark.parametrize("kind", NEW)
def test_what_is_made_is_told_as_it_was_said(client: Any, kind: str) -> None:
    made = client.post(f"/api/v1/{kind}/", NEW[kind])
    again = client.post(f"/api/v1/{kind}/", NEW[kind])

    assert made.status_code == 201
    told = made.json()
    assert {name: told[name] for name in NEW[kind]} == NEW[kind]
    assert client.get(f"/api/v1/{kind}/{told['id']}/").json() == told
    assert again.status_code == 409
    assert "already" in sentence(again)
    assert AuditEvent.objects.filter(tag="estate:changed").count() == 1


@pytest.mark.parametrize("kind", NEW)
def test_a_change_touches_only_what_it_names(client: Any, kind: str) -> None:
    made = client.post(f"/api/v1/{kind}/", NEW[kind]).json()

    changed = client.patch(f"/api/v1/{kind}/{made['id']}/", {"name": "Another name"})
    renamed = client.patch(f"/api/v1/{kind}/{made['id']}/", {"slug": "other", "code": "other"})

    assert changed.json() == {**made, "name": "Another name"}
    # What names a thing never changes.
    assert renamed.status_code == 422


def test_several_wrong_answers_are_all_named(client: Any) -> None:
    answer = client.post("/api/v1/stores/", {**NEW["stores"], "zone": "Mars/Base", "region": "nowhere"})
    shape = client.post("/api/v1/stores/", {**NEW["stores"], "sales_share": 101, "opens_at": "late", "code": ""})

    assert answer.status_code == shape.status_code == 422
    assert set(answer.json()["errors"]) <= {"zone", "region"}
    assert set(shape.json()["errors"]) == {"sales_share", "opens_at", "code"}
    assert not Store.objects.filter(code="NW-900").exists()


def test_a_secret_in_place_of_its_reference_is_refused_and_not_repeated(client: Any) -> None:
    answer = client.post("/api/v1/sources/", {**NEW["sources"], "credential": "ghp_canary"})

    assert answer.status_code == 422
    assert b"canary" not in answer.content
    assert not AuditEvent.objects.filter(body__contains="canary").exists()


def test_a_secret_of_the_platform_is_not_sent_where_a_tenant_says(client: Any) -> None:
    answer = client.post("/api/v1/sources/", {**NEW["sources"], "credential": "env:DATABASE_URL"})

    assert answer.status_code == 403
    assert "Only a platform administrator" in sentence(answer)
    assert not GitSource.objects.filter(slug="tills").exists()


def test_what_may_reach_a_whole_cluster_is_not_for_a_tenant_to_say(estate: SmallEstate, client: Any) -> None:
    root = client_for(add_person("root", is_superuser=True))
    url = f"/api/v1/environments/{estate.production.pk}/"

    refused = client.patch(url, {"cluster_scoped_kinds": ["StorageClass"]})
    allowed = root.patch(url, {"cluster_scoped_kinds": ["StorageClass"]})

    assert (refused.status_code, allowed.status_code) == (403, 200)
    assert "Only a platform administrator" in sentence(refused)
    assert client.get(url).json()["cluster_scoped_kinds"] == ["StorageClass"]


def test_references_to_secrets_are_shown_to_those_who_may_edit_them(estate: SmallEstate, client: Any) -> None:
    root = client_for(add_person("root", is_superuser=True))
    url = f"/api/v1/clusters/{estate.cluster.pk}/"

    assert root.get(url).json()["credential"] == "env:KUBECONFIG_PT_1"
    assert client.get(url).json()["credential"] is None
    assert client.get("/api/v1/clusters/").json()["results"][0]["credential"] is None


def test_tenants_and_clusters_are_the_platforms_to_make(estate: SmallEstate, client: Any) -> None:
    root = client_for(add_person("root", is_superuser=True))
    tenant, cluster = {"slug": "kite", "name": "Kite"}, {"slug": "de-1", "name": "Berlin", "credential": "env:KUBE"}

    refused = [client.post("/api/v1/tenants/", tenant), client.post("/api/v1/clusters/", cluster)]
    made = [root.post("/api/v1/tenants/", tenant), root.post("/api/v1/clusters/", cluster)]

    assert [one.status_code for one in refused] == [403, 403]
    assert [one.status_code for one in made] == [201, 201]
    assert Tenant.objects.filter(slug="kite").exists()
    assert Cluster.objects.filter(slug="de-1").exists()


def test_making_what_exists_changes_nothing_of_it(estate: SmallEstate, client: Any) -> None:
    answer = client.post("/api/v1/regions/", {"tenant": "northwind", "slug": "iberia", "name": "Taken over"})

    assert answer.status_code == 409
    assert Region.objects.get(slug="iberia").name == "Iberia"
    assert AuditEvent.objects.get(tag="refused").tenant == estate.tenant


def test_another_tenants_things_cannot_be_named_changed_or_seen(estate: SmallEstate, client: Any) -> None:  # BIZ-1
    kite, _ = stranger_estate()
    missing = client.get("/api/v1/environments/999999/")

    hidden = client.get(f"/api/v1/environments/{kite.production.pk}/")
    changed = client.patch(f"/api/v1/environments/{kite.production.pk}/", {"name": "Mine"})
    made = client.post("/api/v1/regions/", {**NEW["regions"], "tenant": "kite"})

    assert (hidden.status_code, changed.status_code, made.status_code) == (404, 404, 404)
    assert hidden.json() == missing.json()
    assert Environment.objects.get(pk=kite.production.pk).name == "Kite production"


def test_lists_are_narrowed(client: Any) -> None:
    def slugs(query: str) -> list[str]:
        return [one.get("slug") or one["code"] for one in client.get(f"/api/v1/{query}").json()["results"]]

    assert slugs("environments/?stage=staging") == ["staging"]
    assert slugs("environments/?cluster=pt-1") == ["development", "staging", "production"]
    assert slugs("stores/?cohort=pilot") == ["northwind-1", "northwind-2"]
    assert slugs("stores/?code=northwind-3&region=iberia") == ["northwind-3"]
    assert slugs("processes/?tier=2") == ["warehouse"]
    assert slugs("processes/?tier=0") == []
    assert slugs("cohorts/?tenant=kite") == []
