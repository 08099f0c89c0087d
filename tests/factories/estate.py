"""Northwind and its people: Ada asks, Ben approves, Cy operates, Dee audits; Eve is a stranger, at Kite Outlet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from changecontrol import access
from changecontrol.access import Actor
from changecontrol.models import (
    BusinessProcess,
    Cluster,
    Cohort,
    Environment,
    GitSource,
    Region,
    Store,
    Tenant,
    User,
)
from changecontrol.rules.roles import Role

NOW = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)
"""Monday, 10:12 UTC."""


@dataclass(frozen=True)
class SmallEstate:
    """One tenant with a cluster, two cohorts of two stores each, and an environment of each stage.

    `production` is tier 2 and serves both cohorts; its processes are the tests' to add to.
    """

    tenant: Tenant
    region: Region
    pilot: Cohort
    rest: Cohort
    cluster: Cluster
    source: GitSource
    process: BusinessProcess
    development: Environment
    staging: Environment
    production: Environment
    ada: User
    ben: User
    cy: User
    dee: User


def small_estate(*, slug: str = "northwind", tier: int = 2) -> SmallEstate:
    tenant = Tenant.objects.create(slug=slug, name=slug.capitalize())
    region = Region.objects.create(tenant=tenant, slug="iberia", name="Iberia")
    pilot = Cohort.objects.create(tenant=tenant, slug="pilot", name="Pilot", is_pilot=True)
    rest = Cohort.objects.create(tenant=tenant, slug="rest", name="Everybody else")
    Store.objects.bulk_create(
        Store(
            tenant=tenant,
            region=region,
            cohort=cohort,
            code=f"{slug}-{number}",
            name=f"Shop {number}",
            zone="Europe/Lisbon" if number % 2 else "Europe/Berlin",
            opens_at=time(9),
            closes_at=time(20),
            sales_share=Decimal(number),
        )
        for number, cohort in enumerate([pilot, pilot, rest, rest], start=1)
    )
    cluster, _ = Cluster.objects.get_or_create(
        slug="pt-1", defaults={"name": "Lisbon 1", "credential": "env:KUBECONFIG_PT_1"}
    )
    source = GitSource.objects.create(tenant=tenant, slug="estate", name="Estate", url=f"/srv/git/{slug}.git")
    process = BusinessProcess.objects.create(
        tenant=tenant, slug="warehouse", name="Warehouse", tier=tier, rto_seconds=14_400, rpo_seconds=3_600
    )
    places = {
        stage: add_environment(tenant, stage, cluster=cluster, source=source, cohorts=cohorts, processes=[process])
        for stage, cohorts in {"development": [], "staging": [pilot], "production": [pilot, rest]}.items()
    }
    return SmallEstate(
        tenant=tenant,
        region=region,
        pilot=pilot,
        rest=rest,
        cluster=cluster,
        source=source,
        process=process,
        ada=_cast(tenant, "ada", Role.ENGINEER),
        ben=_cast(tenant, "ben", Role.CHANGE_MANAGER),
        cy=_cast(tenant, "cy", Role.RELEASE_OPERATOR, Role.TECHNICAL_REVIEWER),
        dee=_cast(tenant, "dee", Role.AUDITOR),
        **places,
    )


def stranger_estate() -> tuple[SmallEstate, User]:
    """Another tenant with everything that could leak, and Eve, who holds every role there and none elsewhere."""
    kite = small_estate(slug="kite")
    eve = add_person("eve")
    for role in Role:
        if role not in {Role.PLATFORM_ADMINISTRATOR, Role.EXECUTOR}:
            access.grant_role(eve, role, kite.tenant)
    return kite, eve


def add_environment(
    tenant: Tenant,
    stage: str,
    *,
    cluster: Cluster,
    source: GitSource,
    cohorts: list[Cohort],
    processes: list[BusinessProcess],
    slug: str = "",
) -> Environment:
    name = slug or stage
    environment = Environment.objects.create(
        tenant=tenant,
        slug=name,
        name=f"{tenant.name} {name}",
        stage=stage,
        cluster=cluster,
        namespace=f"{tenant.slug}-{name}",
        source=source,
        path=f"environments/{name}",
    )
    # Written at once: `set` and `add` look first for what is there already.
    cohort_rows, process_rows = Environment.cohorts.through, Environment.processes.through
    cohort_rows.objects.bulk_create(cohort_rows(environment=environment, cohort=one) for one in cohorts)
    process_rows.objects.bulk_create(process_rows(environment=environment, businessprocess=one) for one in processes)
    return environment


def add_person(username: str, *, email: str | None = None, **fields: Any) -> User:
    address = f"{username}@retailer.example" if email is None else email
    return User.objects.create_user(username, address, display_name=username.capitalize(), **fields)


def grant(holder: User, role: Role, thing: Tenant | Environment, *, expires_at: datetime | None = None) -> None:
    access.grant_role(holder, role, thing, expires_at=expires_at)


def actor(user: User, *, at: datetime = NOW, scopes: frozenset[str] | None = None) -> Actor:
    """Return somebody at a page, who proved a moment ago who they are."""
    return Actor(
        user=user,
        via="page",
        source_address="192.0.2.7",
        correlation_id="test",
        authentication="password",
        authenticated_at=at,
        scopes=scopes,
    )


def _cast(tenant: Tenant, name: str, *roles: Role) -> User:
    username = name if tenant.slug == "northwind" else f"{name}-{tenant.slug}"
    person = add_person(username)
    for role in roles:
        access.grant_role(person, role, tenant)
    return person
