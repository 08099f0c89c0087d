"""The estate: what runs where, and the forms that change it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from changecontrol import access
from changecontrol.actions.estate import KINDS
from changecontrol.models import AuditEvent, Cluster, Environment, EnvironmentLock, Run, RunTarget, Store
from changecontrol.rules.roles import Role
from tests.factories import NOW, add_environment, advance_to
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db


@pytest.fixture
def administrator(estate: Any) -> Any:
    access.grant_role(estate.ben, Role.TENANT_ADMINISTRATOR, estate.tenant)
    return estate.ben


def test_environment_says_what_it_runs_and_since_when(estate, signed_in) -> None:
    change = advance_to(estate, "closed")
    run = Run.objects.get(change=change)
    Run.objects.filter(pk=run.pk).update(finished_at=NOW)
    RunTarget.objects.create(run=run, environment=estate.production, wave=0, workload="Deployment/odoo-web")
    client = signed_in(estate.dee)

    listed, alone = client.get("/estate/").text, client.get("/environments/northwind/production/").text

    for text in (listed, alone):
        assert "5fa0c33" in text
        assert change.number in text
    assert "not deployed by ChangeControl yet" in listed  # the other two
    assert "4 stores" in alone


def test_a_run_that_failed_is_not_what_runs(estate, signed_in) -> None:
    change = advance_to(estate, "closed")
    run = Run.objects.get(change=change)
    RunTarget.objects.create(run=run, environment=estate.production, wave=0, workload="Deployment/odoo-web")
    Run.objects.filter(pk=run.pk).update(state="rolled_back")

    assert "5fa0c33" not in signed_in(estate.dee).get("/estate/").text


def test_strangers_see_nothing_of_it(estate, eve, signed_in) -> None:
    client = signed_in(eve)

    assert "orthwind" not in client.get("/estate/").text
    assert "orthwind" not in client.get("/estate/stores/?q=northwind").text.replace('value="northwind"', "")
    assert client.get("/environments/northwind/production/").status_code == 404
    assert client.get("/environments/northwind/nowhere/").status_code == 404
    assert client.get(f"/estate/cohort/{estate.pilot.pk}/edit/").status_code == 404


def test_credentials_are_shown_to_platform_administrators_alone(estate, administrator, signed_in) -> None:
    client = signed_in(administrator)
    pages = ["/estate/", "/administration/", "/environments/northwind/production/"]

    assert all("KUBECONFIG_PT_1" not in client.get(path).text for path in pages)
    assert client.get(f"/estate/cluster/{estate.cluster.pk}/edit/").status_code == 403
    administrator.is_superuser = True
    administrator.save()
    assert "KUBECONFIG_PT_1" in client.get(f"/estate/cluster/{estate.cluster.pk}/edit/").text


def test_store_is_added_and_changed_by_the_form(estate, administrator, signed_in) -> None:
    client = signed_in(administrator)
    store = {
        "tenant": estate.tenant.pk,
        "code": "NW-9",
        "name": "Braga 2",
        "zone": "Europe/Lisbon",
        "opens_at": "09:00",
        "closes_at": "20:30",
        "sales_share": "1.5",
        "region": "iberia",
        "cohort": "pilot",
    }

    added = client.post("/estate/store/new/", store)
    one = Store.objects.get(code="NW-9")
    refused = client.post(f"/estate/store/{one.pk}/edit/", {**store, "zone": "Moon/Base"})
    changed = client.post(f"/estate/store/{one.pk}/edit/", {**store, "cohort": "rest"})

    assert (added.status_code, refused.status_code, changed.status_code) == (302, 422, 302)
    assert "Moon/Base is not an IANA time zone" in refused.text
    assert Store.objects.get(code="NW-9").cohort == estate.rest
    assert AuditEvent.objects.filter(tag="estate:changed", tenant=estate.tenant).count() == 2


def test_environment_form_sent_back_unchanged_changes_nothing(estate, administrator, signed_in) -> None:
    client = signed_in(administrator)
    path = f"/estate/environment/{estate.production.pk}/edit/"
    form = client.get(path).context["form"]
    sent = {field.html_name: field.value() for field in form if field.value() not in (None, "")}

    answer = client.post(path, sent, follow=True)

    assert "saved, 0 answers changed" in answer.text
    assert set(Environment.objects.get(pk=estate.production.pk).cohorts.all()) == {estate.pilot, estate.rest}
    assert not AuditEvent.objects.filter(tag="estate:changed").exists()


@pytest.mark.parametrize(("is_platform", "kinds"), [(False, []), (True, ["StorageClass"])])
def test_form_asks_the_platform_alone_what_may_reach_a_whole_cluster(
    estate, administrator, signed_in, is_platform: bool, kinds: list[str]
) -> None:
    administrator.is_superuser = is_platform
    administrator.save()
    client = signed_in(administrator)
    path = f"/estate/environment/{estate.production.pk}/edit/"
    page = client.get(path)
    sent = {field.html_name: field.value() for field in page.context["form"] if field.value() not in (None, "")}

    answer = client.post(path, {**sent, "cluster_scoped_kinds": "StorageClass"})

    assert answer.status_code == 302
    assert ("Said by a platform administrator." in page.text) is not is_platform
    assert Environment.objects.get(pk=estate.production.pk).cluster_scoped_kinds == kinds


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_form(estate, administrator, signed_in, kind: str) -> None:
    administrator.is_superuser = True
    administrator.save()
    client = signed_in(administrator)
    thing = KINDS[kind].model._default_manager.all()[0]

    assert client.get(f"/estate/{kind}/new/").status_code == 200
    assert client.get(f"/estate/{kind}/{thing.pk}/edit/").status_code == 200
    assert client.post(f"/estate/{kind}/new/", {}).status_code == 422


def test_engineers_read_and_do_not_write(estate, signed_in) -> None:
    client = signed_in(estate.ada)

    assert client.get("/estate/region/new/").status_code == 403
    assert client.get(f"/estate/region/{estate.region.pk}/edit/").status_code == 403
    assert "/edit/" not in client.get("/estate/").text
    assert client.get("/estate/spaceship/new/").status_code == 404
    assert Cluster.objects.count() == 1


def test_pages_cost_the_same_with_three_environments_and_five(estate, signed_in) -> None:
    client = signed_in(estate.dee)
    paths = ["/estate/", "/environments/northwind/production/", "/estate/stores/"]
    before = [statements(client, path) for path in paths]

    for name in ("more", "most"):
        add_environment(
            estate.tenant,
            "staging",
            slug=name,
            cluster=estate.cluster,
            source=estate.source,
            cohorts=[estate.pilot],
            processes=[estate.process],
        )
        advance_to(estate, "closed")

    assert [statements(client, path) for path in paths] == before
    assert max(before) <= 18


def test_environment_leads_to_the_rollout_that_holds_it(estate, signed_in) -> None:  # WIN-13
    change = advance_to(estate, "implementing")
    run = Run.objects.get(change=change)
    EnvironmentLock.objects.create(environment=estate.production, run=run, until=NOW + timedelta(minutes=15))
    client = signed_in(estate.dee)

    assert f'href="/runs/{run.pk}/"' in client.get("/environments/northwind/production/").text
    assert f'href="/runs/{run.pk}/"' in client.get("/estate/").text
