"""Loads the demo retailer through the product's own actions: estate, people, windows around now, and three drafts.

Loading again adds what is missing, renews what a new start of the practice estate changed, and keeps everything else.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import transaction

from changecontrol import access
from changecontrol.access import Actor
from changecontrol.actions.changes import create_change, save_draft
from changecontrol.actions.estate import save_estate
from changecontrol.actions.freezes import open_freeze
from changecontrol.actions.places import PlaceIds
from changecontrol.actions.windows import WindowContent, create_window
from changecontrol.models import ChangeRequest, Freeze, Tenant, User, Window
from changecontrol.models.estate import Stage
from changecontrol.rules.content import Content, IndicatorRule, OnFailure, Promotion, Wave
from changecontrol.rules.roles import Role
from deployments.demo.cluster import Access, prepare, prepare_standby
from deployments.demo.manifests import BROKEN, GOOD, LEAKING, Release
from deployments.demo.repositories import ensure_repository
from deployments.demo.retailer import PROCESSES, TENANTS, TenantPlan, stores_of
from deployments.practice.tls import write_atomically

CLUSTER = "practice"
STANDBY = "standby"
"""Where environments are rehearsed (drills of level 5)."""
ADMINISTRATOR = "admin"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can sign in, with the roles they hold at each tenant."""

    username: str
    name: str
    what: str
    roles: tuple[Role, ...]
    tenants: tuple[str, ...] = ("northwind", "alder-pine")
    zone: str = "Europe/Berlin"


