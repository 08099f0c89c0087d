"""Who may: the one place that asks guardian.

`require` is asked inside the action, with fresh grants; `visible` narrows every query; pages ask `abilities_for` to
decide what to offer. A grant on a tenant holds for all its environments; one on an environment for that alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.contrib.auth.models import Group, Permission
from django.db.models import Model, Q, QuerySet
from guardian.shortcuts import assign_perm, remove_perm

from changecontrol import clock
from changecontrol.errors import Forbidden
from changecontrol.models import (
    ChangeRequest,
    Cluster,
    Environment,
    EnvironmentGroupObjectPermission,
    EnvironmentUserObjectPermission,
    Run,
    Tenant,
    TenantGroupObjectPermission,
    TenantUserObjectPermission,
    User,
)
from changecontrol.models.estate import role_codename
from changecontrol.rules.roles import ABILITIES, Ability, Role

M = TypeVar("M", bound=Model)

SYSTEM = "changecontrol"
"""The username of the actor that background work acts as."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody at work, and how we know it is them. `scopes` limits a token to some abilities; None is no limit."""

    user: User | None
    via: str
    source_address: str | None = None
    correlation_id: str = ""
    authentication: str = ""
    authenticated_at: datetime | None = None
    scopes: frozenset[str] | None = None

    @property
    def person(self) -> User:
        """The signed-in user. Raises `Forbidden` for a stranger."""
        if self.user is None:
            raise Forbidden("Sign in first.")
        return self.user


