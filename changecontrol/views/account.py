"""A person's own account: roles, zone, second factor, API tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from allauth.mfa.utils import is_mfa_enabled
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from changecontrol import clock
from changecontrol.access import Scope
from changecontrol.actions.profile import set_zone
from changecontrol.actions.tokens import create_token, revoke_token
from changecontrol.errors import Invalid
from changecontrol.forms.account import TokenForm, ZoneForm
from changecontrol.models import ApiToken, Environment, Tenant, User
from changecontrol.queries import estate
from changecontrol.rules.roles import Role
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import and_list, initials


@page
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponseBase:
    """Show the account; POST sets the zone in which times are shown."""
    if request.method != "POST":
        return _show(request)
    form = ZoneForm(request.POST)
    if not form.is_valid():
        return _show(request, zone_form=form, status=422)
    set_zone(actor=actor_of(request), zone=form.cleaned_data["zone"], at=clock.now())
    messages.success(request, "Times are shown in this zone from now on.")
    return redirect("account")


@page
@require_POST
def token_create(request: HttpRequest) -> HttpResponseBase:
    """Make a token and show its secret this once, in the answer itself: it is stored nowhere."""
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _show(request, token_form=form, status=422)
    at = clock.now()
    given = form.cleaned_data
    try:
        made = create_token(
            actor=actor_of(request),
            name=given["name"],
            scopes=given["scopes"],
            expires_at=at + timedelta(days=given["days"]),
            at=at,
        )
    except Invalid as refusal:
        for name, sentences in refusal.fields.items():
            for sentence in sentences:
                form.add_error(name if name in form.fields else None, sentence)
        return _show(request, token_form=form, status=422)
    return _show(request, secret=made.secret, secret_name=made.token.name)


@page
@require_POST
def token_revoke(request: HttpRequest, token_id: int) -> HttpResponseBase:
    """End a token at once."""
    token = revoke_token(actor=actor_of(request), token_id=token_id, at=clock.now())
    messages.success(request, f"The token “{token.name}” ends now.")
    return redirect("account")


def _show(
    request: HttpRequest,
    *,
    zone_form: ZoneForm | None = None,
    token_form: TokenForm | None = None,
    secret: str = "",
    secret_name: str = "",
    status: int = 200,
) -> HttpResponse:
    person = request.user
    assert isinstance(person, User)
    at = clock.now()
    context = {
        "person": person,
        "initials": initials(person),
        "roles": _roles(scope_for(request)),
        "has_second_factor": is_mfa_enabled(person),
        "zone_form": zone_form or ZoneForm(initial={"zone": person.zone}),
        "token_form": token_form or TokenForm(),
        "tokens": [_token(one, at=at) for one in person.api_tokens.all()],
        "secret": secret,
        "secret_name": secret_name,
        "form": token_form or zone_form,
    }
    return render(request, "changecontrol/account.html", context, status=status)


def _token(token: ApiToken, *, at: Any) -> dict[str, Any]:
    state = "revoked" if token.revoked_at else "active" if token.is_usable(at) else "expired"
    return {
        "id": token.pk,
        "name": token.name,
        "prefix": f"{token.prefix}…",
        "limits": ", ".join(token.scopes) or "all that you may do",
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "state": state,
        "is_active": state == "active",
    }


def _roles(scope: Scope) -> list[dict[str, str]]:
    """Return where the person holds which roles, in words."""
    tenants = {one.pk: one for one in estate.tenants_of(scope)}
    environments = {one.pk: one for one in estate.environments_of(scope)} if scope.environments else {}
    found = [{"label": "Everywhere", "value": _names(scope.everywhere)}] if scope.everywhere else []
    found += [_held(tenants.get(pk), roles) for pk, roles in scope.tenants.items()]
    found += [_held(environments.get(pk), roles) for pk, roles in scope.environments.items()]
    return [one for one in found if one["label"]]


def _held(where: Tenant | Environment | None, roles: frozenset[Role]) -> dict[str, str]:
    return {"label": str(where or ""), "value": _names(roles)}


def _names(roles: frozenset[Role]) -> str:
    return and_list([one.label for one in sorted(roles)])
