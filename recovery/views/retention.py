"""What the stores hold, what the policy would remove of it, and why the rest stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from changecontrol import clock
from changecontrol.errors import Conflict, Forbidden, Invalid
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from changecontrol.templatetags.numbers import size as size_words
from changecontrol.templatetags.times import short_moment
from changecontrol.views.edge import STATUS, actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import counted
from recovery.actions.adoptions import ask_adoption
from recovery.actions.comparisons import ask_unknown_removal
from recovery.actions.retention import ask_retention
from recovery.models import BackupPolicy, Disagreement, RecoveryPoint
from recovery.queries import catalogue, overview
from recovery.queries.catalogue import Usage
from recovery.queries.comparison import comparison_of, disagreements_of
from recovery.queries.points import policies_of, retention_in
from recovery.queries.policies import policy_in_force
from recovery.queries.upkeep import removal_of
from recovery.rules.retention import Retention
from recovery.views.disagreements import compared, rows_of
from recovery.views.lookup import disagreement_or_404, environment_or_404, key_of, why_not

DIFFERENCES_SHOWN = 100
LOST_SHOWN = 20
"""How many spans of time that would be lost are written out; all of them are asked for."""


@page
@require_GET
def usage(request: HttpRequest) -> HttpResponse:
    """What every environment in sight has in its stores, and what its policy would let go."""
    scope, at = scope_for(request), clock.now()
    environments, has_earlier, has_later = overview.environments_page(
        scope, before=key_of(request, "before"), after=key_of(request, "after")
    )
    known = catalogue.usage_in(environments)
    policies = policies_of(scope).filter(environment__in=environments)
    plans = retention_in(policies, at=at)
    rows = [_usage_row(one, known[one.pk], plans.get(one.pk)) for one in environments]
    here = reverse("recovery-usage")
    context = {
        "rows": sorted(rows, key=lambda row: (-row["usage"].size, row["environment"].name)),
        "lede": _usage_lede(rows),
        "earlier_url": f"{here}?before={environments[0].pk}" if environments and has_earlier else "",
        "later_url": f"{here}?after={environments[-1].pk}" if environments and has_later else "",
    }
    return render(request, "recovery/usage.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def retention(request: HttpRequest, tenant: str, slug: str) -> HttpResponseBase:
    """One environment. A POST asks for exactly what was shown; where that is another set now, it is shown afresh."""
    found = environment_or_404(request, tenant=tenant, slug=slug)
    if request.method != "POST":
        return _retention(request, found)
    if refusal := why_not(request, Ability.RECOVERY_EDIT, found):
        raise Forbidden(refusal)
    try:
        plan = ask_retention(
            actor=actor_of(request),
            environment_id=found.pk,
            seen_goes=_seen(request.POST.get("seen_goes", "")),
            seen_lost=_seen_lost(request.POST.get("seen_lost", "")),
            at=clock.now(),
        )
    except Conflict as refused:
        return _retention(request, found, refusal=refused.sentence, status=409)
    messages.success(request, f"The removal of {counted(len(plan.goes), 'point')} is asked for, dependants first.")
    return redirect("retention", tenant, slug)


@page
@require_POST
def unknown_let_go(request: HttpRequest, disagreement_id: int) -> HttpResponseBase:
    """Let a whole point go that the catalogue does not name. A refusal comes back on the page of its environment."""
    return _decided(request, disagreement_id, ask_unknown_removal, done="is to go: it is removed within minutes.")


@page
@require_POST
def unknown_take_in(request: HttpRequest, disagreement_id: int) -> HttpResponseBase:
    """Have a whole point taken in that the catalogue does not name. A refusal comes back on its environment's page."""
    done = "is being read: it is taken in once every object of it is as it was written."
    return _decided(request, disagreement_id, ask_adoption, done=done)


def _decided(
    request: HttpRequest, disagreement_id: int, ask: Callable[..., Disagreement], *, done: str
) -> HttpResponseBase:
    row = disagreement_or_404(request, disagreement_id)
    tenant, slug = row.environment.tenant.slug, row.environment.slug
    try:
        ask(actor=actor_of(request), disagreement_id=row.pk, reason=request.POST.get("reason", ""), at=clock.now())
    except (Conflict, Invalid) as refused:
        found = environment_or_404(request, tenant=tenant, slug=slug)
        return _retention(request, found, refusal=refused.sentence, status=STATUS[type(refused)])
    messages.success(request, f"{row.name} {done}")
    return redirect(reverse("retention", args=[tenant, slug]) + "#disagreements")


