"""Who holds which role where, for those who may know: an access review, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import BigIntegerField, CharField, F, QuerySet, Value

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.errors import Forbidden, NotFound
from changecontrol.models import (
    EnvironmentGroupObjectPermission,
    EnvironmentUserObjectPermission,
    TenantGroupObjectPermission,
    TenantUserObjectPermission,
)
from changecontrol.rules.roles import Ability

_TABLES: tuple[tuple[Any, str, str, str], ...] = (
    (TenantUserObjectPermission, "user", "", "content_object"),
    (EnvironmentUserObjectPermission, "user", "content_object__slug", "content_object__tenant"),
    (TenantGroupObjectPermission, "group", "", "content_object"),
    (EnvironmentGroupObjectPermission, "group", "content_object__slug", "content_object__tenant"),
)
"""Where grants are kept: the table, its holder, the path to the environment's slug, and that to the tenant."""
_COLUMNS = ("key", "who_id", "who", "is_a_group", "codename", "owner_id", "owner", "place_id", "place", "until")


@dataclass(frozen=True, slots=True)
class Grant:
    """One grant. `key` names it among all four tables; a group's holds for its members."""

    key: int
    holder_id: int
    holder: str
    is_group: bool
    role: str
    tenant_id: int
    tenant: str
    environment_id: int | None
    environment: str | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class GrantPage:
    rows: tuple[Grant, ...]
    newer: int | None
    older: int | None


def grants_page(
    scope: Scope,
    *,
    tenant: str = "",
    holder: str = "",
    before: int | None = None,
    after: int | None = None,
    is_last: bool = False,
    size: int,
) -> GrantPage:
    """Return one page by key, highest first, in one statement. Raises `Forbidden` where nobody's access may be seen."""
    is_backward = after is not None or is_last
    branches = [_narrow(_branch(number, scope), tenant, holder, before, after) for number in range(len(_TABLES))]
    rows = branches[0].union(*branches[1:], all=True).order_by("key" if is_backward else "-key")
    found = [_grant(row) for row in rows[: size + 1]]
    has_more, found = len(found) > size, found[:size]
    if is_backward:
        found.reverse()
    has_newer = has_more if is_backward else before is not None
    has_older = after is not None if is_backward else has_more
    return GrantPage(
        rows=tuple(found),
        newer=found[0].key if found and has_newer else None,
        older=found[-1].key if found and has_older else None,
    )


def grant_by_key(scope: Scope, key: int) -> Grant:
    """Return a grant in sight. Raises `NotFound`, alike for a hidden one and for none."""
    row = _branch(key % len(_TABLES), scope).filter(key=key).first()
    if row is None:
        raise NotFound("There is no such grant.")
    return _grant(row)


def _branch(number: int, scope: Scope) -> QuerySet[Any, Any]:
    """Return the grants of one table on the tenants whose access the scope may see."""
    model, holder, place, owner = _TABLES[number]
    rows: QuerySet[Any, Any] = model.objects.order_by()
    if Ability.ACCESS_VIEW not in scope.abilities(scope.everywhere):
        tenants = {pk for pk, roles in scope.tenants.items() if Ability.ACCESS_VIEW in scope.abilities(roles)}
        if not tenants:
            raise Forbidden(access.why_not(scope, Ability.ACCESS_VIEW))
        rows = rows.filter(**{f"{owner}__in": tenants})
    is_group = holder == "group"
    told: QuerySet[Any, Any] = rows.annotate(
        key=F("pk") * len(_TABLES) + number,
        who_id=F(f"{holder}__pk"),
        who=F("group__name" if is_group else "user__username"),
        is_a_group=Value(is_group),
        codename=F("permission__codename"),
        owner_id=F(f"{owner}__pk"),
        owner=F(f"{owner}__slug"),
        place_id=F("content_object__pk") if place else Value(None, output_field=BigIntegerField()),
        place=F(place) if place else Value(None, output_field=CharField()),
        until=F("expires_at"),
    ).values_list(*_COLUMNS)
    return told


def _narrow(
    rows: QuerySet[Any, Any], tenant: str, holder: str, before: int | None, after: int | None
) -> QuerySet[Any, Any]:
    exact = {"owner": tenant, "who": holder, "key__lt": before, "key__gt": after}
    return rows.filter(**{name: value for name, value in exact.items() if value not in ("", None)})


def _grant(row: tuple[Any, ...]) -> Grant:
    key, holder_id, holder, is_group, codename, tenant_id, tenant, environment_id, environment, until = row
    return Grant(
        key=key,
        holder_id=holder_id,
        holder=holder,
        is_group=is_group,
        role=codename.removeprefix("role_"),
        tenant_id=tenant_id,
        tenant=tenant,
        environment_id=environment_id,
        environment=environment,
        expires_at=until,
    )
