"""Who may, and who sees: grants, groups, expiry, tokens, and that nothing leaks to a stranger."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.apps import apps
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from changecontrol import access
from changecontrol.access import Scope, abilities_for, can, require, scope_of, visible
from changecontrol.errors import Forbidden
from changecontrol.models import (
    ApprovalPolicy,
    AuditEvent,
    ChangeRequest,
    Cluster,
    Environment,
    Freeze,
    GateResult,
    Store,
    Tenant,
    User,
    Window,
)
from changecontrol.queries import audit as audit_queries
from changecontrol.queries import changes as change_queries
from changecontrol.queries import estate as estate_queries
from changecontrol.queries import inbox as inbox_queries
from changecontrol.queries import queue as queue_queries
from changecontrol.queries import windows as window_queries
from changecontrol.rules.roles import ABILITIES, Ability, Role
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    add_person,
    advance_to,
    authorized_change,
    grant,
    small_estate,
    stranger_estate,
    submitted_change,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def scope(person: User, *, scopes: frozenset[str] | None = None) -> Scope:
    return scope_of(actor(person, scopes=scopes))


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.PLATFORM_ADMINISTRATOR])
def test_a_role_on_a_tenant_gives_its_abilities_there_and_nowhere_else(estate: SmallEstate, role: Role) -> None:
    kite, _ = stranger_estate()
    person = add_person("one")
    grant(person, role, estate.tenant)

    found = scope(person)

    assert abilities_for(found, estate.tenant) == ABILITIES[role]
    assert abilities_for(found, estate.production) == ABILITIES[role]
    assert abilities_for(found, kite.tenant) == abilities_for(found, kite.production) == frozenset()
    assert abilities_for(found, None) == abilities_for(found, estate.cluster) == frozenset()


def test_a_grant_ends_at_its_moment(estate: SmallEstate) -> None:
    person = add_person("one")
    with time_machine.travel(NOW, tick=False):
        grant(person, Role.ENGINEER, estate.tenant, expires_at=NOW + timedelta(hours=1))
        assert can(actor(person), Ability.CHANGE_CREATE, estate.tenant)
    with time_machine.travel(NOW + timedelta(hours=1), tick=False):
        assert not can(actor(person), Ability.CHANGE_CREATE, estate.tenant)
        assert list(visible(scope(person), Tenant.objects.all())) == []


def test_granting_again_sets_the_new_expiry(estate: SmallEstate) -> None:
    grant(estate.ada, Role.ENGINEER, estate.tenant, expires_at=NOW - timedelta(days=3650))
    assert not can(actor(estate.ada), Ability.CHANGE_CREATE, estate.tenant)

    grant(estate.ada, Role.ENGINEER, estate.tenant)

    assert can(actor(estate.ada), Ability.CHANGE_CREATE, estate.tenant)


def test_a_group_lends_its_roles_to_its_members(estate: SmallEstate) -> None:
    group = Group.objects.create(name="Reviewers")
    access.grant_role(group, Role.TECHNICAL_REVIEWER, estate.production)
    person = add_person("one")
    person.groups.add(group)

    assert can(actor(person), Ability.CHANGE_VOTE, estate.production)
    assert not can(actor(person), Ability.CHANGE_VOTE, estate.staging)
    holders = access.holders(
        Role.TECHNICAL_REVIEWER, tenant_id=estate.tenant.pk, environment_ids=[estate.production.pk], at=NOW
    )
    assert holders == [estate.cy, person]


def test_on_a_change_a_role_counts_where_it_is_held_on_every_environment(estate: SmallEstate) -> None:
    person = add_person("one")
    grant(person, Role.TECHNICAL_REVIEWER, estate.staging)
    one = submitted_change(estate, environments=["staging"])
    both = submitted_change(estate, environments=["staging", "production"])

    assert can(actor(person), Ability.CHANGE_VOTE, one)
    assert not can(actor(person), Ability.CHANGE_VOTE, both)
    ids = [estate.staging.pk, estate.production.pk]
    assert access.holders(Role.TECHNICAL_REVIEWER, tenant_id=estate.tenant.pk, environment_ids=ids, at=NOW) == [
        estate.cy
    ]


def test_a_role_on_an_environment_shows_that_and_what_frames_it(estate: SmallEstate) -> None:
    person = add_person("one")
    grant(person, Role.ENGINEER, estate.staging)
    seen = scope(person)

    assert list(visible(seen, Environment.objects.all())) == [estate.staging]
    assert list(visible(seen, Tenant.objects.all())) == [estate.tenant]
    assert list(visible(seen, Cluster.objects.all())) == [estate.cluster]
    assert {store.cohort for store in visible(seen, Store.objects.all())} == {estate.pilot}


def test_an_inactive_person_holds_nothing(estate: SmallEstate) -> None:
    estate.ben.is_active = False
    estate.ben.save()

    assert scope(estate.ben) == Scope()
    assert scope_of(access.Actor(user=None, via="page")) == Scope()


def test_a_superuser_configures_and_sees_but_has_no_vote(estate: SmallEstate) -> None:  # APR-1
    root = add_person("root", is_superuser=True)
    change = authorized_change(estate)

    abilities = abilities_for(scope(root), change)

    assert {Ability.CHANGE_VIEW, Ability.POLICY_EDIT, Ability.ACCESS_GRANT} <= abilities
    assert not abilities & {Ability.CHANGE_VOTE, Ability.CHANGE_CREATE, Ability.CHANGE_CLOSE, Ability.RUN_START}
    assert list(visible(scope(root), ChangeRequest.objects.all())) == [change]


def test_a_token_is_limited_to_its_scopes(estate: SmallEstate) -> None:
    submitted_change(estate)
    limited = frozenset({"change.view"})

    assert abilities_for(scope(estate.ada, scopes=limited), estate.tenant) == {Ability.CHANGE_VIEW}
    assert visible(scope(estate.ada, scopes=limited), ChangeRequest.objects.all()).count() == 1
    assert visible(scope(estate.ada, scopes=limited), Environment.objects.all()).count() == 0
    assert visible(scope(estate.ada, scopes=frozenset({"change.create"})), ChangeRequest.objects.all()).count() == 0
    with pytest.raises(Forbidden, match=r"not scoped for “change\.create”"):
        require(actor(estate.ada, scopes=limited), Ability.CHANGE_CREATE, estate.tenant)


def test_a_token_never_gives_more_than_its_owner_holds(estate: SmallEstate) -> None:
    assert not can(actor(estate.ada, scopes=frozenset({"change.vote"})), Ability.CHANGE_VOTE, estate.tenant)


def test_a_refusal_names_the_roles_that_would_do(estate: SmallEstate) -> None:
    with pytest.raises(Forbidden) as refused:
        require(actor(estate.ada), Ability.CHANGE_CLOSE, estate.tenant)

    assert refused.value.sentence == "This needs one of these roles here: change manager."


@pytest.mark.parametrize("grants", [1, 4])
def test_what_somebody_holds_is_asked_in_one_statement(estate: SmallEstate, grants: int) -> None:
    person = add_person("one")
    for role in list(Role)[:grants]:
        grant(person, role, estate.tenant)
        grant(person, role, estate.staging)

    with CaptureQueriesContext(connection) as queries:
        scope(person)

    assert len(queries) == 1


def test_who_holds_what_is_asked_in_as_many_statements_for_one_as_for_many(estate: SmallEstate) -> None:
    counts = []
    for number in range(2):
        grant(add_person(f"one-{number}"), Role.CHANGE_MANAGER, estate.production)
        with CaptureQueriesContext(connection) as queries:
            access.holder_book(tenant_ids=[estate.tenant.pk], environment_ids=[estate.production.pk], at=NOW)
        counts.append(len(queries))

    assert counts == [4, 4]


def leak_something(estate: SmallEstate) -> ChangeRequest:
    """Make rows of every kind that could leak."""
    change = advance_to(estate, "review")
    authorized_change(estate)
    run = change.runs.get()
    target = run.targets.create(environment=estate.production, wave=0)
    run.log.create(target=target, at=NOW, icon="check", sentence="Updated.")
    GateResult.objects.create(
        change=change, revision=change.revision, gate="schema", name="Schema", verdict="pass", sentence="Valid.",
        judged="0" * 64, judged_what="manifests", tool="t", tool_version="1", at=NOW, expires_at=NOW,
    )  # fmt: skip
    change.artefacts.create(
        name="a.json", media_type="application/json", sha256="0" * 64, size=1, source="t", created_at=NOW
    )
    Window.objects.create(tenant=estate.tenant, name="Nights", starts_local=NOW, duration_seconds=60, created_at=NOW)
    Freeze.objects.create(
        tenant=estate.tenant, name="Peak", reason="Sales.", starts_at=NOW, ends_at=NOW + timedelta(days=1),
        opened_by=estate.ben,
    )  # fmt: skip
    ApprovalPolicy.objects.create(
        tenant=estate.tenant, slug="own", name="Own", version=1, content={"match": {}, "stages": []}, created_at=NOW
    )
    return change


SEEN_THROUGH = sorted({*access._TENANT_PATHS, *access._SEEN_BY, "changerequest"} - {"cluster", "environmentlock"})


@pytest.mark.parametrize("name", SEEN_THROUGH)
def test_no_row_of_a_tenant_is_visible_to_a_stranger(estate: SmallEstate, name: str) -> None:  # BIZ-1
    leak_something(estate)
    model: type[Model] = apps.get_model("changecontrol", name)
    before = set(model._default_manager.values_list("pk", flat=True))
    _, eve = stranger_estate()
    assert before

    seen_by_eve = set(visible(scope(eve), model._default_manager.all()).values_list("pk", flat=True))
    seen_by_dee = set(visible(scope(estate.dee), model._default_manager.all()).values_list("pk", flat=True))

    shared = set(ApprovalPolicy.objects.filter(tenant=None).values_list("pk", flat=True))
    assert seen_by_eve & before <= (shared if name == "approvalpolicy" else set())
    assert seen_by_dee & before  # what is hidden from Eve is there to be seen


def test_environments_are_found_by_ability_on_them_or_on_their_tenant(estate: SmallEstate) -> None:
    _, eve = stranger_estate()
    person = add_person("one")
    grant(person, Role.RECOVERY_OWNER, estate.staging)
    root = add_person("root", is_superuser=True)
    stages = ("development", "staging", "production")

    def found(who: User, ability: Ability, *, scopes: frozenset[str] | None = None) -> set[str]:
        rows = access.environments_with(scope(who, scopes=scopes), ability)
        return {f"{one.tenant.slug}/{one.slug}" for one in rows}

    assert found(person, Ability.RECOVERY_EDIT) == {"northwind/staging"}
    assert found(person, Ability.CHANGE_CREATE) == set()
    assert found(estate.ada, Ability.RECOVERY_VIEW) == {f"northwind/{one}" for one in stages}
    assert found(eve, Ability.RECOVERY_VIEW) == {f"kite/{one}" for one in stages}
    assert found(estate.ada, Ability.RECOVERY_VIEW, scopes=frozenset({"change.view"})) == set()
    assert len(found(root, Ability.RECOVERY_VIEW)) == 6


def test_a_cluster_is_seen_by_whose_environments_it_runs(estate: SmallEstate) -> None:
    lonely = Cluster.objects.create(slug="fi-1", name="Helsinki 1", credential="env:FI")
    seen = visible(scope(estate.ada), Cluster.objects.all())

    assert list(seen) == [estate.cluster]
    assert lonely in visible(scope(add_person("root", is_superuser=True)), Cluster.objects.all())


def test_no_query_tells_a_stranger_anything(estate: SmallEstate) -> None:  # BIZ-1
    change = leak_something(estate)
    eve = add_person("eve")
    kite = Tenant.objects.create(slug="kite", name="Kite")
    for role in Role:
        if role is not Role.EXECUTOR:
            grant(eve, role, kite)
    seen, who = scope(eve), actor(eve)

    found = {
        "changes": change_queries.changes_page(seen).rows,
        "changes, by number": change_queries.changes_page(
            seen, wanted=change_queries.ChangeFilter(text=change.number)
        ).rows,
        "drafts": tuple(change_queries.drafts_of(seen, person_id=estate.ada.pk)),
        "to schedule": tuple(change_queries.changes_to_schedule(seen)),
        "queue": queue_queries.changes_awaiting(who, seen, at=NOW),
        "calendar": window_queries.calendar_spans(seen, start=NOW, end=NOW + timedelta(days=2)),
        "windows": tuple(window_queries.windows_of(seen)),
        "freezes": tuple(window_queries.freezes_of(seen)),
        "zones": window_queries.zones_of(seen),
        "alarms": inbox_queries.alarms_of(seen),
        "audit": tuple(row for row in audit_queries.audit_page(seen).rows if row.event.tenant_id == estate.tenant.pk),
        "tenants": tuple(one for one in estate_queries.tenants_of(seen) if one != kite),
        "environments": tuple(estate_queries.environments_of(seen)),
        "clusters": tuple(estate_queries.clusters_of(seen)),
        "cohorts": tuple(estate_queries.cohorts_of(seen)),
        "stores": tuple(estate_queries.stores_of(seen)),
        "regions": tuple(estate_queries.regions_of(seen)),
        "processes": tuple(estate_queries.processes_of(seen)),
        "sources": tuple(estate_queries.sources_of(seen)),
    }

    assert {name: rows for name, rows in found.items() if rows} == {}


def test_events_are_read_by_whoever_may_read_the_trail(estate: SmallEstate) -> None:  # AUD-8
    submitted_change(estate)

    assert visible(scope(estate.dee), AuditEvent.objects.all()).count() == 3
    assert visible(scope(estate.ada), AuditEvent.objects.all()).count() == 0


def test_an_auditor_may_only_read() -> None:  # AUD-8
    assert {ability.value.partition(".")[2] for ability in ABILITIES[Role.AUDITOR]} == {"view", "export"}
