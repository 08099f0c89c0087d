"""Reads for those who configure: policies with their versions, who holds which role where, people one may name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.models import (
    ApprovalPolicy,
    EnvironmentGroupObjectPermission,
    EnvironmentUserObjectPermission,
    Tenant,
    TenantGroupObjectPermission,
    TenantUserObjectPermission,
    User,
)
from changecontrol.rules.roles import Ability, Role


@dataclass(frozen=True, slots=True)
class GrantRow:
    """One role of one person; `environment` is empty where it holds for the whole tenant."""

    user: User
    role: Role
    tenant: Tenant
    environment: str
    environment_id: int | None
    expires_at: datetime | None

    def is_over(self, at: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= at


def policies_of(scope: Scope) -> QuerySet[ApprovalPolicy]:
    """Return the versions in force, the platform's first."""
    rows = ApprovalPolicy.objects.filter(is_active=True).select_related("tenant", "created_by")
    return access.visible(scope, rows).order_by("tenant__name", "name")


def policy_versions(scope: Scope, *, policy_id: int) -> list[ApprovalPolicy]:
    """Return all versions of the policy that one of its versions names, newest first; nothing where it is hidden."""
    rows = access.visible(scope, ApprovalPolicy.objects.select_related("tenant", "created_by"))
    one = rows.filter(pk=policy_id).first()
    if one is None:
        return []
    return list(rows.filter(tenant=one.tenant_id, slug=one.slug).order_by("-version"))


def tenants_with(scope: Scope, ability: Ability) -> list[Tenant]:
    """Return the tenants on whose whole one has an ability."""
    rows = access.visible(scope, Tenant.objects.order_by("name"))
    return [one for one in rows if ability in scope.abilities(scope.roles_on_tenant(one.pk))]


def grants_on(tenants: Iterable[Tenant]) -> list[GrantRow]:
    """Return who holds what on these tenants and their environments, by person, in two statements."""
    keys = {one.pk: one for one in tenants}

    def rows(model: Any, **of_these: Any) -> Any:
        return model.objects.filter(**of_these, permission__codename__startswith="role_").select_related(
            "user", "permission", "content_object"
        )

    found = [
        GrantRow(one.user, _role(one), keys[one.content_object_id], "", None, one.expires_at)
        for one in rows(TenantUserObjectPermission, content_object__in=keys)
    ]
    found += [
        GrantRow(
            one.user,
            _role(one),
            keys[one.content_object.tenant_id],
            one.content_object.name,
            one.content_object_id,
            one.expires_at,
        )
        for one in rows(EnvironmentUserObjectPermission, content_object__tenant__in=keys)
    ]
    return sorted(found, key=lambda one: (str(one.user), one.tenant.name, one.environment, one.role))


def people_known_to(scope: Scope, tenant: Tenant | None) -> list[User]:
    """Return the active people one may name, by name."""
    if tenant is None and not scope.sees_everything:
        return []
    people = nameable(scope, tenant).filter(is_active=True)
    return sorted(people, key=lambda one: (str(one).lower(), one.pk))


def nameable(scope: Scope, tenant: Tenant | None) -> QuerySet[User]:
    """Return the people one may name: all, for who sees everything; else those of the tenant (BIZ-1).

    Those who hold or held a role there, of their own or by a group, and whom its administrators made: `name@tenant`.
    """
    people = User.objects.filter(is_system=False)
    if scope.sees_everything or tenant is None:
        return people
    on_tenant, there = {"content_object": tenant}, {"content_object__tenant": tenant}
    return people.filter(
        Q(pk__in=TenantUserObjectPermission.objects.filter(**on_tenant).values("user"))
        | Q(pk__in=EnvironmentUserObjectPermission.objects.filter(**there).values("user"))
        | Q(groups__in=TenantGroupObjectPermission.objects.filter(**on_tenant).values("group"))
        | Q(groups__in=EnvironmentGroupObjectPermission.objects.filter(**there).values("group"))
        | Q(username__endswith=f"@{tenant.slug}")
    ).distinct()


def _role(grant: Any) -> Role:
    return Role(grant.permission.codename.removeprefix("role_"))
