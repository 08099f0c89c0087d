"""What runs where: the last change that reached each environment, and who holds it now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Count, Sum

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.lifecycles.run import RunState
from changecontrol.models import ChangeRequest, Environment, EnvironmentLock, RunTarget, Store
from changecontrol.models.run import RunKind
from changecontrol.queries.estate import environments_of, stores_of

STORES_PAGE = 50
CHANGES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Running:
    """What an environment runs, as far as this product brought it there."""

    commit: str
    change: ChangeRequest
    since: datetime | None
    run_id: int


@dataclass(frozen=True, slots=True)
class Totals:
    store_count: int
    environment_count: int
    cohort_count: int


def running_in(environments: Iterable[Environment]) -> Mapping[int, Running]:
    """Return what the last rollout that succeeded brought to each environment, in one statement."""
    rows = (
        RunTarget.objects.filter(
            environment__in=list(environments), run__kind=RunKind.ROLLOUT, run__state=RunState.SUCCEEDED
        )
        .order_by("environment_id", "-run_id", "pk")
        .distinct("environment_id")
        .select_related("run__plan", "run__change")
    )
    return {
        one.environment_id: Running(
            commit=str((one.run.plan.content if one.run.plan else {}).get("commit", "")),
            change=one.run.change,
            since=one.run.finished_at,
            run_id=one.run_id,
        )
        for one in rows
    }


def locks_on(scope: Scope, environments: Iterable[Environment], *, at: datetime) -> Mapping[int, EnvironmentLock]:
    """Return the locks that hold now, by environment, where the scope may see the run that holds them."""
    rows = EnvironmentLock.objects.filter(environment__in=list(environments), until__gt=at).select_related(
        "run__change"
    )
    return {one.environment_id: one for one in access.visible(scope, rows)}


def environment_named(scope: Scope, *, tenant: str, slug: str) -> Environment | None:
    return environments_of(scope).filter(tenant__slug=tenant, slug=slug).first()


def changes_in(scope: Scope, environment: Environment) -> list[ChangeRequest]:
    """Return the newest changes in sight that name an environment."""
    rows = ChangeRequest.objects.filter(environments=environment).select_related("requester")
    # `visible` reads a change's environments; a second filter on them must not become the same join.
    return list(
        access.visible(scope, ChangeRequest.objects.filter(pk__in=rows.values("pk")))
        .select_related("requester")
        .order_by("-pk")[:CHANGES_SHOWN]
    )


def stores_in(environment: Environment) -> tuple[int, Decimal]:
    """Return how many stores an environment serves and their share of the tenant's sales, in percent."""
    cohorts = [one.pk for one in environment.cohorts.all()]
    found = Store.objects.filter(cohort__in=cohorts).aggregate(count=Count("pk"), share=Sum("sales_share"))
    return found["count"], found["share"] or Decimal(0)


def stores_page(
    scope: Scope, *, text: str = "", after: int | None = None, before: int | None = None
) -> tuple[list[Store], bool, bool]:
    """Return one page of stores by key, and whether there are earlier and later ones."""
    rows = stores_of(scope, text=text)
    if before is not None:
        found = list(rows.filter(pk__lt=before).order_by("-pk")[: STORES_PAGE + 1])
        return found[:STORES_PAGE][::-1], len(found) > STORES_PAGE, True
    if after is not None:
        rows = rows.filter(pk__gt=after)
    found = list(rows.order_by("pk")[: STORES_PAGE + 1])
    return found[:STORES_PAGE], after is not None, len(found) > STORES_PAGE
