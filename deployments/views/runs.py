"""Rollouts: the list, one run live, what people ask of it, and the run inside the page of its change."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from changecontrol import access, clock
from changecontrol.actions.runs import ASKED, ask_run
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.lifecycles.change import ChangeState
from changecontrol.lifecycles.run import ACTIVE, HUMAN_VERBS, PauseReason
from changecontrol.models import ChangeRequest, Run
from changecontrol.models.run import RunKind
from changecontrol.queries.changes import change_by_number
from changecontrol.queries.runs import log_of, run_named, targets_of
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import STATUS, actor_of, scope_for
from changecontrol.views.lifecycle import way_on
from changecontrol.views.pages import page
from changecontrol.views.wording import counted, words
from changecontrol.workflow.trouble import trouble_of
from deployments.actions.rollouts import start_now
from deployments.queries import watching
from deployments.views import run_facts
from deployments.views.controls import controls_of
from deployments.views.run_facts import PlanView

LOG_SHOWN = 40
LOG_WHOLE = 2000


@page
@require_GET
def rollouts(request: HttpRequest) -> HttpResponse:
    """Every run in sight: what is under way first, then what ended, page by page."""
    scope = scope_for(request)
    before, after = _key(request, "before"), _key(request, "after")
    active = watching.active_runs(scope) if before is None and after is None else []
    ended, has_newer, has_older = watching.ended_runs(scope, before=before, after=after)
    counts = watching.state_counts([one.pk for one in (*active, *ended)])
    at = clock.now()
    context = {
        "active": [_row(one, counts.get(one.pk, {})) for one in active],
        "ended": [_row(one, counts.get(one.pk, {})) for one in ended],
        "heading": f"{counted(len(active), 'rollout')} under way" if active else "Rollouts",
        "lede": _lede(active),
        "newer_url": f"{reverse('rollouts')}?after={ended[0].pk}" if ended and has_newer else "",
        "older_url": f"{reverse('rollouts')}?before={ended[-1].pk}" if ended and has_older else "",
        "is_first": before is None and after is None,
        "at": at,
    }
    return render(request, "deployments/rollouts.html", context)


@page
@require_GET
def run(request: HttpRequest, run_id: int) -> HttpResponse:
    """One run. Script asks for the part that lives, and for the controls, each with what it shows now."""
    found = _run_or_404(request, run_id)
    targets = targets_of(found)
    plan = run_facts.plan_of(found)
    part = request.GET.get("part", "") if request.headers.get("HX-Request") else ""
    if part == "controls":
        offered = controls_of(found, targets, scope=scope_for(request), rollback_class=plan.rollback_class)
        if request.GET.get("seen") == offered.key:
            return HttpResponse(status=204)
        return render(
            request,
            "deployments/run.html#controls",
            {"run": found, "controls": offered, "is_active": _is_active(found)},
        )
    context = _live(request, found, plan=plan, targets=targets)
    if part == "live":
        if request.GET.get("seen") == context["version"]:
            return HttpResponse(status=204)
        return render(request, "deployments/run.html#live", {**context, "is_part": True})
    context["controls"] = controls_of(found, targets, scope=scope_for(request), rollback_class=plan.rollback_class)
    return render(request, "deployments/run.html", context)


@page
@require_POST
def run_verb(request: HttpRequest, run_id: int, verb: str) -> HttpResponseBase:
    """Write down what the person asks; the next tick obeys. A refusal comes back on the page of the run."""
    verb = verb.replace("-", "_")
    if verb not in HUMAN_VERBS:
        raise NotFound("A run cannot be asked that.")
    found = _run_or_404(request, run_id)
    try:
        ask_run(
            actor=actor_of(request),
            run_id=found.pk,
            verb=verb,
            reason=request.POST.get("reason", ""),
            at=clock.now(),
        )
    except (Forbidden, IllegalTransition, Conflict, Invalid) as refusal:
        return _refused(request, found, refusal)
    messages.success(request, f"Asked {ASKED[verb]}. The next tick obeys, within 10 s.")
    return redirect("run", run_id=found.pk)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def change_run(request: HttpRequest, number: str) -> HttpResponseBase:
    """The run of a change, as a part of the change's page, and by itself for browsers without script.

    A POST starts a scheduled change before its time; where that is refused, the sentence comes back on this page.
    """
    scope = scope_for(request)
    change = change_by_number(scope, number)
    refusal: Forbidden | IllegalTransition | Conflict | None = None
    if request.method == "POST":
        try:
            started = start_now(actor=actor_of(request), change_id=change.pk, at=clock.now())
        except (Forbidden, IllegalTransition, Conflict) as refused:
            refusal = refused
        else:
            messages.success(request, f"{change.number} begins.")
            return redirect("run", run_id=started.pk)
    found = watching.run_of_change(scope, change)
    context = _change_run(change, found, scope=scope)
    if refusal is not None:
        context["refusal"] = refusal.sentence
        return render(request, "deployments/change_run_page.html", context, status=STATUS[type(refusal)])
    if request.headers.get("HX-Request"):
        return render(request, "deployments/change_run.html", context)
    if found is not None:
        return redirect("run", run_id=found.pk)
    return render(request, "deployments/change_run_page.html", context)


def _change_run(change: ChangeRequest, found: Run | None, *, scope: access.Scope) -> dict[str, Any]:
    is_waiting = found is None and change.state == ChangeState.SCHEDULED
    may_start = is_waiting and Ability.RUN_START in access.abilities_for(scope, change)
    context: dict[str, Any] = {
        "change": change,
        "run": found,
        "is_waiting": is_waiting,
        "may_start": may_start,
        "polls": (found is not None and _is_active(found)) or is_waiting or change.state == ChangeState.IMPLEMENTING,
    }
    if found is not None:
        plan = run_facts.plan_of(found)
        counts = watching.state_counts([found.pk]).get(found.pk, {})
        healthy = sum(count for (_, state), count in counts.items() if state == "healthy")
        context |= {
            "bars": run_facts.wave_bars(found, counts, plan=plan),
            "progress": f"{healthy} of {sum(counts.values())}",
            "announcement": run_facts.announcement(found, plan=plan),
        }
    return context


def _live(request: HttpRequest, found: Run, *, plan: PlanView, targets: list[Any], refusal: str = "") -> dict[str, Any]:
    at = clock.now()
    is_whole = request.GET.get("log") == "all"
    log = log_of(found, limit=LOG_WHOLE if is_whole else LOG_SHOWN + 1)
    measurements = watching.measurements_of(found)
    samples = sum(len(one.samples.all()) for one in measurements)
    document = plan.document
    return {
        "run": found,
        "change": found.change,
        "refusal": refusal,
        "is_active": _is_active(found),
        "at": at,
        "version": run_facts.version_of(found, targets, log=log, samples=samples),
        "strategy": f"{words(plan.content.strategy)}, {counted(len(plan.waves), 'wave')}" if plan.waves else "",
        "rollback_class": plan.rollback_class,
        "commit": document.get("commit", ""),
        "facts": run_facts.progress_facts(found, targets, plan=plan, at=at),
        "bars": run_facts.wave_bars(found, run_facts.counts_of(targets), plan=plan),
        "grid": run_facts.grid(found, targets, plan=plan),
        "states": run_facts.state_pairs(targets),
        "troubles": run_facts.troubles(targets),
        "silences": run_facts.silences(measurements),
        "groups": run_facts.indicator_groups(measurements, plan=plan),
        "log": run_facts.log_entries(log if is_whole else log[:LOG_SHOWN]),
        "has_more_log": not is_whole and len(log) > LOG_SHOWN,
        "trouble": trouble_of(found),
        "announcement": run_facts.announcement(found, plan=plan),
        "tone": run_facts.tone_of(found.state),
        "way_on": way_on(found.change) if found.pause_reason == PauseReason.PLAN_DRIFT else "",
        "needs_eye": run_facts.tone_of(found.state) not in {"", "info", "good"},
    }


def _refused(request: HttpRequest, found: Run, refusal: Any) -> HttpResponse:
    """Show the page as it stands now, with the sentence that says why not."""
    again = _run_or_404(request, found.pk)
    targets = targets_of(again)
    plan = run_facts.plan_of(again)
    context = _live(request, again, plan=plan, targets=targets, refusal=refusal.sentence)
    context["controls"] = controls_of(again, targets, scope=scope_for(request), rollback_class=plan.rollback_class)
    return render(request, "deployments/run.html", context, status=STATUS[type(refusal)])


def _run_or_404(request: HttpRequest, run_id: int) -> Run:
    found = run_named(scope_for(request), run_id)
    if found is None or found.kind != RunKind.ROLLOUT:
        raise NotFound("There is no such run.")
    return found


def _row(found: Run, counts: dict[tuple[int, str], int]) -> dict[str, Any]:
    plan = run_facts.plan_of(found)
    total = sum(counts.values())
    healthy = sum(count for (_, state), count in counts.items() if state == "healthy")
    return {
        "run": found,
        "change": found.change,
        "progress": f"{healthy} of {total}",
        "bars": run_facts.wave_bars(found, counts, plan=plan),
        "wave": run_facts.announcement(found, plan=plan),
    }


def _lede(active: list[Run]) -> str:
    waiting = [one for one in active if one.state in {"paused", "awaiting_promotion", "waiting_for_window"}]
    if waiting:
        return (
            f"{counted(len(waiting), 'one')} of them waits." if len(waiting) == 1 else f"{len(waiting)} of them wait."
        )
    return "Everything under way goes on by itself." if active else "Nothing is under way."


def _is_active(found: Run) -> bool:
    return found.state in ACTIVE


def _key(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
