"""Where a window or freeze holds: found among what the person may see, and all of one tenant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from changecontrol import access
from changecontrol.access import Actor
from changecontrol.actions.locking import sight_of
from changecontrol.errors import NotFound
from changecontrol.models import Cluster, Cohort, Environment, Tenant
from changecontrol.models.estate import Stage
from changecontrol.rules.roles import Ability


@dataclass(frozen=True, slots=True)
class PlaceIds:
    """What narrows a window or freeze; None and the empty stage do not."""

    stage: str = ""
    environment_id: int | None = None
    cluster_id: int | None = None
    cohort_id: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The columns of a `Scoped` row, and by field what is wrong with them."""

    columns: Mapping[str, Any]
    problems: Mapping[str, list[str]]


def place_of(actor: Actor, ability: Ability, *, tenant_id: int | None, ids: PlaceIds) -> Place:
    """Find the place and require the ability there: on the tenant, or without one on the whole platform."""
    sight = sight_of(actor)
    tenant = None
    if tenant_id is not None:
        tenant = access.visible(sight, Tenant.objects.filter(pk=tenant_id)).first()
        if tenant is None:
            raise NotFound("There is no such tenant.")
    access.require(actor, ability, tenant)
    problems: dict[str, list[str]] = {}
    if ids.stage and ids.stage not in set(Stage):
        problems["stage"] = ["A stage is development, staging or production."]
    # Without a tenant a slug would name every tenant's environment or cohort of that name: the platform's names none.
    environments = Environment.objects.filter(pk=ids.environment_id or 0, tenant=tenant)
    cohorts = Cohort.objects.filter(pk=ids.cohort_id or 0, tenant=tenant)
    found = {
        "environment": access.visible(sight, environments).first() if ids.environment_id else None,
        "cluster": access.visible(sight, Cluster.objects.filter(pk=ids.cluster_id or 0)).first()
        if ids.cluster_id
        else None,
        "cohort": access.visible(sight, cohorts).first() if ids.cohort_id else None,
    }
    asked = {"environment": ids.environment_id, "cluster": ids.cluster_id, "cohort": ids.cohort_id}
    for name, thing in found.items():
        if asked[name] and thing is None:
            problems[name] = [f"There is no such {name} here."]
    return Place(columns={"tenant": tenant, "stage": ids.stage, **found}, problems=problems)
