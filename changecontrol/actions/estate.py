"""Writing the estate: one way for pages, API and the estate file to make a thing or change it, with its event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.locking import sight_of
from changecontrol.actions.refusals import audited
from changecontrol.actions.windows import differences_of
from changecontrol.errors import Forbidden, Invalid, NotFound
from changecontrol.events import Tag
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
from changecontrol.rules.roles import Ability

REFERENCE_SCHEMES = ("env:", "file:", "vault:")


@dataclass(frozen=True, slots=True)
class EstateKind:
    """What one kind of thing may say of itself.

    `key` names it, within its tenant where it is of one, and never changes. `one` and `many` refer to things of other
    kinds by their keys; people are named by username.
    """

    model: type[models.Model]
    plain: tuple[str, ...]
    key: str = "slug"
    is_of_tenant: bool = True
    one: Mapping[str, str] = field(default_factory=dict)
    many: Mapping[str, str] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    """Fields that hold a reference to a secret, never a secret."""

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({self.key, *self.plain, *self.one, *self.many})


KINDS: Mapping[str, EstateKind] = {
    "tenant": EstateKind(Tenant, ("name", "tenancy"), is_of_tenant=False),
    "cluster": EstateKind(
        Cluster,
        ("name", "credential", "metrics_url", "metrics_credential", "metrics_authority"),
        is_of_tenant=False,
        references=("credential", "metrics_credential", "metrics_authority"),
    ),
    "region": EstateKind(Region, ("name",)),
    "cohort": EstateKind(Cohort, ("name", "is_pilot")),
    "store": EstateKind(
        Store,
        ("name", "zone", "opens_at", "closes_at", "sales_share"),
        key="code",
        one={"region": "region", "cohort": "cohort"},
    ),
    "source": EstateKind(GitSource, ("name", "url", "credential", "default_branch"), references=("credential",)),
    "process": EstateKind(BusinessProcess, ("name", "tier", "rto_seconds", "rpo_seconds"), one={"owner": "person"}),
    "environment": EstateKind(
        Environment,
        ("name", "stage", "namespace", "path", "cluster_scoped_kinds", "database", "filestore"),
        one={"cluster": "cluster", "source": "source"},
        many={"processes": "process", "cohorts": "cohort"},
    ),
}
"""The kinds in the order in which they can be made."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a thing. `differences` maps a field to [old, new]; empty where nothing changed."""

    thing: Any
    is_new: bool
    differences: Mapping[str, list[Any]]


@audited
@transaction.atomic
def save_estate(
    *, actor: Actor, kind: str, answers: Mapping[str, Any], tenant_id: int | None = None, at: datetime
) -> Saved:
    """Make the thing that `answers` names by its key, or change what differs. Fields left out stay as they are.

    References are keys (`cluster: pt-1`, `cohorts: [pilot]`). Raises `Invalid` with everything that is wrong, by field.
    What changes nothing leaves no event.
    """
    found = KINDS.get(kind)
    if found is None:
        raise Invalid(f"The estate has no kind called “{kind}”.")
    tenant = _tenant(actor, tenant_id) if found.is_of_tenant else None
    if unknown := sorted(answers.keys() - found.fields):
        raise Invalid(
            f"A {kind} has no field called {', '.join(unknown)}.",
            fields={name: [f"A {kind} has no such field."] for name in unknown},
        )
    thing, is_new = _find(actor, found, kind=kind, answers=answers, tenant=tenant)
    many = _assign(actor, thing, found, answers=answers, tenant=tenant, at=at)
    before = {} if is_new else _told(type(thing).objects.get(pk=thing.pk), found)
    problems = _problems(thing, found)
    if problems:
        raise Invalid(f"The {kind} does not hold as it is written.", fields=problems)
    _require_secret(actor, thing, found, before=before)
    _require_reach(actor, thing, before=before)
    thing.save()
    for name, rows in many.items():
        getattr(thing, name).set(rows)
    differences = differences_of(before, _told(thing, found))
    if is_new or differences:
        data = {"kind": kind, "key": getattr(thing, found.key), "is_new": is_new, "differences": differences}
        owner = thing if isinstance(thing, Tenant) else tenant
        audit.record(Tag.ESTATE_CHANGED, subject=thing, actor=actor, at=at, data=data, tenant=owner)
    return Saved(thing=thing, is_new=is_new, differences=differences)


def _tenant(actor: Actor, tenant_id: int | None) -> Tenant:
    rows = access.visible(sight_of(actor), Tenant.objects.all())
    tenant = rows.select_for_update(of=("self",)).filter(pk=tenant_id or 0).first()
    if tenant is None:
        raise NotFound("There is no such tenant.")
    return tenant


def _find(
    actor: Actor, found: EstateKind, *, kind: str, answers: Mapping[str, Any], tenant: Tenant | None
) -> tuple[Any, bool]:
    """Return the thing named, locked, or a new one. Tenants and clusters are the platform's to make."""
    key = answers.get(found.key)
    if not isinstance(key, str) or not key.strip():
        raise Invalid(f"A {kind} needs its {found.key}.", fields={found.key: ["This names it; it cannot be empty."]})
    named: dict[str, Any] = {found.key: key}
    if tenant is not None:
        named["tenant"] = tenant
    thing = found.model._default_manager.select_for_update(of=("self",)).filter(**named).first()
    if isinstance(thing, Tenant) and access.visible(sight_of(actor), Tenant.objects.filter(pk=thing.pk)).exists():
        access.require(actor, Ability.ESTATE_EDIT, thing)
    else:
        access.require(actor, Ability.ESTATE_EDIT, tenant)
    return (found.model(**named), True) if thing is None else (thing, False)


