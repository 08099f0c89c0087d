"""Windows and freezes: made, read with their next openings, edited with a reason, lifted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.actions.freezes import lift_freeze, open_freeze
from changecontrol.actions.windows import create_window, edit_window
from changecontrol.errors import Conflict, Forbidden, Invalid, NotFound
from changecontrol.forms.places import Places
from changecontrol.forms.windows import REPEAT_HINTS, FreezeForm, WindowEditForm, WindowForm, initial_of, rule_words
from changecontrol.models import Window
from changecontrol.queries import estate
from changecontrol.queries.calendar import affected_changes, affected_environments
from changecontrol.queries.windows import next_openings, scope_words, windows_of, zones_of
from changecontrol.rules.roles import Ability
from changecontrol.templatetags.times import clock_time, short_moment
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import span

OPENINGS = 10
FREEZE_FOR = timedelta(days=1)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def window_new(request: HttpRequest) -> HttpResponseBase:
    scope = scope_for(request)
    places = _places(scope, Ability.WINDOW_EDIT)
    start = timezone.localtime(clock.now()).replace(hour=2, minute=0, second=0, microsecond=0, tzinfo=None)
    initial = {"starts_local": start + timedelta(days=1), "days": ["TU", "TH"]}
    form = WindowForm(_sent(request), initial=initial, places=places, zones=_zones(scope), auto_id="%s")
    if request.method != "POST":
        return _window_form(request, form)
    if form.is_valid():
        try:
            made = create_window(
                actor=actor_of(request),
                tenant_id=form.tenant_id,
                content=form.content,
                reason=form.cleaned_data["reason"],
                at=clock.now(),
            )
        except Invalid as refusal:
            form.refuse(refusal, fields=form.action_fields)
        else:
            messages.success(request, f"The window “{made.name}” is in force.")
            return redirect("window", window_id=made.pk)
    return _window_form(request, form, status=422)


@page
@require_GET
def window(request: HttpRequest, window_id: int) -> HttpResponse:
    scope, at = scope_for(request), clock.now()
    found = _window(scope, window_id)
    environments = affected_environments(scope, found)
    openings = _openings(found, scope, at=at)
    context = {
        "window": found,
        "where": scope_words(found),
        "lede": _lede(found, openings, at=at),
        "facts": _facts(found),
        "may_edit": Ability.WINDOW_EDIT in access.abilities_for(scope, found),
        "openings": openings,
        "own_zone": str(timezone.get_current_timezone()),
        "environments": environments,
        "changes": affected_changes(scope, environments),
    }
    return render(request, "changecontrol/window.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def window_edit(request: HttpRequest, window_id: int) -> HttpResponseBase:
    """Edit with a reason. Whoever was faster is named, and the form starts from what is there now."""
    scope = scope_for(request)
    found = _window(scope, window_id)
    if Ability.WINDOW_EDIT not in access.abilities_for(scope, found):
        raise Forbidden(access.why_not(scope, Ability.WINDOW_EDIT))
    form = WindowEditForm(
        _sent(request),
        initial=initial_of(found),
        places=_places(scope, Ability.WINDOW_EDIT),
        zones=tuple(sorted({*_zones(scope), *([found.zone] if found.zone else [])})),
        auto_id="%s",
    )
    if request.method != "POST":
        return _window_form(request, form, window=found)
    if not form.is_valid():
        return _window_form(request, form, window=found, status=422)
    try:
        edit_window(
            actor=actor_of(request),
            window_id=found.pk,
            content=form.content,
            seen_version=form.cleaned_data["version"],
            reason=form.cleaned_data["reason"],
            at=clock.now(),
        )
    except Invalid as refusal:
        form.refuse(refusal, fields=form.action_fields)
        return _window_form(request, form, window=found, status=422)
    except Conflict as refusal:
        form.add_error(None, refusal.sentence)
        return _window_form(request, form, window=found, status=409)
    messages.success(request, "The window is changed from now on. Runs that are past stay judged as they were.")
    return redirect("window", window_id=found.pk)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def freeze_new(request: HttpRequest) -> HttpResponseBase:
    scope = scope_for(request)
    at = clock.now().replace(second=0, microsecond=0)
    initial = {"starts_at": at, "ends_at": at + FREEZE_FOR}
    form = FreezeForm(_sent(request), initial=initial, places=_places(scope, Ability.FREEZE_OPEN), auto_id="%s")
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            made = open_freeze(
                actor=actor_of(request),
                tenant_id=form.tenant_id,
                name=given["name"],
                reason=given["reason"],
                starts_at=given["starts_at"],
                ends_at=given["ends_at"],
                place=form.place,
                at=clock.now(),
            )
        except Invalid as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, f"“{made.name}” holds from {short_moment(made.starts_at)}.")
            return redirect("calendar")
    context = {"form": form, "own_zone": str(timezone.get_current_timezone())}
    return render(request, "changecontrol/freeze_form.html", context, status=422 if form.is_bound else 200)


@page
@require_POST
def freeze_lift(request: HttpRequest, freeze_id: int) -> HttpResponseBase:
    try:
        lifted = lift_freeze(
            actor=actor_of(request), freeze_id=freeze_id, reason=request.POST.get("reason", ""), at=clock.now()
        )
    except (Invalid, Conflict) as refusal:
        messages.error(request, refusal.sentence)
    else:
        messages.success(request, f"“{lifted.name}” is lifted. Changes it held start again in their own windows.")
    return redirect("calendar")


def _window(scope: Scope, window_id: int) -> Window:
    found = windows_of(scope).filter(pk=window_id).first()
    if found is None:
        raise NotFound("There is no such window.")
    return found


def _window_form(
    request: HttpRequest, form: WindowForm, *, window: Window | None = None, status: int = 200
) -> HttpResponse:
    context = {"form": form, "window": window, "repeat_hints": REPEAT_HINTS, "effect_hints": form.effect_hints}
    return render(request, "changecontrol/window_form.html", context, status=status)


def _places(scope: Scope, ability: Ability) -> Places:
    """Return what the person may decide on. Raises `Forbidden` where that is nothing."""
    tenants = tuple(
        one for one in estate.tenants_of(scope) if ability in scope.abilities(scope.roles_on_tenant(one.pk))
    )
    with_platform = ability in scope.abilities(scope.everywhere)
    if not tenants and not with_platform:
        raise Forbidden(access.why_not(scope, ability))
    keys = [one.pk for one in tenants]
    return Places(
        tenants=tenants,
        environments=tuple(estate.environments_of(scope).filter(tenant__in=keys)),
        clusters=tuple(estate.clusters_of(scope)),
        cohorts=tuple(estate.cohorts_of(scope).filter(tenant__in=keys)),
        with_platform=with_platform,
    )


def _zones(scope: Scope) -> tuple[str, ...]:
    return tuple(sorted({"UTC", str(timezone.get_current_timezone()), *zones_of(scope)}))


def _openings(found: Window, scope: Scope, *, at: datetime) -> list[dict[str, Any]]:
    """Return the next openings, zone by zone, each on its own clocks and on the reader's."""
    if not found.is_active:
        return []
    groups = next_openings(found, at=at, count=OPENINGS, zones=() if found.zone else zones_of(scope))
    rows: list[dict[str, Any]] = [
        {
            "zone": zone.rpartition("/")[2].replace("_", " "),
            "local": f"{short_moment(one.starts_at, zone)} to {clock_time(one.ends_at, zone)}",
            "own": f"{short_moment(one.starts_at)} to {clock_time(one.ends_at)}",
            "is_open": one.starts_at <= at,
            "starts_at": one.starts_at,
        }
        for zone, openings in groups.items()
        for one in openings
    ]
    return sorted(rows, key=lambda row: row["starts_at"])[:OPENINGS]


