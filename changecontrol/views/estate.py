"""The estate: whose shops there are, what runs for them and where, and the forms that change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.actions.estate import KINDS, save_estate
from changecontrol.errors import Forbidden, Invalid, NotFound
from changecontrol.forms.estate import NOUNS, EstateForm
from changecontrol.models import Environment, Tenant, User
from changecontrol.queries import estate as queries
from changecontrol.queries import places
from changecontrol.queries.administration import people_known_to
from changecontrol.queries.estate import tier_of
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import counted

ADDED_BY_TENANT = ("environment", "cohort", "region", "store", "process", "source")


@page
@require_GET
def estate(request: HttpRequest) -> HttpResponse:
    scope, at = scope_for(request), clock.now()
    environments = list(queries.environments_of(scope))
    running = places.running_in(environments)
    locks = places.locks_on(scope, environments, at=at)
    cohorts = list(queries.cohorts_of(scope))
    regions = list(queries.regions_of(scope))
    tenants = list(queries.tenants_of(scope))
    stores = sum(one.store_count for one in regions)  # type: ignore[attr-defined]
    context = {
        "heading": f"{counted(stores, 'store')} of {counted(len(tenants), 'tenant')}",
        "lede": f"{counted(len(environments), 'environment')} serve {counted(len(cohorts), 'cohort')} in "
        f"{counted(len(regions), 'region')}.",
        "groups": _by_tenant(environments, running=running, locks=locks),
        "cohorts": cohorts,
        "regions": regions,
        "processes": list(queries.processes_of(scope)),
        "sources": list(queries.sources_of(scope)),
        "tenants": [{"tenant": one, "may_edit": _may(scope, one)} for one in tenants],
        "editable": {one.pk for one in tenants if _may(scope, one)},
        "additions": _additions(scope, tenants),
        "may_add_tenant": Ability.ESTATE_EDIT in scope.abilities(scope.everywhere),
    }
    return render(request, "changecontrol/estate.html", context)


@page
@require_GET
def stores(request: HttpRequest) -> HttpResponse:
    scope = scope_for(request)
    text = request.GET.get("q", "").replace("\x00", "")[:100]
    found, has_earlier, has_later = places.stores_page(
        scope, text=text, after=_key(request, "after"), before=_key(request, "before")
    )
    asked = f"{urlencode({'q': text})}&" if text else ""
    context = {
        "stores": found,
        "text": text,
        "newer_url": f"?{asked}before={found[0].pk}" if found and has_earlier else "",
        "older_url": f"?{asked}after={found[-1].pk}" if found and has_later else "",
        "editable": {one.tenant_id for one in found if _may(scope, one.tenant)},
    }
    return render(request, "changecontrol/estate_stores.html", context)


@page
@require_GET
def environment(request: HttpRequest, tenant: str, slug: str) -> HttpResponse:
    scope, at = scope_for(request), clock.now()
    found = places.environment_named(scope, tenant=tenant, slug=slug)
    if found is None:
        raise NotFound("There is no such environment.")
    running = places.running_in([found]).get(found.pk)
    count, share = places.stores_in(found)
    tier = tier_of(found)
    lock = places.locks_on(scope, [found], at=at).get(found.pk)
    context = {
        "environment": found,
        "running": running,
        "lock": lock,
        "lock_url": reverse("run", args=[lock.run_id]) if lock else "",
        "may_edit": _may(scope, found.tenant),
        "lede": f"{found.get_stage_display()} of {found.tenant}, "
        + (f"tier {tier}" if tier is not None else "no business process named")
        + f", {counted(count, 'store')}.",
        "store_count": count,
        "share": float(share) / 100,
        "pairs": _environment_pairs(found),
        "processes": list(found.processes.all()),
        "cohorts": list(found.cohorts.all()),
        "changes": places.changes_in(scope, found),
    }
    return render(request, "changecontrol/environment.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def estate_new(request: HttpRequest, kind: str) -> HttpResponseBase:
    scope = scope_for(request)
    if kind not in KINDS:
        raise NotFound("The estate has no such kind.")
    tenants = _tenants_to_edit(scope, kind)
    chosen = request.POST.get("tenant") or request.GET.get("tenant", "")
    tenant = next((one for one in tenants if str(one.pk) == chosen), tenants[0] if tenants else None)
    # What can be named is of one tenant: the choice is made before the form, so that no list mixes them.
    form = EstateForm(
        _sent(request),
        kind=kind,
        choices=_choices(scope, kind, tenant),
        tenants=[tenant] if tenant else [],
        locked=_locked(scope),
    )
    return _save(request, form, kind=kind, tenants=tenants, tenant=tenant)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def estate_edit(request: HttpRequest, kind: str, pk: int) -> HttpResponseBase:
    scope = scope_for(request)
    thing = _thing(scope, kind, pk)
    tenant = thing if isinstance(thing, Tenant) else getattr(thing, "tenant", None)
    if not _may(scope, tenant):
        raise Forbidden(access.why_not(scope, Ability.ESTATE_EDIT))
    form = EstateForm(
        _sent(request), kind=kind, choices=_choices(scope, kind, tenant), thing=thing, locked=_locked(scope)
    )
    return _save(request, form, kind=kind, thing=thing, tenant=tenant)


def _save(
    request: HttpRequest,
    form: EstateForm,
    *,
    kind: str,
    thing: Any = None,
    tenants: Iterable[Tenant] = (),
    tenant: Tenant | None = None,
) -> HttpResponseBase:
    back = reverse("administration") if kind == "cluster" else reverse("estate")
    if isinstance(thing, Environment):
        back = reverse("environment", args=[thing.tenant.slug, thing.slug])
    status = 422 if form.is_bound else 200
    if request.method == "POST" and form.is_valid():
        try:
            saved = save_estate(
                actor=actor_of(request), kind=kind, answers=form.answers(), tenant_id=form.tenant_id, at=clock.now()
            )
        except Invalid as refusal:
            form.refuse(refusal)
        except Forbidden as refusal:
            form.add_error(None, refusal.sentence)
            status = 403
        else:
            changed = counted(len(saved.differences), "answer")
            messages.success(request, f"“{saved.thing}” is {'added' if saved.is_new else f'saved, {changed} changed'}.")
            return redirect(back)
    context = {
        "form": form,
        "noun": NOUNS[kind],
        "thing": thing,
        "key": getattr(thing, KINDS[kind].key) if thing else "",
        "back": back,
        "others": [one for one in tenants if one != tenant] if thing is None else [],
        "tenant": tenant,
        "kind": kind,
    }
    return render(request, "changecontrol/estate_form.html", context, status=status)


def _by_tenant(environments: Iterable[Environment], *, running: Any, locks: Any) -> list[dict[str, Any]]:
    groups: dict[int, dict[str, Any]] = {}
    for one in environments:
        group = groups.setdefault(one.tenant_id, {"tenant": one.tenant, "rows": []})
        group["rows"].append(
            {
                "environment": one,
                "tier": tier_of(one),
                "running": running.get(one.pk),
                "lock": locks.get(one.pk),
                "cohorts": len(one.cohorts.all()),
            }
        )
    return list(groups.values())


def _environment_pairs(found: Environment) -> list[dict[str, Any]]:
    pairs = [
        {"label": "Cluster", "value": found.cluster.name, "note": found.cluster.slug},
        {"label": "Namespace", "value": found.namespace, "is_code": True},
        {"label": "Git source", "value": found.source.name, "note": found.source.url},
        {"label": "Path", "value": found.path, "is_code": True},
        {"label": "Ref", "value": found.ref, "is_code": True, "note": "moved by successful changes alone"},
        {"label": "Database", "value": found.database, "is_code": True},
        {"label": "Filestore", "value": found.filestore, "is_code": True},
        {"label": "Cluster-scoped kinds", "value": ", ".join(found.cluster_scoped_kinds)},
    ]
    return [one for one in pairs if one["value"]]


def _additions(scope: Scope, tenants: Iterable[Tenant]) -> list[dict[str, str]]:
    if not any(_may(scope, one) for one in tenants):
        return []
    return [{"label": NOUNS[kind], "url": reverse("estate-new", args=[kind])} for kind in ADDED_BY_TENANT]


def _may(scope: Scope, tenant: Tenant | None) -> bool:
    return Ability.ESTATE_EDIT in access.abilities_for(scope, tenant)


def _locked(scope: Scope) -> tuple[str, ...]:
    """Return the answers that are the platform's to give; the form shows them and does not ask."""
    return () if _may(scope, None) else ("cluster_scoped_kinds",)


