"""Backing up now, one backup while it runs and after, and ending it before it is done."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from changecontrol import clock
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from changecontrol.templatetags.states import look
from changecontrol.templatetags.times import duration, short_moment
from changecontrol.views.edge import STATUS, actor_of
from changecontrol.views.pages import page
from changecontrol.views.wording import words
from changecontrol.workflow.trouble import trouble_of
from recovery.actions.backups import ask_backup, cancel_backup
from recovery.forms.backups import BackUpForm
from recovery.lifecycles.point import ACTIVE_BACKUPS
from recovery.models import BackupRun
from recovery.models.policy import Engine
from recovery.queries import catalogue
from recovery.queries.policies import policy_in_force
from recovery.queries.progress import progress_of
from recovery.views.live import live_answer
from recovery.views.lookup import backup_or_404, environment_or_404, why_not
from recovery.views.step_facts import progress_facts


@page
@require_http_methods(["GET", "HEAD", "POST"])
def back_up(request: HttpRequest, tenant: str, slug: str) -> HttpResponseBase:
    """Ask for a full backup now, with a reason; what stands against it is said in place of the form."""
    found = environment_or_404(request, tenant=tenant, slug=slug)
    if refusal := why_not(request, Ability.RECOVERY_BACK_UP, found):
        raise Forbidden(refusal)
    form = BackUpForm(request.POST if request.method == "POST" else None)
    if not form.is_bound:
        return _back_up(request, found, form)
    if not form.is_valid():
        return _back_up(request, found, form, status=422)
    try:
        run = ask_backup(
            actor=actor_of(request), environment_id=found.pk, reason=form.cleaned_data["reason"], at=clock.now()
        )
    except Invalid as refused:
        form.refuse(refused)
        return _back_up(request, found, form, status=422)
    except Conflict as refused:
        form.add_error(None, refused.sentence)
        return _back_up(request, found, form, status=409)
    messages.success(request, f"A backup of {found} is asked for. It begins within 10 s.")
    return redirect("backup", run.pk)


@page
@require_GET
def backup(request: HttpRequest, run_id: int) -> HttpResponse:
    """One backup. Script asks for the part that lives with what it shows; once it has ended the page loads anew."""
    found = backup_or_404(request, run_id)
    context = _page(request, found)
    if request.headers.get("HX-Request") and request.GET.get("part") == "live":
        return live_answer(request, context, template="recovery/backup.html")
    return render(request, "recovery/backup.html", context)


@page
@require_POST
def backup_cancel(request: HttpRequest, run_id: int) -> HttpResponseBase:
    found = backup_or_404(request, run_id)
    reason = request.POST.get("reason", "")
    try:
        cancel_backup(actor=actor_of(request), run_id=found.pk, reason=reason, at=clock.now())
    except (Forbidden, IllegalTransition, Conflict, Invalid) as refusal:
        context = _page(request, backup_or_404(request, run_id)) | {"refusal": refusal.sentence}
        return render(request, "recovery/backup.html", context, status=STATUS[type(refusal)])
    messages.success(request, "Canceled. No point is made of what it copied.")
    return redirect("backup", run_id=found.pk)


def _page(request: HttpRequest, found: BackupRun) -> dict[str, Any]:
    refusal = why_not(request, Ability.RECOVERY_BACK_UP, found.environment)
    return {**_live(found, at=clock.now()), "may_cancel": not refusal, "why_not_cancel": refusal}


def _back_up(request: HttpRequest, found: Environment, form: BackUpForm, *, status: int = 200) -> HttpResponse:
    policy = policy_in_force(found)
    backups = catalogue.backups_of(found)
    last = next((one for one in backups if one.finished_at and one.started_at and hasattr(one, "point")), None)
    context = {
        "environment": found,
        "form": form,
        "policy": policy,
        "is_external": policy is not None and policy.engine == Engine.EXTERNAL,
        "active": next((one for one in backups if one.state in ACTIVE_BACKUPS), None),
        "last": last,
        "last_took": duration(last.finished_at - last.started_at) if last else "",  # type: ignore[operator]
    }
    return render(request, "recovery/back_up.html", context, status=status)


def _live(found: BackupRun, *, at: datetime) -> dict[str, Any]:
    is_active = found.state in ACTIVE_BACKUPS
    progress = progress_of(found, at=at) if is_active else None
    trouble = trouble_of(found)
    tone = look(found.state).tone
    seen = f"{found.state} {found.sentence} {trouble} {progress}"
    return {
        "run": found,
        "environment": found.environment,
        "point": getattr(found, "point", None),
        "is_active": is_active,
        "progress": progress_facts(progress, at=at),
        "facts": _facts(found, at=at),
        "trouble": trouble,
        "tone": tone,
        "needs_eye": tone in {"bad", "warn"},
        "announcement": f"The backup is {words(found.state)}" + (f": {progress.phase}." if progress else "."),
        "version": hashlib.sha256(seen.encode()).hexdigest()[:16],
        "at": at,
    }


def _facts(found: BackupRun, *, at: datetime) -> list[dict[str, Any]]:
    began = found.started_at
    took = (found.finished_at or at) - began if began else None
    return [
        {"label": "Kind", "value": found.get_kind_display(), "note": f"policy version {found.policy.version}"},
        {
            "label": "Asked",
            "value": found.origin.removeprefix("asked "),
            "note": short_moment(found.due_at or found.created_at),
        },
        {
            "label": "Took" if found.finished_at else "Under way for",
            "value": duration(took) if took is not None else "not begun",
            "note": f"since {short_moment(began)}" if began else "",
        },
    ]