def system_actor(correlation_id: str | None = None) -> Actor:
    """Return the named actor of background work. It holds no role and never votes."""
    user, _ = User.objects.get_or_create(
        username=SYSTEM, defaults={"display_name": "ChangeControl", "is_system": True, "is_active": False}
    )
    return Actor(user=user, via="worker", correlation_id=correlation_id or uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Scope:
    """The roles one actor holds, by tenant and by environment; `environment_tenants` tells whose each is."""

    everywhere: frozenset[Role] = frozenset()
    tenants: Mapping[int, frozenset[Role]] = field(default_factory=dict)
    environments: Mapping[int, frozenset[Role]] = field(default_factory=dict)
    environment_tenants: Mapping[int, int] = field(default_factory=dict)
    scopes: frozenset[str] | None = None

    def roles_on_tenant(self, tenant_id: int) -> frozenset[Role]:
        return self.everywhere | self.tenants.get(tenant_id, frozenset())

    def roles_on_environment(self, *, environment_id: int, tenant_id: int) -> frozenset[Role]:
        return self.roles_on_tenant(tenant_id) | self.environments.get(environment_id, frozenset())

    @property
    def roles(self) -> frozenset[Role]:
        """Every role held anywhere."""
        return self.everywhere.union(*self.tenants.values(), *self.environments.values())

    def abilities(self, roles: Iterable[Role]) -> frozenset[Ability]:
        found = frozenset(ability for role in roles for ability in ABILITIES[role])
        return found if self.scopes is None else frozenset(a for a in found if a in self.scopes)

    @property
    def sees_everything(self) -> bool:
        return Role.PLATFORM_ADMINISTRATOR in self.everywhere


def scope_of(actor: Actor) -> Scope:
    """Return what the actor holds now, in two statements. An expired grant and an inactive user hold nothing."""
    user = actor.user
    if user is None or not user.is_active:
        return Scope()
    at = clock.now()
    live = Q(expires_at__isnull=True) | Q(expires_at__gt=at)
    mine = Q(group__user=user)

    def rows(model: Any, who: Q, *extra: str) -> QuerySet[Any, Any]:
        found: QuerySet[Any, Any] = (
            model.objects.filter(who, live).order_by().values_list("content_object_id", "permission__codename", *extra)
        )
        return found

    tenants: dict[int, set[Role]] = {}
    for tenant_id, codename in rows(TenantUserObjectPermission, Q(user=user)).union(
        rows(TenantGroupObjectPermission, mine)
    ):
        tenants.setdefault(tenant_id, set()).add(Role(codename.removeprefix("role_")))
    environments: dict[int, set[Role]] = {}
    environment_tenants: dict[int, int] = {}
    for environment_id, codename, tenant_id in rows(
        EnvironmentUserObjectPermission, Q(user=user), "content_object__tenant_id"
    ).union(rows(EnvironmentGroupObjectPermission, mine, "content_object__tenant_id")):
        environments.setdefault(environment_id, set()).add(Role(codename.removeprefix("role_")))
        environment_tenants[environment_id] = tenant_id
    return Scope(
        everywhere=frozenset({Role.PLATFORM_ADMINISTRATOR}) if user.is_superuser else frozenset(),
        tenants={key: frozenset(value) for key, value in tenants.items()},
        environments={key: frozenset(value) for key, value in environments.items()},
        environment_tenants=environment_tenants,
        scopes=actor.scopes,
    )


def roles_on(scope: Scope, thing: Model) -> frozenset[Role]:
    """Return the roles that count for a thing: on a change, those held on its tenant or on all its environments."""
    if isinstance(thing, Tenant):
        return scope.roles_on_tenant(thing.pk)
    if isinstance(thing, Environment):
        return scope.roles_on_environment(environment_id=thing.pk, tenant_id=thing.tenant_id)
    if isinstance(thing, Run):
        thing = thing.change
    if isinstance(thing, ChangeRequest):
        on_tenant = scope.roles_on_tenant(thing.tenant_id)
        if not scope.environments:
            return on_tenant
        ids = set(thing.environments.values_list("pk", flat=True))
        if not ids:
            return on_tenant
        shared = frozenset.intersection(*(scope.environments.get(pk, frozenset()) for pk in ids))
        return on_tenant | shared
    if isinstance(thing, Cluster):
        return scope.everywhere
    tenant_id = getattr(thing, "tenant_id", None)
    return scope.roles_on_tenant(tenant_id) if tenant_id else scope.everywhere


def abilities_for(scope: Scope, thing: Model | None) -> frozenset[Ability]:
    """Return what the scope allows on a thing; on None, what it allows for the whole platform."""
    return scope.abilities(scope.everywhere if thing is None else roles_on(scope, thing))


def can(actor: Actor, ability: Ability, thing: Model | None) -> bool:
    return ability in abilities_for(scope_of(actor), thing)


def require(actor: Actor, ability: Ability, thing: Model | None) -> Scope:
    """Return the fresh scope, or raise `Forbidden` naming the roles that would do."""
    scope = scope_of(actor)
    if ability in abilities_for(scope, thing):
        return scope
    holders = ", ".join(role.label.lower() for role in Role if ability in ABILITIES[role])
    if actor.scopes is not None and ability not in actor.scopes:
        raise Forbidden(f"This token is not scoped for “{ability}”.")
    raise Forbidden(f"This needs one of these roles here: {holders}.")


_TENANT_PATHS: dict[str, str] = {
    "tenant": "pk",
    "run": "change__tenant",
    "runtarget": "run__change__tenant",
    "gateresult": "change__tenant",
    "approvalround": "change__tenant",
    "requirement": "round__change__tenant",
    "artefact": "change__tenant",
    "revision": "change__tenant",
}
_ENVIRONMENT_PATHS: dict[str, str] = {
    "environment": "pk",
    "changerequest": "environments",
    "run": "change__environments",
    "gateresult": "change__environments",
    "approvalround": "change__environments",
    "requirement": "round__change__environments",
    "artefact": "change__environments",
    "revision": "change__environments",
}


def visible(scope: Scope, things: QuerySet[M]) -> QuerySet[M]:
    """Narrow a query to what the scope may see. Somebody who holds any role on a tenant sees what is that tenant's."""
    if scope.sees_everything:
        return things
    name = things.model._meta.model_name or ""
    viewing = {t for t, roles in scope.tenants.items() if roles}
    if name == "cluster":
        return things.filter(Q(environments__tenant__in=viewing) | Q(environments__in=scope.environments)).distinct()
    condition = Q(**{f"{_TENANT_PATHS.get(name, 'tenant')}__in": viewing})
    if scope.environments:
        if path := _ENVIRONMENT_PATHS.get(name):
            condition |= Q(
                pk__in=things.model._default_manager.filter(**{f"{path}__in": scope.environments}).values("pk")
            )
        elif name in {"tenant", "region", "cohort", "businessprocess", "gitsource"}:
            key = "pk" if name == "tenant" else "tenant"
            condition |= Q(**{f"{key}__in": set(scope.environment_tenants.values())})
    if name in {"window", "freeze", "approvalpolicy"}:
        condition |= Q(tenant__isnull=True)
    return things.filter(condition)


def holders(role: Role, *, tenant_id: int, environment_ids: Iterable[int], at: datetime) -> QuerySet[User]:
    """Return the active people who hold a role on the tenant, or on every one of the environments."""
    codename = role_codename(role)
    live = Q(expires_at__isnull=True) | Q(expires_at__gt=at)
    of_role = Q(permission__codename=codename) & live
    condition = Q(
        pk__in=TenantUserObjectPermission.objects.filter(of_role, content_object_id=tenant_id).values("user")
    ) | Q(groups__in=TenantGroupObjectPermission.objects.filter(of_role, content_object_id=tenant_id).values("group"))
    ids = list(environment_ids)
    if ids:
        everywhere = Q()
        for pk in ids:
            everywhere &= Q(
                pk__in=EnvironmentUserObjectPermission.objects.filter(of_role, content_object_id=pk).values("user")
            ) | Q(
                pk__in=User.objects.filter(
                    groups__in=EnvironmentGroupObjectPermission.objects.filter(of_role, content_object_id=pk).values(
                        "group"
                    )
                ).values("pk")
            )
        condition |= everywhere
    return User.objects.filter(condition, is_active=True, is_system=False).distinct()


def grant_role(
    holder: User | Group, role: Role, thing: Tenant | Environment, *, expires_at: datetime | None = None
) -> None:
    """Grant a role; granting it again sets the new expiry."""
    row: Any = assign_perm(role_codename(role), holder, thing)
    type(row).objects.filter(pk=row.pk).update(expires_at=expires_at)


def revoke_role(holder: User | Group, role: Role, thing: Tenant | Environment) -> None:
    remove_perm(role_codename(role), holder, thing)


def role_permissions() -> QuerySet[Permission]:
    return Permission.objects.filter(codename__startswith="role_")
