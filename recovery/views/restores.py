"""Restores: the list, asking for one step by step, one under way, and ending it before it is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import STATUS, actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import counted
from recovery.actions.restores import (
    ABILITY_FOR,
    ask_incident_restore,
    ask_restore,
    cancel_restore,
    file_restore_change,
)
from recovery.forms.moments import wall_words
from recovery.forms.restores import (
    LATEST,
    PURPOSE_HINTS,
    TIME,
    WHEN_HINTS,
    IncidentForm,
    RestoreForm,
    RestoreTimeForm,
)
from recovery.lifecycles.restore import ACTIVE
from recovery.models import Restore
from recovery.models.restore import RestorePurpose
from recovery.queries.paging import page_by_key
from recovery.queries.points import coverage_of, objectives_of, restores_of
from recovery.queries.progress import progress_of
from recovery.queries.restores import environments_to, preview_of
from recovery.rules.coverage import Coverage
from recovery.views import restore_facts
from recovery.views.choosing import Question, chosen_environment
from recovery.views.live import live_answer
from recovery.views.lookup import key_of
from recovery.views.step_facts import announced, progress_facts, time_split, zones_for


@page
@require_GET
def restores(request: HttpRequest) -> HttpResponse:
    """Every restore in sight: what is under way first, then what ended, page by page."""
    scope = scope_for(request)
    before, after = key_of(request, "before"), key_of(request, "after")
    is_first = before is None and after is None
    rows = restores_of(scope)
    active = list(rows.filter(state__in=sorted(ACTIVE))) if is_first else []
    ended = page_by_key(rows.exclude(state__in=sorted(ACTIVE)), before=before, after=after)
    context = {
        "active": restore_facts.rows_of(active),
        "ended": restore_facts.rows_of(ended.rows),
        "heading": f"{counted(len(active), 'restore')} under way" if active else "Restores",
        "lede": "Each goes into a new database and a new filestore, beside what runs.",
        "newer_url": f"{reverse('restores')}?after={ended.newer}" if ended.newer else "",
        "older_url": f"{reverse('restores')}?before={ended.older}" if ended.older else "",
        "is_first": is_first,
        "may_ask": bool(_purposes_anywhere(scope)),
        "why_not": access.why_not(scope, Ability.RECOVERY_RESTORE),
    }
    return render(request, "recovery/restores.html", context)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the address of the wizard says so far; None for what it does not say yet."""

    environment: Environment
    purposes: tuple[RestorePurpose, ...]
    coverage: Coverage


@page
@require_http_methods(["GET", "HEAD", "POST"])
def restore_new(request: HttpRequest) -> HttpResponseBase:
    """Ask for a restore: which environment, what for and to which time, then name and reason. A GET changes nothing."""
    scope = scope_for(request)
    if not _purposes_anywhere(scope):
        raise Forbidden(access.why_not(scope, Ability.RECOVERY_RESTORE))
    question = Question(
        heading="New restore",
        lede="Step 1 of 3: which environment. Each restore goes into a new database, beside what runs.",
        parent={"label": "Restores", "url": reverse("restores")},
        empty="No environment that you may restore has a backup policy yet.",
    )
    environment = chosen_environment(request, question, offered=environments_to(scope, *ABILITY_FOR.values()))
    if isinstance(environment, HttpResponse):
        return environment
    held = access.abilities_for(scope, environment)
    purposes = tuple(one for one, ability in ABILITY_FOR.items() if ability in held)
    asked = _Asked(environment, purposes, coverage_of(environment))
    return _ask(request, asked) if request.method == "POST" else _choose_time(request, asked)


def _choose_time(request: HttpRequest, asked: _Asked) -> HttpResponse:
    """Show which times there are; once one is chosen, what restoring it would mean."""
    is_chosen = "when" in request.GET
    form = RestoreTimeForm(
        request.GET if is_chosen else None, purposes=asked.purposes, zones=zones_for(scope_for(request)), auto_id="%s"
    )
    if not is_chosen:
        return _time_page(request, asked, form)
    if not form.is_valid():
        return _time_page(request, asked, form, status=422)
    target_at = form.target_at
    if form.cleaned_data["when"] == LATEST and asked.coverage.spans:
        target_at = asked.coverage.spans[-1].end
    refusal = asked.coverage.refusal(target_at) if target_at else "There is no recovery point to go back to."
    if target_at is None or refusal:
        return _time_page(request, asked, form, refused=target_at, refusal=refusal, status=409)
    purpose = RestorePurpose(form.cleaned_data["purpose"])
    return _review(request, asked, _last_form(request, asked, purpose, target_at), purpose, target_at)


