"""Administration: policies, people and roles, clusters."""

from __future__ import annotations

from typing import Any

import pytest

from changecontrol import access
from changecontrol.access import scope_of
from changecontrol.models import ApprovalPolicy, AuditEvent, User
from changecontrol.rules.roles import Role
from tests.factories import NOW, actor, add_person
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db


@pytest.fixture
def administrator(estate: Any) -> User:
    person = add_person("administrator")
    access.grant_role(person, Role.TENANT_ADMINISTRATOR, estate.tenant)
    return person


@pytest.fixture
def policy(estate: Any) -> ApprovalPolicy:
    """Return a policy of the tenant, a copy of what the platform asks of production."""
    shipped = ApprovalPolicy.objects.get(slug="production", is_active=True)
    return ApprovalPolicy.objects.create(
        tenant=estate.tenant,
        slug="nights",
        name="Production nights",
        version=1,
        content=shipped.content,
        created_at=NOW,
    )


def sent_back(client: Any, path: str, **changed: Any) -> dict[str, Any]:
    form = client.get(path).context["form"]
    answers = {field.html_name: field.value() for field in form if field.value() not in (None, "", False)}
    return {**answers, **changed}


def test_an_edit_is_the_next_version_and_touches_later_submissions_only(  # APR-4
    estate, administrator, policy, signed_in
) -> None:
    client = signed_in(administrator)
    path = f"/administration/policies/{policy.pk}/"

    answer = client.post(path, sent_back(client, path, quorum_2_1="2"), follow=True)

    policy.refresh_from_db()
    new = ApprovalPolicy.objects.get(slug="nights", is_active=True)
    assert (policy.is_active, new.version) == (False, 2)
    assert new.content["stages"][1]["requirements"][0]["quorum"] == 2
    assert new.content["stages"][0] == policy.content["stages"][0]
    assert "touches only changes that are submitted later" in answer.text
    assert AuditEvent.objects.filter(tag="policy:published").count() == 1


def test_a_policy_sent_back_unchanged_is_no_new_version(estate, administrator, policy, signed_in) -> None:
    client = signed_in(administrator)
    path = f"/administration/policies/{policy.pk}/"

    client.post(path, sent_back(client, path))

    assert ApprovalPolicy.objects.filter(slug="nights").count() == 1


def test_whoever_was_slower_is_told(estate, administrator, policy, signed_in) -> None:
    client = signed_in(administrator)
    path = f"/administration/policies/{policy.pk}/"
    answers = sent_back(client, path, quorum_2_1="2")
    client.post(path, answers)

    stale = client.post(path, {**answers, "quorum_2_1": "3"})

    assert stale.status_code == 409
    assert "This policy is at version 2, and you were editing version 1." in stale.text


def test_a_first_version_is_published(estate, administrator, signed_in) -> None:
    client = signed_in(administrator)
    wanted = {"owner": estate.tenant.pk, "slug": "tills", "name": "Tills", "version": "0", "role_1_1": "process_owner"}

    empty = client.post("/administration/policies/new/", {**wanted, "slug": ""})
    made = client.post("/administration/policies/new/", wanted)

    assert (empty.status_code, made.status_code) == (422, 302)
    content = ApprovalPolicy.objects.get(slug="tills").content
    assert content["stages"] == [
        {
            "name": "Process owner",
            "requirements": [{"key": "process_owner", "name": "Process owner", "quorum": 1, "role": "process_owner"}],
        }
    ]


def test_the_platforms_policies_are_read_and_not_written_by_tenants(estate, administrator, signed_in) -> None:
    shipped = ApprovalPolicy.objects.get(slug="production", is_active=True)
    client = signed_in(administrator)
    path = f"/administration/policies/{shipped.pk}/"

    answer = client.get(path)

    assert "Administrators publish versions." in answer.text
    assert client.post(path, {"name": "Anything goes", "version": "1"}).status_code == 403


def test_roles_are_granted_with_an_end_and_revoked(estate, administrator, signed_in) -> None:
    client = signed_in(administrator)
    wanted = {"person": estate.ada.pk, "role": "change_manager", "expires_at": "2026-12-01T00:00"}

    past = client.post("/administration/people/northwind/grant/", {**wanted, "expires_at": "2026-01-01T00:00"})
    granted = client.post("/administration/people/northwind/grant/", wanted)
    held = scope_of(actor(estate.ada)).roles_on_tenant(estate.tenant.pk)
    revoked = client.post(
        "/administration/people/northwind/revoke/", {"person": estate.ada.pk, "role": "change_manager"}
    )

    assert (past.status_code, granted.status_code, revoked.status_code) == (422, 302, 302)
    assert Role.CHANGE_MANAGER in held
    assert Role.CHANGE_MANAGER not in scope_of(actor(estate.ada)).roles_on_tenant(estate.tenant.pk)
    tags = AuditEvent.objects.filter(tag__startswith="access:role").order_by("pk").values_list("tag", flat=True)
    assert list(tags) == ["access:role:granted", "access:role:revoked"]