def _assign(
    actor: Actor, thing: Any, found: EstateKind, *, answers: Mapping[str, Any], tenant: Tenant | None, at: datetime
) -> dict[str, list[Any]]:
    """Set what is said; return what is said of many, which can only be set once the thing is saved."""
    problems: dict[str, list[str]] = {}
    for name in found.plain:
        if name in answers:
            field_ = thing._meta.get_field(name)
            if not isinstance(field_, models.JSONField) and not _is_single(field_, answers[name]):
                problems[name] = ["Write a single value here."]
                continue
            try:
                setattr(thing, name, field_.to_python(answers[name]))
            except ValidationError as error:
                problems[name] = [str(one) for one in error.messages]
    for name, kind in found.one.items():
        if name in answers:
            key = answers[name]
            rows = _named(actor, kind, keys=[key] if key else [], tenant=tenant, at=at)
            setattr(thing, name, rows.get(key) if isinstance(key, str) else None)
            if key and (not isinstance(key, str) or key not in rows):
                problems[name] = [f"There is no {kind} called “{key}”."]
    many: dict[str, list[Any]] = {}
    for name, kind in found.many.items():
        if name in answers:
            keys = answers[name]
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                problems[name] = ["This is a list of names."]
                continue
            rows = _named(actor, kind, keys=keys, tenant=tenant, at=at)
            many[name] = list(rows.values())
            if missing := [key for key in keys if key not in rows]:
                problems[name] = [f"There is no {kind} called “{key}”." for key in missing]
    if problems:
        raise Invalid("Some answers cannot be read.", fields=problems)
    return many


def _is_single(kind: Any, value: Any) -> bool:
    """Refuse what would be kept as its own spelling: a list or a mapping anywhere, yes and no for a text."""
    is_word = isinstance(value, bool) and isinstance(kind, models.CharField)
    return not is_word and not isinstance(value, Mapping | list)


def _require_secret(actor: Actor, thing: Any, found: EstateKind, *, before: Mapping[str, Any]) -> None:
    """Let platform administrators alone say which secret goes where.

    References reach what every tenant and the platform keep, and the secret is offered to whatever address stands
    beside its reference: who could write either would be told any secret by a server of their own.
    """
    held = [name for name in found.references if getattr(thing, name)]
    written = [name for name in (*held, "url", "metrics_url") if name in found.fields]
    if not held or all(before.get(name) == getattr(thing, name) for name in written):
        return
    if not access.can(actor, Ability.ESTATE_EDIT, None):
        raise Forbidden("Only a platform administrator says which secret is sent to which address.")


def _require_reach(actor: Actor, thing: Any, *, before: Mapping[str, Any]) -> None:
    """Let platform administrators alone say what an environment may bring to a whole cluster, and to which one.

    A cluster-scoped object concerns every tenant of its cluster. Whoever administers one tenant may give up what the
    environment was allowed, never add to it or carry it to another cluster.
    """
    if not isinstance(thing, Environment) or not thing.cluster_scoped_kinds:
        return
    is_there = before.get("cluster") == thing.cluster.slug
    if is_there and set(thing.cluster_scoped_kinds) <= set(before["cluster_scoped_kinds"]):
        return
    if not access.can(actor, Ability.ESTATE_EDIT, None):
        raise Forbidden("Only a platform administrator says which cluster-scoped kinds an environment may bring.")


def _named(actor: Actor, kind: str, *, keys: list[Any], tenant: Tenant | None, at: datetime) -> dict[str, Any]:
    """Find what is named, among what is of the tenant or what the person may know of."""
    wanted = [key for key in keys if isinstance(key, str)]
    sight = sight_of(actor)
    if kind == "person":
        people = User.objects.filter(username__in=wanted, is_system=False)
        if tenant is not None and not sight.sees_everything:
            book = access.holder_book(tenant_ids=[tenant.pk], environment_ids=[], at=at)
            people = people.filter(pk__in=book.people)
        return {one.username: one for one in people}
    found = KINDS[kind]
    rows = found.model._default_manager.filter(**{f"{found.key}__in": wanted})
    rows = rows.filter(tenant=tenant) if found.is_of_tenant else access.visible(sight, rows)
    return {getattr(one, found.key): one for one in rows}


def _problems(thing: Any, found: EstateKind) -> dict[str, list[str]]:
    problems: dict[str, list[str]] = {}
    try:
        thing.full_clean()
    except ValidationError as error:
        problems = {
            name if name in found.fields else found.key: [str(one) for one in sentences]
            for name, sentences in error.message_dict.items()
        }
    for name in found.references:
        reference = getattr(thing, name)
        if reference and not str(reference).startswith(REFERENCE_SCHEMES):
            # The value itself may be a secret: it is not repeated.
            problems[name] = ["Write where the secret is, such as file:/run/secrets/name, env:NAME or vault:path#key."]
    kinds = getattr(thing, "cluster_scoped_kinds", [])
    if not isinstance(kinds, list) or not all(isinstance(one, str) for one in kinds):
        problems["cluster_scoped_kinds"] = ["This is a list of kinds, such as StorageClass."]
    return problems


def _told(thing: Any, found: EstateKind) -> dict[str, Any]:
    """Return the thing as JSON values, others by their keys."""
    told: dict[str, Any] = {name: _plain(getattr(thing, name)) for name in found.plain}
    for name, kind in found.one.items():
        other = getattr(thing, name)
        told[name] = getattr(other, KINDS[kind].key if kind in KINDS else "username") if other else ""
    for name, kind in found.many.items():
        told[name] = sorted(getattr(one, KINDS[kind].key) for one in getattr(thing, name).all())
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:.4f}"
    return value.isoformat() if isinstance(value, time) else value