def _tenants_to_edit(scope: Scope, kind: str) -> list[Tenant]:
    """Return the tenants to whom one may add a thing. Raises `Forbidden` where that is nothing."""
    if not KINDS[kind].is_of_tenant:
        if not _may(scope, None):
            raise Forbidden(access.why_not(scope, Ability.ESTATE_EDIT))
        return []
    tenants = [one for one in queries.tenants_of(scope) if _may(scope, one)]
    if not tenants:
        raise Forbidden(access.why_not(scope, Ability.ESTATE_EDIT))
    return tenants


def _thing(scope: Scope, kind: str, pk: int) -> Any:
    found = KINDS.get(kind)
    thing: Model | None = None
    if found is not None:
        rows = found.model._default_manager.all()
        rows = rows.select_related("tenant") if found.is_of_tenant else rows
        thing = access.visible(scope, rows).filter(pk=pk).first()
    if thing is None:
        raise NotFound("There is no such thing in the estate.")
    return thing


def _choices(scope: Scope, kind: str, tenant: Tenant | None) -> dict[str, list[tuple[str, str]]]:
    """Return what a thing of this kind may name: of its own tenant, or what the platform shares."""
    found = KINDS[kind]
    named = {**found.one, **found.many}
    choices: dict[str, list[tuple[str, str]]] = {}
    for name, other in named.items():
        if other == "person":
            people: Iterable[User] = people_known_to(scope, tenant)
            choices[name] = [(one.username, str(one)) for one in people]
            continue
        rows = access.visible(scope, KINDS[other].model._default_manager.all())
        if KINDS[other].is_of_tenant:
            rows = rows.filter(tenant=tenant)
        key = KINDS[other].key
        choices[name] = [(getattr(one, key), str(one)) for one in rows]
    return choices


def _key(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _sent(request: HttpRequest) -> Any:
    """Return what a form is bound to: an empty POST is a form sent back empty, not one that was asked for."""
    return request.POST if request.method == "POST" else None