def test_nobody_changes_their_own_roles(estate, administrator, signed_in) -> None:
    client = signed_in(administrator)

    answer = client.post(
        "/administration/people/northwind/grant/", {"person": administrator.pk, "role": "change_manager"}
    )

    assert answer.status_code == 403
    assert "Nobody changes their own roles" in answer.text


def test_a_person_is_made_with_a_password_that_is_shown_once(estate, administrator, signed_in) -> None:
    client = signed_in(administrator)
    wanted = {"username": "fay", "display_name": "Fay", "role": "engineer"}

    made = client.post("/administration/people/northwind/add/", wanted)
    again = client.post("/administration/people/northwind/add/", wanted)

    password = made.context["made"]["password"]
    person = User.objects.get(username="fay@northwind")
    assert (made.status_code, again.status_code) == (201, 422)
    assert made.text.count(password) == 1
    assert "fay@northwind" in made.text  # the name to sign in with
    assert person.check_password(password)
    assert password not in client.get("/administration/people/northwind/").text
    assert all(password not in event.body for event in AuditEvent.objects.all())
    assert "This user name is taken." in again.text
    assert Role.ENGINEER in scope_of(actor(person)).roles_on_tenant(estate.tenant.pk)


def test_a_tenant_administrator_makes_no_other(estate, administrator, signed_in) -> None:
    answer = signed_in(administrator).post(
        "/administration/people/northwind/add/",
        {"username": "fay", "display_name": "Fay", "role": "tenant_administrator"},
    )

    assert answer.status_code == 403
    assert not User.objects.filter(username__startswith="fay").exists()


def test_auditors_read_who_holds_what_and_change_nothing(estate, signed_in) -> None:
    client = signed_in(estate.dee)

    answer = client.get("/administration/people/northwind/")

    assert "Release operator" in answer.text
    assert "Revoke" not in answer.text
    assert client.get("/administration/").status_code == 200
    refused = client.post(
        "/administration/people/northwind/grant/", {"person": estate.ada.pk, "role": "change_manager"}
    )
    assert refused.status_code == 403


def test_others_are_refused_and_strangers_find_nothing(estate, eve, signed_in) -> None:
    assert signed_in(estate.ada).get("/administration/").status_code == 403
    assert signed_in(estate.ada).get("/administration/people/northwind/").status_code == 403
    assert signed_in(eve).get("/administration/people/northwind/").status_code == 404
    assert "orthwind" not in signed_in(eve).get("/administration/").text


def test_pages_cost_the_same_with_few_people_and_many(estate, administrator, policy, signed_in) -> None:
    client = signed_in(administrator)
    paths = ["/administration/", "/administration/people/northwind/", f"/administration/policies/{policy.pk}/"]
    before = [statements(client, path) for path in paths]

    for name in ("fay", "gus"):
        access.grant_role(add_person(name), Role.ENGINEER, estate.tenant)
        access.grant_role(add_person(f"{name}-two"), Role.ENGINEER, estate.staging)

    assert [statements(client, path) for path in paths] == before
    assert max(before) <= 16


@pytest.mark.parametrize(("is_demo", "status"), [(True, 200), (False, 404)])
def test_gallery_is_of_demos_and_development(estate, signed_in, settings, is_demo: bool, status: int) -> None:
    settings.DEMO = is_demo

    assert signed_in(estate.ada).get("/components/").status_code == status


def test_revoking_from_nobody_or_at_a_place_that_is_gone_is_said_on_the_page(estate, administrator, signed_in) -> None:
    client = signed_in(administrator)
    url = "/administration/people/northwind/revoke/"

    nobody = client.post(url, {"person": "999999", "role": "engineer"})
    nowhere = client.post(url, {"person": estate.ada.pk, "role": "engineer", "environment": "999999"})

    assert (nobody.status_code, nowhere.status_code) == (404, 404)
    assert "There is no such person." in nobody.text
    assert "There is no such environment." in nowhere.text
    assert "<h1>People and roles</h1>" in nobody.text
