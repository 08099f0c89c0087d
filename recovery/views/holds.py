"""Legal holds, placed on a point or on everything of an environment, and lifted. A refusal comes back on that page."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from changecontrol import clock
from changecontrol.errors import Conflict, Invalid
from changecontrol.views.edge import STATUS, actor_of
from changecontrol.views.pages import page
from recovery.actions.holds import lift_hold, place_hold
from recovery.forms.holds import HoldForm
from recovery.models import LegalHold
from recovery.views.lookup import environment_or_404, hold_or_404, point_or_404
from recovery.views.places import show_environment
from recovery.views.points import show_point


@page
@require_POST
def hold_everything(request: HttpRequest, tenant: str, slug: str) -> HttpResponseBase:
    """Place a legal hold on everything of an environment."""
    found = environment_or_404(request, tenant=tenant, slug=slug)
    form = HoldForm(request.POST)
    if hold := _placed(request, form, environment_id=found.pk):
        messages.success(request, f"“{hold.name}” keeps every point of {found} until it is lifted.")
        return redirect("recovery-environment", tenant, slug)
    return show_environment(request, found, form=form, status=422)


@page
@require_POST
def hold_point(request: HttpRequest, point_id: int) -> HttpResponseBase:
    """Place a legal hold on one point."""
    found = point_or_404(request, point_id)
    form = HoldForm(request.POST)
    if hold := _placed(request, form, environment_id=found.environment_id, point_id=found.pk):
        messages.success(request, f"“{hold.name}” keeps {found.key} until it is lifted.")
        return redirect("point", found.pk)
    return show_point(request, found, form=form, status=422)


@page
@require_POST
def hold_lift(request: HttpRequest, hold_id: int) -> HttpResponseBase:
    found = hold_or_404(request, hold_id)
    try:
        lifted = lift_hold(
            actor=actor_of(request), hold_id=found.pk, reason=request.POST.get("reason", ""), at=clock.now()
        )
    except (Conflict, Invalid) as refusal:
        return _not_lifted(request, found, refusal)
    messages.success(request, f"“{lifted.name}” is lifted. What it kept goes by the policy from now on.")
    if found.point_id is not None:
        return redirect("point", found.point_id)
    return redirect("recovery-environment", found.environment.tenant.slug, found.environment.slug)


def _placed(
    request: HttpRequest, form: HoldForm, *, environment_id: int, point_id: int | None = None
) -> LegalHold | None:
    """Place the hold that a form asks for; None where it is refused, which the form then says."""
    if not form.is_valid():
        return None
    try:
        return place_hold(
            actor=actor_of(request),
            environment_id=environment_id,
            point_id=point_id,
            name=form.cleaned_data["name"],
            reason=form.cleaned_data["reason"],
            at=clock.now(),
        )
    except Invalid as refusal:
        form.refuse(refusal)
        return None


def _not_lifted(request: HttpRequest, hold: LegalHold, refusal: Conflict | Invalid) -> HttpResponse:
    status = STATUS[type(refusal)]
    if hold.point_id is not None:
        found = point_or_404(request, hold.point_id)
        return show_point(request, found, form=HoldForm(), refusal=refusal.sentence, status=status)
    place = environment_or_404(request, tenant=hold.environment.tenant.slug, slug=hold.environment.slug)
    return show_environment(request, place, form=HoldForm(), refusal=refusal.sentence, status=status)
