"""Who may: the one place that asks guardian.

`require` is asked inside the action, with fresh grants; `visible` narrows every query; pages ask `abilities_for` to
decide what to offer. A grant on a tenant holds for all its environments; one on an environment for that alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.db.models import Model, Q, QuerySet

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
from changecontrol.rules.roles import ABILITIES, Ability, Role, roles_with

M = TypeVar("M", bound=Model)

SYSTEM = "changecontrol"
"""The username of the actor that background work acts as."""

_system_users: WeakKeyDictionary[Any, User] = WeakKeyDictionary()


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
    return Actor(user=_system_user(), via="worker", correlation_id=correlation_id or uuid.uuid4().hex)


def _system_user() -> User:
    """Return the user of background work. Every settlement asks, and it never changes: a connection remembers it."""
    session = connection.connection
    known = _system_users.get(session) if session is not None else None
    if known is not None:
        return known
    user, _ = User.objects.get_or_create(
        username=SYSTEM, defaults={"display_name": "ChangeControl", "is_system": True, "is_active": False}
    )

    def remember() -> None:
        # Only what is committed: what is rolled back yet was never there.
        if not connection.in_atomic_block and connection.connection is not None:
            _system_users[connection.connection] = user

    transaction.on_commit(remember)
    return user


def operator_actor() -> Actor:
    """Return the actor of somebody at the machine's command line: whoever can run it can write the database anyway."""
    return replace(system_actor(), via="command")


@dataclass(frozen=True, slots=True)
class Scope:
    """The roles one actor holds, by tenant and by environment; `environment_tenants` tells whose each is."""

    person_id: int | None = None
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


_HELD = """
SELECT held.tenant_id, held.environment_id, auth_permission.codename
FROM (
    SELECT content_object_id AS tenant_id, NULL::bigint AS environment_id, permission_id, expires_at
    FROM changecontrol_tenantuserobjectpermission WHERE user_id = %(person)s
    UNION ALL
    SELECT content_object_id, NULL::bigint, permission_id, expires_at
    FROM changecontrol_tenantgroupobjectpermission
    WHERE group_id IN (SELECT group_id FROM changecontrol_user_groups WHERE user_id = %(person)s)
    UNION ALL
    SELECT place.tenant_id, place.id, permission_id, expires_at
    FROM changecontrol_environmentuserobjectpermission AS mine
    JOIN changecontrol_environment AS place ON place.id = mine.content_object_id WHERE user_id = %(person)s
    UNION ALL
    SELECT place.tenant_id, place.id, permission_id, expires_at
    FROM changecontrol_environmentgroupobjectpermission AS mine
    JOIN changecontrol_environment AS place ON place.id = mine.content_object_id
    WHERE group_id IN (SELECT group_id FROM changecontrol_user_groups WHERE user_id = %(person)s)
) AS held
JOIN auth_permission ON auth_permission.id = held.permission_id
WHERE held.expires_at IS NULL OR held.expires_at > %(at)s
"""
"""Every grant of one person that has not expired, theirs or of a group of theirs; of a whole tenant without a place."""


