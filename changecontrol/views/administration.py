"""Administration: policies with their versions, who holds which role where, people, clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.actions.access import grant_role, revoke_role
from changecontrol.actions.people import create_person
from changecontrol.actions.policies import publish_policy
from changecontrol.errors import Conflict, Forbidden, Invalid, NotFound
from changecontrol.forms.administration import GrantForm, NewPolicyForm, PersonForm, PolicyForm
from changecontrol.models import ApprovalPolicy, Tenant
from changecontrol.queries import administration as queries
from changecontrol.queries.estate import clusters_of, environments_of
from changecontrol.rules.roles import Ability, Role
from changecontrol.views.edge import STATUS, actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import and_list, counted, words

LATER_ONLY = "An edit is the next version, and touches only changes that are submitted later."


@page
@require_GET
def administration(request: HttpRequest) -> HttpResponse:
    scope = scope_for(request)
    held = scope.abilities(scope.roles)
    if not held & {Ability.POLICY_EDIT, Ability.ACCESS_VIEW, Ability.ESTATE_EDIT}:
        raise Forbidden(access.why_not(scope, Ability.ACCESS_VIEW))
    may_everywhere = scope.abilities(scope.everywhere)
    tenants = queries.tenants_with(scope, Ability.ACCESS_VIEW)
    context = {
        "lede": LATER_ONLY,
        "policies": [
            {"policy": one, "match": match_words(one.content), "stages": stage_words(one.content)}
            for one in queries.policies_of(scope)
        ],
        "may_publish": Ability.POLICY_EDIT in held,
        "tenants": [{"tenant": one, "grants": _grant_counts(rows)} for one, rows in _by_tenant(tenants)],
        "clusters": list(clusters_of(scope)),
        "may_edit_clusters": Ability.ESTATE_EDIT in may_everywhere,
    }
    return render(request, "changecontrol/administration.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def policy(request: HttpRequest, policy_id: int) -> HttpResponseBase:
    """One policy with all its versions, and the form that publishes the next."""
    scope = scope_for(request)
    versions = queries.policy_versions(scope, policy_id=policy_id)
    if not versions:
        raise NotFound("There is no such policy.")
    latest = versions[0]
    may_publish = Ability.POLICY_EDIT in access.abilities_for(scope, latest)
    form = PolicyForm(_sent(request), content=latest.content, name=latest.name, version=latest.version)
    status = 200
    if request.method == "POST":
        if not may_publish:
            raise Forbidden(access.why_not(scope, Ability.POLICY_EDIT))
        published, status = _publish(request, form, tenant_id=latest.tenant_id, slug=latest.slug)
        if published is not None:
            return redirect("policy", policy_id=published.pk)
    context = {
        "policy": latest,
        "later_only": LATER_ONLY,
        "form": form,
        "may_publish": may_publish,
        "versions": [
            {"policy": one, "match": match_words(one.content), "stages": stage_words(one.content)} for one in versions
        ],
    }
    return render(request, "changecontrol/policy.html", context, status=status)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def policy_new(request: HttpRequest) -> HttpResponseBase:
    scope = scope_for(request)
    tenants = queries.tenants_with(scope, Ability.POLICY_EDIT)
    with_platform = Ability.POLICY_EDIT in scope.abilities(scope.everywhere)
    if not tenants and not with_platform:
        raise Forbidden(access.why_not(scope, Ability.POLICY_EDIT))
    form = NewPolicyForm(_sent(request), tenants=tenants, with_platform=with_platform)
    status = 200
    if request.method == "POST":
        if form.is_valid():
            published, status = _publish(request, form, tenant_id=form.tenant_id, slug=form.cleaned_data["slug"])
            if published is not None:
                return redirect("policy", policy_id=published.pk)
        else:
            status = 422
    context = {"form": form, "later_only": LATER_ONLY, "is_new": True, "may_publish": True}
    return render(request, "changecontrol/policy.html", context, status=status)


@page
@require_GET
def people(request: HttpRequest, tenant: str) -> HttpResponse:
    """Who holds which role on a tenant and its environments."""
    return _people(request, _tenant(scope_for(request), tenant))


@page
@require_POST
def role_grant(request: HttpRequest, tenant: str) -> HttpResponseBase:
    scope = scope_for(request)
    found = _tenant(scope, tenant)
    form = _grant_form(scope, found, request.POST)
    if not form.is_valid():
        return _people(request, found, grant_form=form, status=422)
    given = form.cleaned_data
    try:
        grant_role(
            actor=actor_of(request),
            user_id=int(given["person"]),
            role=given["role"],
            tenant_id=found.pk,
            environment_id=int(given["environment"]) if given["environment"] else None,
            expires_at=given["expires_at"],
            at=clock.now(),
        )
    except Invalid as refusal:
        form.refuse(refusal)
        return _people(request, found, grant_form=form, status=422)
    except Forbidden as refusal:
        form.add_error(None, refusal.sentence)
        return _people(request, found, grant_form=form, status=403)
    messages.success(request, f"The role {Role(given['role']).label.lower()} is granted.")
    return redirect("people", tenant=found.slug)


@page
@require_POST
def role_revoke(request: HttpRequest, tenant: str) -> HttpResponseBase:
    found = _tenant(scope_for(request), tenant)
    try:
        revoke_role(
            actor=actor_of(request),
            user_id=_number(request, "person") or 0,
            role=request.POST.get("role", ""),
            tenant_id=found.pk,
            environment_id=_number(request, "environment"),
            at=clock.now(),
        )
    except (Forbidden, Invalid, NotFound, Conflict) as refusal:
        messages.error(request, refusal.sentence)
        return _people(request, found, status=STATUS[type(refusal)])
    messages.success(request, "The role is revoked.")
    return redirect("people", tenant=found.slug)


@page
@require_POST
def person_new(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """Add a person and show their first password this once, in the answer itself: it is stored nowhere."""
    found = _tenant(scope_for(request), tenant)
    form = PersonForm(request.POST)
    if not form.is_valid():
        return _people(request, found, person_form=form, status=422)
    given = form.cleaned_data
    try:
        made = create_person(
            actor=actor_of(request),
            tenant_id=found.pk,
            username=given["username"],
            display_name=given["display_name"],
            email=given["email"],
            role=given["role"],
            at=clock.now(),
        )
    except Invalid as refusal:
        form.refuse(refusal)
        return _people(request, found, person_form=form, status=422)
    except Forbidden as refusal:
        form.add_error(None, refusal.sentence)
        return _people(request, found, person_form=form, status=403)
    return _people(request, found, made={"user": made.user, "password": made.password}, status=201)


def match_words(content: Mapping[str, Any]) -> str:
    """Say what a policy is for."""
    match = content.get("match", {})
    parts = [
        and_list([words(one) for one in match.get("environment_stages", ())]),
        f"tier {and_list(match['tiers'])}" if match.get("tiers") else "",
        and_list([f"{words(one)} changes" for one in match.get("types", ())]),
        f"{and_list([words(one) for one in match['risks']])} risk" if match.get("risks") else "",
    ]
    return ", ".join(part for part in parts if part) or "everything"


def stage_words(content: Mapping[str, Any]) -> list[dict[str, str]]:
    """Say stage by stage who must agree."""
    return [
        {
            "name": stage["name"],
            "who": and_list([counted(one["quorum"], words(one["role"])) for one in stage["requirements"]]),
        }
        for stage in content.get("stages", ())
    ]


def _publish(
    request: HttpRequest, form: PolicyForm, *, tenant_id: int | None, slug: str
) -> tuple[ApprovalPolicy | None, int]:
    if not form.is_valid():
        return None, 422
    try:
        published = publish_policy(
            actor=actor_of(request),
            tenant_id=tenant_id,
            slug=slug,
            name=form.cleaned_data["name"],
            content=form.policy(),
            seen_version=form.cleaned_data["version"],
            at=clock.now(),
        )
    except Invalid as refusal:
        form.refuse(refusal)
        return None, 422
    except Conflict as refusal:
        form.add_error(None, refusal.sentence)
        return None, 409
    messages.success(request, f"Version {published.version} is in force for changes submitted from now on.")
    return published, 302


def _people(
    request: HttpRequest,
    tenant: Tenant,
    *,
    grant_form: GrantForm | None = None,
    person_form: PersonForm | None = None,
    made: dict[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    scope, at = scope_for(request), clock.now()
    may_grant = Ability.ACCESS_GRANT in access.abilities_for(scope, tenant)
    rows = queries.grants_on([tenant])
    context = {
        "tenant": tenant,
        "rows": [{"grant": one, "is_over": one.is_over(at), "is_own": one.user.pk == scope.person_id} for one in rows],
        "lede": f"{counted(len({one.user.pk for one in rows}), 'person', 'people')} with "
        f"{counted(len(rows), 'role')}. Nobody changes their own roles.",
        "may_grant": may_grant,
        "grant_form": (grant_form or _grant_form(scope, tenant)) if may_grant else None,
        "person_form": (person_form or PersonForm()) if may_grant else None,
        "is_refused": bool((grant_form and grant_form.errors) or (person_form and person_form.errors)),
        "refused_form": grant_form if grant_form and grant_form.errors else person_form,
        "made": made,
    }
    return render(request, "changecontrol/administration_people.html", context, status=status)


def _grant_form(scope: Scope, tenant: Tenant, data: Any = None) -> GrantForm:
    places = environments_of(scope).filter(tenant=tenant).values_list("pk", "name")
    return GrantForm(data, people=queries.people_known_to(scope, tenant), environments=list(places), tenant=tenant)


def _tenant(scope: Scope, slug: str) -> Tenant:
    """Return a tenant in sight whose roles one may read. Raises `NotFound` and `Forbidden`."""
    found = access.visible(scope, Tenant.objects.filter(slug=slug)).first()
    if found is None:
        raise NotFound("There is no such tenant.")
    if Ability.ACCESS_VIEW not in access.abilities_for(scope, found):
        raise Forbidden(access.why_not(scope, Ability.ACCESS_VIEW))
    return found


def _by_tenant(tenants: list[Tenant]) -> list[tuple[Tenant, list[queries.GrantRow]]]:
    rows = queries.grants_on(tenants)
    return [(one, [row for row in rows if row.tenant.pk == one.pk]) for one in tenants]


def _grant_counts(rows: list[queries.GrantRow]) -> dict[str, Any]:
    names = list(dict.fromkeys(str(row.user) for row in rows))
    return {
        "people": counted(len(names), "person", "people"),
        "roles": counted(len(rows), "role"),
        "names": and_list(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else ""),
    }


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.POST.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _sent(request: HttpRequest) -> Any:
    """Return what a form is bound to: an empty POST is a form sent back empty, not one that was asked for."""
    return request.POST if request.method == "POST" else None