def _ask(request: HttpRequest, asked: _Asked) -> HttpResponseBase:
    """Ask for what was shown. What has changed since comes back with its sentence, and nothing is asked."""
    purpose = next((one for one in asked.purposes if one == request.POST.get("purpose")), None)
    if purpose is None:
        raise Forbidden(access.why_not(scope_for(request), Ability.RECOVERY_RESTORE))
    form = _last_form(request, asked, purpose)
    is_valid = form.is_valid()
    target_at = form.cleaned_data.get("target_at")
    if target_at is None:
        return _time_page(request, asked, _time_form(request, asked), status=422)
    if not is_valid:
        return _review(request, asked, form, purpose, target_at, status=422)
    words: dict[str, Any] = {
        "actor": actor_of(request),
        "environment_id": asked.environment.pk,
        "target_at": target_at,
        "target_database": form.cleaned_data["target_database"],
        "reason": form.cleaned_data["reason"],
        "at": clock.now(),
    }
    try:
        if purpose == RestorePurpose.PRODUCTION:
            change = file_restore_change(**words)
            messages.success(request, f"Kept as {change.number}. Its commit and the way back are still to be answered.")
            return redirect("change-edit", number=change.number)
        if isinstance(form, IncidentForm) and form.declared_at is not None:
            made = ask_incident_restore(**words, declared_at=form.declared_at)
        else:
            made = ask_restore(**words)
    except Invalid as refusal:
        form.refuse(refusal)
        return _review(request, asked, form, purpose, target_at, status=422)
    except Conflict as refusal:
        form.add_error(None, refusal.sentence)
        return _review(request, asked, form, purpose, target_at, status=409)
    messages.success(request, "Asked for. It begins within 10 s.")
    return redirect("restore", restore_id=made.pk)


def _last_form(
    request: HttpRequest, asked: _Asked, purpose: RestorePurpose, target_at: datetime | None = None
) -> RestoreForm:
    sent = request.POST if request.method == "POST" else None
    initial: dict[str, Any] = {}
    if target_at is not None:
        initial = {"target_at": target_at.isoformat(), "target_database": _suggested(asked.environment, target_at)}
    if purpose == RestorePurpose.INCIDENT:
        return IncidentForm(sent, initial=initial, zones=zones_for(scope_for(request)), auto_id="%s")
    return RestoreForm(sent, initial=initial, auto_id="%s")


def _suggested(environment: Environment, target_at: datetime) -> str:
    """Return a name that tells whose data it is and from when, for the person to keep or change."""
    base = environment.database or f"{environment.tenant.slug}_{environment.slug}"
    safe = "".join(one if one.isascii() and (one.isalnum() or one == "_") else "_" for one in base.lower())
    return f"{safe[:40]}_{timezone.localtime(target_at):%Y%m%d_%H%M}"


def _time_form(request: HttpRequest, asked: _Asked) -> RestoreTimeForm:
    return RestoreTimeForm(purposes=asked.purposes, zones=zones_for(scope_for(request)), auto_id="%s")


def _time_page(
    request: HttpRequest,
    asked: _Asked,
    form: RestoreTimeForm,
    *,
    refused: datetime | None = None,
    refusal: str = "",
    status: int = 200,
) -> HttpResponse:
    safe = asked.coverage.last_safe_before(refused) if refused else None
    context = {
        "form": form,
        "environment": asked.environment,
        "coverage": restore_facts.coverage_facts(asked.coverage, url_of=lambda at: _url(asked, form, at)),
        "refusal": refusal,
        "safe_at": safe,
        "safe_url": _url(asked, form, safe) if safe and refused else "",
        "purpose_hints": PURPOSE_HINTS,
        "when_hints": WHEN_HINTS,
        "is_one_purpose": len(asked.purposes) == 1,
        "own_zone": timezone.get_current_timezone_name(),
    }
    return render(request, "recovery/restore_when.html", context, status=status)