def _seen(text: str) -> list[str]:
    """Return the names that the page showed. One answer holds all of them: there may be more than a form has fields."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _seen_lost(text: str) -> list[tuple[datetime, datetime]]:
    """Return the times that the page said would be lost. What is no such list is none that it showed."""
    try:
        return [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        return []


def _retention(request: HttpRequest, found: Environment, *, refusal: str = "", status: int = 200) -> HttpResponse:
    policy, at = policy_in_force(found), clock.now()
    plan = removal_of(policy, at=at) if policy else Retention((), {})
    points = catalogue.kept_points(found)
    goes = [points[key] for key in plan.goes if key in points]
    asked = [one for one in goes if one.removal_asked_at is not None]
    known = catalogue.usage_in([found])[found.pk]
    differences = disagreements_of(found)
    context = {
        "environment": found,
        "policy": policy,
        "lede": _lede(policy, goes, asked),
        "facts": _facts(known, goes),
        "goes": goes,
        "seen_goes": json.dumps(list(plan.goes)),
        "lost": [one.words for one in plan.lost[-LOST_SHOWN:]][::-1],
        "more_lost": max(0, len(plan.lost) - LOST_SHOWN),
        "seen_lost": json.dumps([[one.start.isoformat(), one.end.isoformat()] for one in plan.lost]),
        "is_all_asked": bool(goes) and len(asked) == len(goes),
        "stays": [{"point": points[key], "reasons": reasons} for key, reasons in plan.stays.items() if key in points],
        "afterwards": _afterwards(policy),
        "ask_label": f"Remove {counted(len(goes), 'point')}",
        "differences": rows_of(found, differences[:DIFFERENCES_SHOWN]),
        "more_differences": max(0, len(differences) - DIFFERENCES_SHOWN),
        "compared": compared(comparison_of(found)),
        "refusal": refusal,
        "why_not": why_not(request, Ability.RECOVERY_EDIT, found),
        "at": at,
    }
    return render(request, "recovery/retention.html", context, status=status)


def _lede(policy: BackupPolicy | None, goes: list[RecoveryPoint], asked: list[RecoveryPoint]) -> str:
    if policy is None:
        return "There is no backup policy, so nothing is ever removed."
    if not goes:
        return "Every point stays: the policy would let none go."
    freed = size_words(sum(one.size for one in goes))
    sentence = f"The policy would let {counted(len(goes), 'point')} go, which frees {freed}."
    if asked:
        sentence += f" {counted(len(asked), 'removal is', 'removals are')} asked for already."
    return sentence


def _afterwards(policy: BackupPolicy | None) -> str:
    """Say what is left of the bytes of what is removed."""
    if policy is None or not policy.version_days:
        return "Their bytes cannot be brought back."
    return f"Their bytes stay as old versions for {counted(policy.version_days, 'day')}, as the bucket is set."


def _facts(known: Usage, goes: list[RecoveryPoint]) -> list[dict[str, Any]]:
    return [
        {
            "label": "Points",
            "value": size_words(known.point_size),
            "note": f"{counted(known.point_count, 'point')}{_since(known.oldest_at)}",
        },
        {
            "label": "Attachments",
            "value": size_words(known.attachment_size),
            "note": f"in {counted(known.attachment_count, 'copy', 'copies')}, each file once",
        },
        {"label": "WAL", "value": size_words(known.wal_size), "note": "before compression"},
        {
            "label": "In more than one place",
            "value": f"{known.copy_count} of {known.point_count}",
            "note": "points have a copy elsewhere",
        },
        {
            "label": "Would go",
            "value": size_words(sum(one.size for one in goes)),
            "note": counted(len(goes), "point"),
        },
    ]


def _since(oldest_at: datetime | None) -> str:
    return f", the oldest of {short_moment(oldest_at)}" if oldest_at else ""


def _usage_row(environment: Environment, known: Usage, plan: Retention | None) -> dict[str, Any]:
    return {
        "environment": environment,
        "usage": known,
        "goes": len(plan.goes) if plan else 0,
        "is_watched": plan is not None,
        "url": reverse("retention", args=[environment.tenant.slug, environment.slug]),
    }


def _usage_lede(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "No environment is in your sight."
    total = sum(row["usage"].size for row in rows)
    goes = sum(row["goes"] for row in rows)
    would_go = f"the policies would let {counted(goes, 'point')} go" if goes else "the policies would let no point go"
    return f"{size_words(total)} in {counted(len(rows), 'environment')}; {would_go}."