def _lede(found: Window, openings: list[dict[str, Any]], *, at: datetime) -> str:
    if not found.is_active:
        return "Switched off: it neither opens nor closes."
    if not openings:
        return "No opening is in sight."
    first = openings[0]
    verb = "Holds" if found.effect == "deny" else "Open"
    if first["is_open"]:
        return f"{verb} now: {first['local']}."
    opens = "holds" if found.effect == "deny" else "opens"
    return f"Next {opens} {first['local']}, in {span((first['starts_at'] - at).total_seconds())}."


def _facts(found: Window) -> list[dict[str, Any]]:
    zone = ZoneInfo(found.zone) if found.zone else None
    return [
        {"label": "Does", "value": "blackout: nothing may run" if found.effect == "deny" else "change window"},
        {"label": "Where", "value": scope_words(found)},
        {"label": "Repeats", "value": rule_words(found.rrule)},
        {"label": "First", "value": f"{found.starts_local:%Y-%m-%d %H:%M} local time"},
        {"label": "Lasts", "value": span(found.duration_seconds)},
        {"label": "On whose clocks", "value": str(zone) if zone else "each store's own"},
        *(
            [{"label": "Except on", "value": ", ".join(one[:16].replace("T", " ") for one in found.excluded_local)}]
            if found.excluded_local
            else []
        ),
        {"label": "Version", "value": str(found.version), "note": found.reason},
    ]


def _sent(request: HttpRequest) -> Any:
    """Return what a form is bound to: an empty POST is a form sent back empty, not one that was asked for."""
    return request.POST if request.method == "POST" else None