def _url(asked: _Asked, form: RestoreTimeForm, at: datetime) -> str:
    """Return the address of the wizard with this time chosen, in the zone in which the person thinks."""
    given = form.cleaned_data if form.is_bound else {}
    zone = given.get("zone") or timezone.get_current_timezone_name()
    purpose = given.get("purpose") or str(asked.purposes[0])
    chosen = {"environment": asked.environment.pk, "purpose": purpose, "when": TIME, **wall_words(at, zone)}
    return f"{reverse('restore-new')}?{urlencode(chosen)}"


def _review(
    request: HttpRequest,
    asked: _Asked,
    form: RestoreForm,
    purpose: RestorePurpose,
    target_at: datetime,
    *,
    status: int = 200,
) -> HttpResponse:
    preview = preview_of(asked.environment, coverage=asked.coverage, target_at=target_at, at=clock.now())
    context = {
        "form": form,
        "environment": asked.environment,
        "purpose": purpose,
        "is_incident": purpose == RestorePurpose.INCIDENT,
        "words": restore_facts.ASKING[purpose],
        "preview": restore_facts.preview_facts(preview, purpose=purpose) if preview else None,
        "back_url": f"{reverse('restore-new')}?{urlencode({'environment': asked.environment.pk})}",
    }
    return render(request, "recovery/restore_review.html", context, status=status)


@page
@require_GET
def restore(request: HttpRequest, restore_id: int) -> HttpResponse:
    """One restore. Script asks for the part that lives with what it shows; once it has ended the page loads anew."""
    found = _restore_or_404(request, restore_id)
    if request.headers.get("HX-Request") and request.GET.get("part") == "live":
        return live_answer(request, _facts(request, found), template="recovery/restore.html")
    return render(request, "recovery/restore.html", _facts(request, found))


@page
@require_POST
def restore_cancel(request: HttpRequest, restore_id: int) -> HttpResponseBase:
    found = _restore_or_404(request, restore_id)
    try:
        cancel_restore(
            actor=actor_of(request), restore_id=found.pk, reason=request.POST.get("reason", ""), at=clock.now()
        )
    except (Forbidden, IllegalTransition, Conflict, Invalid) as refusal:
        facts = _facts(request, _restore_or_404(request, restore_id)) | {"refusal": refusal.sentence}
        return render(request, "recovery/restore.html", facts, status=STATUS[type(refusal)])
    messages.success(request, "Canceled. What it had begun is cleared away.")
    return redirect("restore", restore_id=found.pk)


def _facts(request: HttpRequest, found: Restore) -> dict[str, Any]:
    at = clock.now()
    objectives = objectives_of(found.environment)
    is_active = found.state in ACTIVE
    progress = progress_of(found, at=at) if is_active else None
    scope, ability = scope_for(request), ABILITY_FOR[RestorePurpose(found.purpose)]
    may_cancel = ability in access.abilities_for(scope, found.environment)
    return {
        "restore": found,
        "environment": found.environment,
        "is_active": is_active,
        "heading": restore_facts.HEADINGS[RestorePurpose(found.purpose)],
        "at": at,
        "version": restore_facts.version_of(found, progress, at=at),
        "steps": restore_facts.restore_steps(found),
        "progress": progress_facts(progress, at=at),
        "split": time_split(found, target=objectives.rto, at=at),
        "rto_of": objectives.rto_of,
        "expected": restore_facts.expectation_words(restore_facts.expected_of(found)),
        "result": restore_facts.result_of(found, objectives, at=at),
        "pairs": restore_facts.restore_pairs(found),
        "may_cancel": is_active and may_cancel,
        "why_not_cancel": ""
        if may_cancel
        else access.why_not(scope_for(request), ABILITY_FOR[RestorePurpose(found.purpose)]),
        "not_neutralised": restore_facts.NOT_NEUTRALISED,
        "neutralised": restore_facts.NEUTRALISED,
        "announcement": announced("restore", found.state),
    }


def _restore_or_404(request: HttpRequest, restore_id: int) -> Restore:
    found = restores_of(scope_for(request)).filter(pk=restore_id).first()
    if found is None:
        raise NotFound("There is no such restore.")
    return found


def _purposes_anywhere(scope: Scope) -> bool:
    return bool(set(ABILITY_FOR.values()) & scope.abilities(scope.roles))
