"""Reads of the estate: what a change may name, what depends on it, and how strict that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Count, Q, QuerySet, Sum

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.models import (
    BusinessProcess,
    Cluster,
    Cohort,
    Environment,
    GitSource,
    Region,
    Store,
    Tenant,
)
from changecontrol.models.estate import Stage

_STRICTNESS = {Stage.DEVELOPMENT: 0, Stage.STAGING: 1, Stage.PRODUCTION: 2}


@dataclass(frozen=True, slots=True)
class Reach:
    """What depends on some targets. `sales_share` is in percent of the tenant's sales."""

    store_count: int
    sales_share: Decimal


def tier_of(environment: Environment) -> int | None:
    """Return the strictest tier of what an environment carries; None where nobody said. Prefetch its processes."""
    return min((process.tier for process in environment.processes.all()), default=None)


def strictest_stage(stages: Iterable[str]) -> str:
    return max(stages, key=lambda stage: _STRICTNESS[Stage(stage)], default="")


def environments_named(scope: Scope, *, tenant_id: int, slugs: Iterable[str]) -> dict[str, Environment]:
    """Return those environments of the tenant in sight that carry these slugs, with cohorts and processes."""
    rows = access.visible(scope, Environment.objects.filter(tenant=tenant_id, slug__in=list(slugs)))
    return {one.slug: one for one in rows.prefetch_related("cohorts", "processes")}


def reach_of(environments: Iterable[Environment], *, named: Mapping[str, frozenset[str] | None]) -> Reach:
    """Count the stores behind the cohorts that waves name in each environment; None names all of its cohorts."""
    cohorts = set()
    for environment in environments:
        slugs = named.get(environment.slug)
        cohorts |= {one.pk for one in environment.cohorts.all() if slugs is None or one.slug in slugs}
    found = Store.objects.filter(cohort__in=cohorts).aggregate(count=Count("pk"), share=Sum("sales_share"))
    return Reach(store_count=found["count"], sales_share=min(found["share"] or Decimal(0), Decimal(100)))


def tenants_of(scope: Scope) -> QuerySet[Tenant]:
    return access.visible(scope, Tenant.objects.all())


def environments_of(scope: Scope) -> QuerySet[Environment]:
    """Return the environments in sight with everything a list of them shows."""
    rows = Environment.objects.select_related("tenant", "cluster", "source").prefetch_related("processes", "cohorts")
    return access.visible(scope, rows).order_by("tenant__name", "slug")


def clusters_of(scope: Scope) -> QuerySet[Cluster]:
    """Return the clusters in sight. Their credentials are references, and pages show them to administrators only."""
    return access.visible(scope, Cluster.objects.all())


def cohorts_of(scope: Scope) -> QuerySet[Cohort]:
    """Return cohorts with `store_count` and `sales_share`."""
    rows = Cohort.objects.select_related("tenant").annotate(
        store_count=Count("stores"), sales_share=Sum("stores__sales_share", default=Decimal(0))
    )
    return access.visible(scope, rows).order_by("tenant__name", "-is_pilot", "name")


def stores_of(scope: Scope, *, text: str = "") -> QuerySet[Store]:
    rows = Store.objects.select_related("tenant", "region", "cohort")
    if text.strip():
        rows = rows.filter(Q(code__icontains=text.strip()) | Q(name__icontains=text.strip()))
    return access.visible(scope, rows).order_by("tenant__name", "code")


def regions_of(scope: Scope) -> QuerySet[Region]:
    rows = Region.objects.select_related("tenant").annotate(store_count=Count("stores"))
    return access.visible(scope, rows).order_by("tenant__name", "name")


def processes_of(scope: Scope) -> QuerySet[BusinessProcess]:
    rows = BusinessProcess.objects.select_related("tenant", "owner")
    return access.visible(scope, rows).order_by("tier", "tenant__name", "name")


def sources_of(scope: Scope) -> QuerySet[GitSource]:
    return access.visible(scope, GitSource.objects.select_related("tenant")).order_by("tenant__name", "name")
