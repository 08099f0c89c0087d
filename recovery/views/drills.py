"""Drills: the list with what is overdue, holding one by hand, one under way, and its report until it is signed off."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from changecontrol import access, clock
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import STATUS, actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import counted
from recovery.actions.drills import (
    cancel_drill,
    close_corrective_action,
    link_corrective_action,
    sign_off_drill,
    start_drill,
)
from recovery.actions.reports import Report, export_drill_report, export_drill_reports, print_drill_report
from recovery.forms.drills import SABOTAGE_HINTS, DrillForm, NoteForm, PeriodForm
from recovery.forms.moments import wall_words
from recovery.forms.restores import LATEST, WHEN_HINTS
from recovery.lifecycles.drill import ENDED, UNDER_WAY
from recovery.models import CorrectiveAction, Drill
from recovery.queries.drills import drills_of, levels_of, overdue_drills
from recovery.queries.paging import page_by_key
from recovery.queries.points import coverage_of, in_sight
from recovery.queries.progress import progress_of
from recovery.queries.reports import gaps_of, with_report
from recovery.queries.restores import environments_to
from recovery.rules.coverage import Coverage
from recovery.views import drill_facts
from recovery.views.choosing import Question, chosen_environment
from recovery.views.live import live_answer
from recovery.views.lookup import key_of
from recovery.views.restore_facts import coverage_facts
from recovery.views.step_facts import announced, progress_facts, time_split, zones_for


@page
@require_GET
def drills(request: HttpRequest) -> HttpResponse:
    """Every drill in sight, newest first; above them what should have been practised and was not."""
    return render(request, "recovery/drills.html", _list(request, PeriodForm(auto_id="%s")))


def _list(request: HttpRequest, period: PeriodForm) -> dict[str, Any]:
    scope, at = scope_for(request), clock.now()
    before, after = key_of(request, "before"), key_of(request, "after")
    overdue = overdue_drills(scope, at=at)
    found = page_by_key(drills_of(scope), before=before, after=after)
    held = scope.abilities(scope.roles)
    return {
        "heading": f"{counted(len(overdue), 'drill')} overdue" if overdue else "Drills",
        "lede": "A backup counts once it was restored, started and questioned. That is what a drill does.",
        "overdue": drill_facts.overdue_alarms(overdue, scope=scope, at=at),
        "rows": drill_facts.rows_of(found.rows),
        "newer_url": f"{reverse('drills')}?after={found.newer}" if found.newer else "",
        "older_url": f"{reverse('drills')}?before={found.older}" if found.older else "",
        "may_start": Ability.RECOVERY_DRILL in held,
        "why_not_start": access.why_not(scope, Ability.RECOVERY_DRILL),
        "may_export": Ability.EVIDENCE_EXPORT in held,
        "why_not_export": access.why_not(scope, Ability.EVIDENCE_EXPORT),
        "period": period,
    }


@page
@require_http_methods(["GET", "HEAD", "POST"])
def drill_new(request: HttpRequest) -> HttpResponseBase:
    """Hold a drill by hand: which environment, then how far, back to which time, and what is broken on purpose."""
    scope = scope_for(request)
    if Ability.RECOVERY_DRILL not in scope.abilities(scope.roles):
        raise Forbidden(access.why_not(scope, Ability.RECOVERY_DRILL))
    question = Question(
        heading="New drill",
        lede="Step 1 of 2: which environment. A drill restores a copy aside and takes it away again.",
        parent={"label": "Drills", "url": reverse("drills")},
        empty="No environment on which you may hold a drill has a backup policy yet.",
    )
    environment = chosen_environment(request, question, offered=environments_to(scope, Ability.RECOVERY_DRILL))
    if isinstance(environment, HttpResponse):
        return environment
    coverage = coverage_of(environment)
    form = DrillForm(
        request.POST if request.method == "POST" else None,
        # A time that was chosen by its address; the form judges it like any other once it is sent.
        initial={name: request.GET[name] for name in ("date", "time", "zone") if name in request.GET},
        levels=levels_of(environment),
        zones=zones_for(scope),
        auto_id="%s",
    )
    if request.method == "POST":
        return _start(request, environment, coverage, form)
    return _form_page(request, environment, coverage, form)


def _start(request: HttpRequest, environment: Environment, coverage: Coverage, form: DrillForm) -> HttpResponseBase:
    if not form.is_valid():
        return _form_page(request, environment, coverage, form, status=422)
    given, target_at = form.cleaned_data, form.target_at
    if given["when"] == LATEST and coverage.spans:
        target_at = coverage.spans[-1].end
    try:
        if target_at is None:
            raise Conflict("There is no recovery point to go back to.")
        made = start_drill(
            actor=actor_of(request),
            environment_id=environment.pk,
            level=given["level"],
            target_at=target_at,
            scope=given["scope"],
            sabotage=given["sabotage"],
            at=clock.now(),
        )
    except Invalid as refusal:
        form.refuse(refusal)
        return _form_page(request, environment, coverage, form, status=422)
    except Conflict as refusal:
        form.add_error(None, refusal.sentence)
        return _form_page(request, environment, coverage, form, status=409)
    messages.success(request, "The drill begins within 10 s.")
    return redirect("drill", drill_id=made.pk)


def _form_page(
    request: HttpRequest, environment: Environment, coverage: Coverage, form: DrillForm, *, status: int = 200
) -> HttpResponse:
    context = {
        "form": form,
        "environment": environment,
        "coverage": coverage_facts(coverage, url_of=lambda at: _url(environment, at)),
        "when_hints": WHEN_HINTS,
        "sabotage_hints": SABOTAGE_HINTS,
        "own_zone": timezone.get_current_timezone_name(),
    }
    return render(request, "recovery/drill_new.html", context, status=status)


def _url(environment: Environment, at: datetime) -> str:
    """Return the address of the form with this time in it."""
    chosen = {"environment": environment.pk, **wall_words(at, timezone.get_current_timezone_name())}
    return f"{reverse('drill-new')}?{urlencode(chosen)}#when"


@page
@require_GET
def drill(request: HttpRequest, drill_id: int) -> HttpResponse:
    """One drill: live while it goes on, then its report."""
    found = _drill_or_404(request, drill_id)
    if request.headers.get("HX-Request") and request.GET.get("part") == "live":
        return live_answer(request, _facts(request, found), template="recovery/drill.html")
    return render(request, "recovery/drill.html", _facts(request, found))


@page
@require_POST
def drill_cancel(request: HttpRequest, drill_id: int) -> HttpResponseBase:
    found = _drill_or_404(request, drill_id)
    reason = request.POST.get("reason", "")
    try:
        cancel_drill(actor=actor_of(request), drill_id=found.pk, reason=reason, at=clock.now())
    except (Forbidden, IllegalTransition, Conflict, Invalid) as refusal:
        return _refused(request, found.pk, refusal)
    messages.success(request, "Canceled. What it made is cleared away.")
    return redirect("drill", drill_id=found.pk)


@page
@require_POST
def drill_sign_off(request: HttpRequest, drill_id: int) -> HttpResponseBase:
    found = _drill_or_404(request, drill_id)
    try:
        sign_off_drill(actor=actor_of(request), drill_id=found.pk, note=_note(request), at=clock.now())
    except (Forbidden, IllegalTransition, Conflict, Invalid) as refusal:
        return _refused(request, found.pk, refusal)
    messages.success(request, "Signed off.")
    return redirect("drill", drill_id=found.pk)


@page
@require_POST
def corrective_action_link(request: HttpRequest, corrective_action_id: int) -> HttpResponseBase:
    found = _action_or_404(request, corrective_action_id)
    number = request.POST.get("number", "")
    try:
        linked = link_corrective_action(
            actor=actor_of(request), corrective_action_id=found.pk, number=number, at=clock.now()
        )
    except (Forbidden, Conflict, Invalid) as refusal:
        return _refused(request, found.drill_id, refusal)
    messages.success(request, f"{linked.change} is to mend it. Its evidence has this report.")
    return redirect("drill", drill_id=found.drill_id)


@page
@require_POST
def corrective_action_close(request: HttpRequest, corrective_action_id: int) -> HttpResponseBase:
    found = _action_or_404(request, corrective_action_id)
    try:
        close_corrective_action(
            actor=actor_of(request), corrective_action_id=found.pk, note=_note(request), at=clock.now()
        )
    except (Forbidden, Conflict, Invalid) as refusal:
        return _refused(request, found.drill_id, refusal)
    messages.success(request, "Closed. What was done stands in the report.")
    return redirect("drill", drill_id=found.drill_id)


def _action_or_404(request: HttpRequest, corrective_action_id: int) -> CorrectiveAction:
    rows = CorrectiveAction.objects.filter(drill__in=in_sight(scope_for(request), Drill.objects.all()))
    found = rows.filter(pk=corrective_action_id).first()
    if found is None:
        raise NotFound("There is no such corrective action.")
    return found


@page
@require_GET
def drill_pdf(request: HttpRequest, drill_id: int) -> HttpResponse:
    """Download the report for people. That it was taken is recorded."""
    return _sent(print_drill_report(actor=actor_of(request), drill_id=drill_id, at=clock.now()))


@page
@require_GET
def drill_json(request: HttpRequest, drill_id: int) -> HttpResponse:
    """Download the report for programs. That it was taken is recorded."""
    return _sent(export_drill_report(actor=actor_of(request), drill_id=drill_id, at=clock.now()))


@page
@require_GET
def drill_reports(request: HttpRequest) -> HttpResponseBase:
    """Download the reports of a period, one a line. That they were taken is recorded."""
    form = PeriodForm(request.GET, auto_id="%s")
    if not form.is_valid():
        return render(request, "recovery/drills.html", _list(request, form), status=422)
    since, until = form.period
    try:
        found = export_drill_reports(actor=actor_of(request), since=since, until=until, at=clock.now())
    except Invalid as refusal:
        for field, sentences in refusal.fields.items():
            form.add_error(field, sentences)
        return render(request, "recovery/drills.html", _list(request, form), status=422)
    response = StreamingHttpResponse(found.lines, content_type="application/x-ndjson")
    response["Content-Disposition"] = f'attachment; filename="{found.name}"'
    return response


def _sent(report: Report) -> HttpResponse:
    response = HttpResponse(report.data, content_type=report.media_type)
    response["Content-Disposition"] = f'attachment; filename="{report.name}"'
    return response


def _note(request: HttpRequest) -> str:
    form = NoteForm(request.POST)
    if not form.is_valid():
        raise Invalid("Say it in at most 500 characters.")
    return str(form.cleaned_data["note"])


def _refused(request: HttpRequest, drill_id: int, refusal: Any) -> HttpResponse:
    """Show the drill as it stands now, with the sentence that says why not."""
    facts = _facts(request, _drill_or_404(request, drill_id)) | {"refusal": refusal.sentence}
    return render(request, "recovery/drill.html", facts, status=STATUS[type(refusal)])


def _facts(request: HttpRequest, found: Drill) -> dict[str, Any]:
    scope, at = scope_for(request), clock.now()
    actor = actor_of(request)
    held = access.abilities_for(scope, found.environment)
    is_active = found.state not in ENDED
    is_under_way, may_hold = found.state in UNDER_WAY, Ability.RECOVERY_DRILL in held
    progress = progress_of(found, at=at) if is_active else None
    checks = drill_facts.check_groups(found)
    return {
        "drill": found,
        "environment": found.environment,
        "is_active": is_active,
        "at": at,
        "version": drill_facts.version_of(found, progress, check_count=sum(len(one["rows"]) for one in checks), at=at),
        "steps": drill_facts.drill_steps(found),
        "progress": progress_facts(progress, at=at),
        "split": time_split(found, target=found.rto_target, at=at),
        "result": drill_facts.result_of(found),
        "objectives": drill_facts.objectives_of(found),
        "checks": checks,
        "checks_aside": drill_facts.checks_aside(found),
        "clean_up": drill_facts.clean_up(found),
        "gaps": [] if is_active else list(gaps_of(found)),
        "sabotage": drill_facts.sabotage_words(found),
        "pairs": drill_facts.scope_pairs(found),
        "actions": drill_facts.action_rows(found, may_close=may_hold),
        "cancellation": found.cancellation,
        "sentence": found.sentence if found.sentence != found.cancellation else "",
        "may_cancel": is_under_way and may_hold,
        "why_not_cancel": access.why_not(scope, Ability.RECOVERY_DRILL) if is_under_way and not may_hold else "",
        "sign_off": drill_facts.sign_off_facts(found, scope=scope, person=actor.person),
        "announcement": announced("drill", found.state),
    }


def _drill_or_404(request: HttpRequest, drill_id: int) -> Drill:
    found = with_report(drills_of(scope_for(request))).filter(pk=drill_id).first()
    if found is None:
        raise NotFound("There is no such drill.")
    return found