PEOPLE = (
    Person("ada", "Ada", "engineer: files changes", (Role.ENGINEER,)),
    Person("ben", "Ben", "change manager: approves them", (Role.CHANGE_MANAGER, Role.FREEZE_OWNER)),
    Person("deputy", "Ben's deputy", "second change manager, for tiers 0 and 1", (Role.CHANGE_MANAGER,)),
    Person(
        "cy",
        "Cy",
        "technical reviewer and release operator: reviews, watches, rolls back",
        (Role.TECHNICAL_REVIEWER, Role.RELEASE_OPERATOR),
    ),
    Person(
        "rio",
        "Rio",
        "recovery owner and engineer: backs up, restores, holds drills, mends what they find",
        (Role.RECOVERY_OWNER, Role.ENGINEER),
    ),
    Person("rio-deputy", "Rio's deputy", "second recovery owner: signs drills off", (Role.RECOVERY_OWNER,)),
    Person("dee", "Dee", "auditor: reads, and exports evidence", (Role.AUDITOR,)),
    Person("eve", "Eve", "a stranger: works at Kite Outlet", (Role.ENGINEER, Role.CHANGE_MANAGER), ("kite",)),
)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the demo keeps its things."""

    folder: Path

    @property
    def repositories(self) -> Path:
        return self.folder / "git"

    @property
    def practice(self) -> Path:
        return self.folder / "practice"

    @property
    def standby(self) -> Path:
        return self.folder / "standby"

    @property
    def sign_ins(self) -> Path:
        return self.folder / "sign-ins"


def load(paths: Paths, *, deploy: Path, at: datetime) -> None:
    """Bring everything the demo needs to the database, the practice clusters and the repositories.

    `deploy` is the folder with the rights that an executor needs.
    """
    paths.repositories.mkdir(parents=True, exist_ok=True)
    rights = deploy / "rbac.yaml"
    given = prepare(paths.practice, rights, [one for tenant in TENANTS for one in tenant.environments])
    standby = prepare_standby(paths.standby, rights, deploy / "rbac-rehearsal.yaml")
    with transaction.atomic():
        password = _password(paths.sign_ins)
        admin = _actor(_administrator(password))
        _load_cluster(CLUSTER, "Practice cluster", given, actor=admin, at=at)
        _load_cluster(STANDBY, "Standby cluster", standby, actor=admin, at=at)
        for plan in TENANTS:
            _load_tenant(plan, ensure_repository(paths.repositories, plan), actor=admin, at=at)
        for person in PEOPLE:
            _load_person(person, password)
        _load_calendar(admin, at=at)
        _load_drafts(at=at)


def sign_ins(paths: Paths) -> str:
    """Return how to sign in, for the terminal."""
    password = paths.sign_ins.read_text().strip()
    lines = [f"  {person.username:<12}{person.what}" for person in PEOPLE]
    lines.append(f"  {ADMINISTRATOR:<12}platform administrator: configures, and never votes by that power")
    return "\n".join([f"Sign in with the password  {password}  as", *lines])


def _password(path: Path) -> str:
    if not path.exists():
        write_atomically(path, secrets.token_urlsafe(12) + "\n", mode=0o600)
    return path.read_text().strip()


def _actor(user: User) -> Actor:
    return Actor(user=user, via="command", correlation_id="load_demo")


def _administrator(password: str) -> User:
    admin = User.objects.filter(username=ADMINISTRATOR).first()
    if admin is not None:
        return admin
    return User.objects.create_superuser(
        ADMINISTRATOR, email="admin@changecontrol.example", password=password, display_name="Administrator"
    )


def _load_cluster(slug: str, name: str, given: Access, *, actor: Actor, at: datetime) -> None:
    """A practice cluster has a new address at every start, and so its references are renewed."""
    answers = {
        "slug": slug,
        "name": name,
        "credential": f"file:{given.kubeconfig}",
        "metrics_url": given.metrics_url,
        "metrics_credential": f"file:{given.metrics_token}",
        "metrics_authority": f"file:{given.authority}",
    }
    save_estate(actor=actor, kind="cluster", answers=answers, at=at)


def _load_tenant(plan: TenantPlan, repository: Path, *, actor: Actor, at: datetime) -> None:
    if Tenant.objects.filter(slug=plan.slug, environment__isnull=False).exists():
        return
    facts = {"slug": plan.slug, "name": plan.name, "tenancy": plan.tenancy}
    tenant_id = save_estate(actor=actor, kind="tenant", answers=facts, at=at).thing.pk

    def save(kind: str, rows: Iterable[dict[str, Any]]) -> None:
        for answers in rows:
            save_estate(actor=actor, kind=kind, answers=answers, tenant_id=tenant_id, at=at)

    cities = {cohort.city.slug: cohort.city for cohort in plan.cohorts}
    save("region", ({"slug": city.slug, "name": city.name} for city in cities.values()))
    save(
        "cohort",
        ({"slug": one.slug, "name": one.slug.upper(), "is_pilot": one.is_pilot} for one in plan.cohorts),
    )
    save(
        "store",
        (
            {
                "code": store.code,
                "name": store.name,
                "region": store.city.slug,
                "cohort": store.cohort,
                "zone": store.city.zone,
                "opens_at": "08:00",
                "closes_at": "21:00",
                "sales_share": store.sales_share,
            }
            for store in stores_of(plan)
        ),
    )
    save("source", [{"slug": "estate", "name": "Estate repository", "url": str(repository)}])
    save(
        "process",
        (
            {
                "slug": one.slug,
                "name": one.name,
                "tier": one.tier,
                "rto_seconds": one.rto_seconds,
                "rpo_seconds": one.rpo_seconds,
            }
            for one in PROCESSES
        ),
    )
    save(
        "environment",
        (
            {
                "slug": one.slug,
                "name": one.name,
                "stage": one.stage,
                "cluster": CLUSTER,
                "namespace": one.slug,
                "source": "estate",
                "path": f"environments/{one.slug}",
                "processes": list(one.processes),
                "cohorts": list(one.cohorts),
                "database": one.database,
            }
            for one in plan.environments
        ),
    )


def _load_person(person: Person, password: str) -> None:
    if User.objects.filter(username=person.username).exists():
        return
    user = User.objects.create_user(
        person.username,
        email=f"{person.username}@northwind.example",
        password=password,
        display_name=person.name,
        zone=person.zone,
    )
    for tenant in Tenant.objects.filter(slug__in=person.tenants):
        for role in person.roles:
            access.grant_role(user, role, tenant)


def _load_calendar(admin: Actor, *, at: datetime) -> None:
    """Lay the calendar out around now: at Northwind something may run, elsewhere something may not."""
    if Window.objects.exists():
        return
    production = PlaceIds(stage=Stage.PRODUCTION)
    tenants = {tenant.slug: tenant.pk for tenant in Tenant.objects.all()}
    hour = at.replace(minute=0, second=0, microsecond=0, tzinfo=None)
    night = hour.replace(hour=2) - timedelta(days=1)
    day = WindowContent(
        name="Northwind release hours",
        starts_local=hour - timedelta(hours=1),
        duration_seconds=14 * 3600,
        rrule="FREQ=DAILY",
        zone="UTC",
        place=production,
    )
    nights = WindowContent(
        name="Nights, in each store's own zone",
        starts_local=night,
        duration_seconds=3 * 3600,
        rrule="FREQ=DAILY",
        place=production,
    )
    create_window(actor=admin, tenant_id=tenants["northwind"], content=day, reason="Demo.", at=at)
    for slug, name in (("alder-pine", "Alder & Pine nights"), ("kite", "Kite nights")):
        content = replace(nights, name=name)
        create_window(actor=admin, tenant_id=tenants[slug], content=content, reason="Demo.", at=at)
    if not Freeze.objects.exists():
        ben = _actor(User.objects.get(username="ben"))
        open_freeze(
            actor=ben,
            tenant_id=tenants["alder-pine"],
            name="Peak trading",
            reason="The promotion week: tills stay as they are.",
            starts_at=at - timedelta(hours=1),
            ends_at=at + timedelta(days=6),
            at=at,
        )


def _load_drafts(*, at: datetime) -> None:
    """File what a first-time visitor tries: a good change, a bad image, and a release that goes bad late."""
    ada = _actor(User.objects.get(username="ada"))
    northwind = Tenant.objects.get(slug="northwind")
    if ChangeRequest.objects.filter(tenant=northwind).exists():
        return
    office = Wave("Back office", ("nw-warehouse", "nw-finance"), bake_seconds=20)
    for release, branch, waves in (
        (GOOD, "main", (_pilot(20), office)),
        (BROKEN, "broken-image", (_pilot(20),)),
        (LEAKING, "losing-orders", (_pilot(90), office)),
    ):
        change = create_change(actor=ada, tenant_id=northwind.pk, title=release.summary, at=at)
        content = _content(release, branch, waves).to_json()
        save_draft(actor=ada, change_id=change.pk, content=content, seen_version=change.draft_version, at=at)
    # Nobody has proved that this environment can be brought back: the gate stops it until somebody does.
    title = f"{GOOD.summary} (analytics)"
    change = create_change(actor=ada, tenant_id=northwind.pk, title=title, at=at)
    stopped = replace(_content(GOOD, "main", (Wave("Analytics", ("nw-analytics",), bake_seconds=20),)), title=title)
    save_draft(actor=ada, change_id=change.pk, content=stopped.to_json(), seen_version=change.draft_version, at=at)


def _pilot(bake_seconds: int) -> Wave:
    return Wave("Pilot", ("nw-pilot",), bake_seconds=bake_seconds, promotion=Promotion.AUTOMATIC)


def _content(release: Release, branch: str, waves: tuple[Wave, ...]) -> Content:
    return Content(
        title=release.summary,
        reason="Cashiers wait up to 40 seconds when they close a session.",
        description=f"Brings the image {release.tag} to the pilot stores first.",
        security_impact="None: the same modules, the same rights.",
        environments=tuple(slug for wave in waves for slug in wave.environments),
        revision_name=branch,
        waves=waves,
        max_unavailable=5,
        failure_budget=0,
        ready_within_seconds=60,
        on_failure=OnFailure.ROLL_BACK,
        indicators=(
            IndicatorRule("pos_orders_unsynchronised", threshold=0.01, minimum_samples=3, consecutive_breaches=2),
        ),
        rollback_plan="The image of 1 November is applied again; no data changes.",
        test_evidence="Ran on staging for two days with a copy of last week's orders.",
        risk_answers={
            "rollback": "automatic",
            "tested": "staging_same_data",
            "experience": "often",
            "downtime": "no",
            "schema": "no",
            "security": "no",
        },
    )