def scope_of(actor: Actor) -> Scope:
    """Return what the actor holds now, in one statement. An expired grant and an inactive user hold nothing."""
    user = actor.user
    if user is not None and user.is_system and actor.via == "command":
        return Scope(person_id=user.pk, everywhere=frozenset({Role.PLATFORM_ADMINISTRATOR}))
    if user is None or not user.is_active:
        return Scope()
    tenants: dict[int, set[Role]] = {}
    environments: dict[int, set[Role]] = {}
    environment_tenants: dict[int, int] = {}
    # Written out: every request asks this, every action again, and building four querysets cost more than the answer.
    with connection.cursor() as cursor:
        cursor.execute(_HELD, {"person": user.pk, "at": clock.now()})
        for tenant_id, environment_id, codename in cursor.fetchall():
            role = Role(codename.removeprefix("role_"))
            if environment_id is None:
                tenants.setdefault(tenant_id, set()).add(role)
            else:
                environments.setdefault(environment_id, set()).add(role)
                environment_tenants[environment_id] = tenant_id
    return Scope(
        person_id=user.pk,
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
        return _roles_on_change(scope, thing)
    if isinstance(thing, Cluster):
        return scope.everywhere
    tenant_id = getattr(thing, "tenant_id", None)
    return scope.roles_on_tenant(tenant_id) if tenant_id else scope.everywhere


def _roles_on_change(scope: Scope, change: ChangeRequest) -> frozenset[Role]:
    on_tenant = scope.roles_on_tenant(change.tenant_id)
    if change.tenant_id not in scope.environment_tenants.values():
        return on_tenant
    # `all()` and not a query of its own: lists prefetch the environments of their changes.
    ids = [environment.pk for environment in change.environments.all()]
    if ids:
        return on_tenant | frozenset.intersection(*(scope.environments.get(pk, frozenset()) for pk in ids))
    if change.requester_id != scope.person_id:
        return on_tenant
    # A draft that names no environment yet is its requester's, whose roles may all be on environments.
    mine = (roles for pk, roles in scope.environments.items() if scope.environment_tenants[pk] == change.tenant_id)
    return on_tenant.union(*mine)


def abilities_for(scope: Scope, thing: Model | None) -> frozenset[Ability]:
    """Return what the scope allows on a thing; on None, what it allows for the whole platform."""
    return scope.abilities(scope.everywhere if thing is None else roles_on(scope, thing))


def can(actor: Actor, ability: Ability, thing: Model | None) -> bool:
    return ability in abilities_for(scope_of(actor), thing)


def require(actor: Actor, ability: Ability, thing: Model | None) -> Scope:
    """Return the fresh scope, or raise `Forbidden` naming the roles that would do."""
    scope = scope_of(actor)
    if ability not in abilities_for(scope, thing):
        raise Forbidden(why_not(scope, ability))
    return scope


def why_not(scope: Scope, ability: Ability) -> str:
    """Say what is missing: the token's scope, or one of the roles that would do."""
    if scope.scopes is not None and ability not in scope.scopes:
        return f"This token is not scoped for “{ability}”."
    return f"This needs one of these roles here: {', '.join(role.label.lower() for role in roles_with(ability))}."


_TENANT_PATHS: dict[str, str] = {
    "tenant": "pk",
    "run": "change__tenant",
    "runtarget": "run__change__tenant",
    "runlog": "run__change__tenant",
    "gateresult": "change__tenant",
    "approvalround": "change__tenant",
    "requirement": "round__change__tenant",
    "vote": "requirement__round__change__tenant",
    "artefact": "change__tenant",
    "contributor": "change__tenant",
    "revision": "change__tenant",
    "plan": "revision__change__tenant",
    "environmentlock": "environment__tenant",
}
_ENVIRONMENT_PATHS: dict[str, str] = {
    "environment": "pk",
    "changerequest": "environments",
    "run": "change__environments",
    "runtarget": "run__change__environments",
    "runlog": "run__change__environments",
    "gateresult": "change__environments",
    "approvalround": "change__environments",
    "requirement": "round__change__environments",
    "vote": "requirement__round__change__environments",
    "artefact": "change__environments",
    "contributor": "change__environments",
    "revision": "change__environments",
    "plan": "revision__change__environments",
    "environmentlock": "environment",
    "window": "environment",
    "freeze": "environment",
    "store": "cohort__environments",
}
_OF_WHOLE_TENANT = frozenset({"tenant", "region", "cohort", "businessprocess", "gitsource", "approvalpolicy"})
"""What somebody with a role on one environment sees of its tenant: names, not changes."""
_OF_PLATFORM = frozenset({"window", "freeze", "approvalpolicy"})
"""Those without a tenant hold for everybody, so everybody with any role sees them."""
_SEEN_BY: dict[str, Ability] = {
    **dict.fromkeys(("tenant", "region", "cohort", "store", "cluster", "environment"), Ability.ESTATE_VIEW),
    **dict.fromkeys(("businessprocess", "gitsource"), Ability.ESTATE_VIEW),
    **dict.fromkeys(("run", "runtarget", "runlog", "environmentlock"), Ability.RUN_VIEW),
    **dict.fromkeys(("window", "freeze"), Ability.WINDOW_VIEW),
    "approvalpolicy": Ability.POLICY_VIEW,
    "artefact": Ability.EVIDENCE_VIEW,
    "auditevent": Ability.AUDIT_VIEW,
}
"""The ability that shows rows of a model; for all others it is `change.view`."""


def visible(scope: Scope, things: QuerySet[M]) -> QuerySet[M]:
    """Narrow a query to what the scope may see: what is of a tenant, or of an environment, where a role shows it."""
    name = things.model._meta.model_name or ""
    ability = _SEEN_BY.get(name, Ability.CHANGE_VIEW)
    if ability in scope.abilities(scope.everywhere):
        return things
    tenants = {pk for pk, roles in scope.tenants.items() if ability in scope.abilities(roles)}
    environments = {pk for pk, roles in scope.environments.items() if ability in scope.abilities(roles)}
    if not tenants and not environments:
        return things.none()
    if name == "cluster":
        return things.filter(Q(environments__tenant__in=tenants) | Q(environments__in=environments)).distinct()
    condition = Q(**{f"{_TENANT_PATHS.get(name, 'tenant')}__in": tenants})
    if environments:
        owners = {scope.environment_tenants[pk] for pk in environments}
        condition |= _of_environments(things, name, environments=environments, owners=owners, scope=scope)
    if name in _OF_PLATFORM:
        condition |= Q(tenant__isnull=True)
    return things.filter(condition)


def _of_environments(things: QuerySet[M], name: str, *, environments: set[int], owners: set[int], scope: Scope) -> Q:
    condition = Q(pk__in=())
    if path := _ENVIRONMENT_PATHS.get(name):
        # A subquery and not a join: rows stay single and can be locked.
        condition |= Q(pk__in=things.model._default_manager.filter(**{f"{path}__in": environments}).values("pk"))
    if name in _OF_WHOLE_TENANT:
        condition |= Q(**{"pk__in" if name == "tenant" else "tenant__in": owners})
    if name in {"window", "freeze"}:
        condition |= Q(tenant__in=owners, environment__isnull=True)
    if name == "changerequest":
        mine = ChangeRequest.objects.filter(requester=scope.person_id, tenant__in=owners, environments__isnull=True)
        condition |= Q(pk__in=mine.values("pk"))
    return condition


def environments_with(scope: Scope, ability: Ability) -> QuerySet[Environment]:
    """Return the environments on which the scope has an ability: what narrows the rows of apps that build on this."""
    if ability in scope.abilities(scope.everywhere):
        return Environment.objects.all()
    tenants = [pk for pk, roles in scope.tenants.items() if ability in scope.abilities(roles)]
    environments = [pk for pk, roles in scope.environments.items() if ability in scope.abilities(roles)]
    return Environment.objects.filter(Q(tenant__in=tenants) | Q(pk__in=environments))


@dataclass(frozen=True, slots=True)
class HolderBook:
    """Who holds which role where, for some tenants and environments; `people` are the active ones, by key."""

    people: Mapping[int, User]
    tenants: Mapping[tuple[int, Role], frozenset[int]]
    environments: Mapping[tuple[int, Role], frozenset[int]]

    def holding(self, role: Role, *, tenant_id: int, environment_ids: Iterable[int]) -> frozenset[int]:
        """Return the keys of the people who hold a role on the tenant, or on every one of the environments."""
        everywhere = [self.environments.get((pk, role), frozenset()) for pk in environment_ids]
        shared = frozenset.intersection(*everywhere) if everywhere else frozenset()
        return self.tenants.get((tenant_id, role), frozenset()) | shared


def holder_book(*, tenant_ids: Iterable[int], environment_ids: Iterable[int], at: datetime) -> HolderBook:
    """Read the live grants on these tenants and environments, in four statements however many they are."""
    live = Q(expires_at__isnull=True) | Q(expires_at__gt=at)

    def grants(of_person: Any, of_group: Any, ids: Iterable[int]) -> list[tuple[int, str, int]]:
        of_these = live & Q(content_object_id__in=list(ids))
        columns = ("content_object_id", "permission__codename")
        rows = of_person.objects.filter(of_these).order_by().values_list(*columns, "user")
        held = of_group.objects.filter(of_these, group__user__isnull=False).order_by()
        return list(rows.union(held.values_list(*columns, "group__user")))

    on_tenants = grants(TenantUserObjectPermission, TenantGroupObjectPermission, tenant_ids)
    on_environments = grants(EnvironmentUserObjectPermission, EnvironmentGroupObjectPermission, environment_ids)
    keys = {person for _, _, person in (*on_tenants, *on_environments)}
    people = {
        person.pk: person
        for person in User.objects.filter(pk__in=keys, is_active=True, is_system=False).prefetch_related(
            "emailaddress_set"
        )
    }

    def by_role(rows: list[tuple[int, str, int]]) -> dict[tuple[int, Role], frozenset[int]]:
        found: dict[tuple[int, Role], set[int]] = {}
        for thing, codename, person in rows:
            if person in people:
                found.setdefault((thing, Role(codename.removeprefix("role_"))), set()).add(person)
        return {key: frozenset(value) for key, value in found.items()}

    return HolderBook(people=people, tenants=by_role(on_tenants), environments=by_role(on_environments))


def holders(role: Role, *, tenant_id: int, environment_ids: Iterable[int], at: datetime) -> list[User]:
    """Return the active people who hold a role on the tenant, or on every one of the environments, by name."""
    ids = list(environment_ids)
    book = holder_book(tenant_ids=[tenant_id], environment_ids=ids, at=at)
    found = (book.people[pk] for pk in book.holding(role, tenant_id=tenant_id, environment_ids=ids))
    return sorted(found, key=lambda person: (str(person), person.pk))


def grant_role(
    holder: User | Group, role: Role, thing: Tenant | Environment, *, expires_at: datetime | None = None
) -> None:
    """Grant a role; granting it again sets the new expiry."""
    model, who = _grant_model(holder, thing)
    permission = Permission.objects.get(codename=role_codename(role), content_type__model=thing._meta.model_name)
    grant = model(**{who: holder}, permission=permission, content_object=thing, expires_at=expires_at)
    model.objects.bulk_create(
        [grant],
        update_conflicts=True,
        unique_fields=[who, "permission", "content_object"],
        update_fields=["expires_at"],
    )


def revoke_role(holder: User | Group, role: Role, thing: Tenant | Environment) -> bool:
    """Take a grant away; return whether there was one."""
    count, _ = _grants(holder, role, thing).delete()
    return bool(count)


def grant_of(holder: User | Group, role: Role, thing: Tenant | Environment) -> Any:
    """Return the row of a grant, which knows when it expires, or None."""
    return _grants(holder, role, thing).first()


def _grants(holder: User | Group, role: Role, thing: Tenant | Environment) -> Any:
    model, who = _grant_model(holder, thing)
    return model.objects.filter(**{who: holder}, content_object=thing, permission__codename=role_codename(role))


def _grant_model(holder: User | Group, thing: Tenant | Environment) -> tuple[Any, str]:
    """Return the model that holds such grants, and its field for the holder."""
    models: tuple[Any, Any]
    if isinstance(thing, Tenant):
        models = (TenantUserObjectPermission, TenantGroupObjectPermission)
    else:
        models = (EnvironmentUserObjectPermission, EnvironmentGroupObjectPermission)
    return (models[0], "user") if isinstance(holder, User) else (models[1], "group")


def role_permissions() -> QuerySet[Permission]:
    return Permission.objects.filter(codename__startswith="role_")
