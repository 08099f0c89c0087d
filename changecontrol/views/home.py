"""Home: what needs this person first, then what runs, what is wrong, and when the next windows open."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.lifecycles.run import TargetState
from changecontrol.models import ChangeRequest, Freeze, Run, RunTarget, User
from changecontrol.models.run import RunKind
from changecontrol.queries.inbox import Alarm, Home, Notice, home_of
from changecontrol.queries.queue import changes_awaiting
from changecontrol.queries.windows import Span, freezes_of, scope_words
from changecontrol.views import drafts
from changecontrol.views.approvals import queue_item
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import counted, duration, share_of, words

SHOWN = 5
FREEZE_AHEAD = timedelta(days=2)
DONE = frozenset({TargetState.HEALTHY, TargetState.SKIPPED, TargetState.REVERTED})


@page
@require_safe
def home(request: HttpRequest) -> HttpResponseBase:
    """Show the home page of whoever is signed in. What a role may not see is simply not there."""
    actor, scope, at = actor_of(request), scope_for(request), clock.now()
    facts = home_of(actor, scope, at=at)
    waves = _waves(scope, facts.running)
    decisions = [queue_item(one) for one in facts.decisions]
    may_create = bool(drafts.tenant_keys_for_new(scope))
    context = {
        "title": _title(facts, actor.person),
        "lede": _lede(facts, at=at),
        "actions": _actions(decisions, may_create=may_create),
        "decisions": decisions[:SHOWN],
        "decision_count": len(decisions),
        "votes_here": bool(facts.awaiting),
        "drafts": [_unfinished(one) for one in facts.drafts],
        "to_schedule": [_unfinished(one) for one in facts.to_schedule],
        "running": [_running(one, waves.get(one.pk, [])) for one in facts.running],
        "alarms": [*(_alarm(one) for one in facts.alarms), *(_notice(one) for one in facts.notices)],
        "openings": [_opening(one, at=at) for one in _next_of_each(facts.openings)],
        "freezes": [_freeze(one, at=at) for one in facts.freezes[:SHOWN]],
        "has_role": bool(scope.roles),
        "is_demo": settings.DEMO,
        "may_create": may_create,
    }
    return render(request, "changecontrol/home.html", context)


@page
@require_safe
def waiting(request: HttpRequest) -> HttpResponseBase:
    """Tell what waits behind the navigation's entries, and of a freeze. Pages ask once shown: none pays for it."""
    scope, at = scope_for(request), clock.now()
    votes = sum(one.is_mine for one in changes_awaiting(actor_of(request), scope, at=at))
    runs = access.visible(scope, Run.objects.filter(kind=RunKind.ROLLOUT).active()).count()
    counts = [
        {"id": "votes", "count": votes, "label": "for you to decide", "tone": "mine"},
        {"id": "runs", "count": runs, "label": "under way", "tone": ""},
    ]
    return render(request, "changecontrol/waiting.html", {"counts": counts, "freeze_note": _freeze_note(scope, at=at)})


def _freeze_note(scope: Scope, *, at: datetime) -> str:
    """Name the freeze that holds now, else the next one within two days; empty where there is none."""
    freezes = freezes_of(scope).filter(lifted_at__isnull=True, ends_at__gt=at, starts_at__lt=at + FREEZE_AHEAD)
    one = freezes.order_by("starts_at").first()
    if one is None:
        return ""
    name = one.name if "freeze" in one.name.lower() else f"{one.name} freeze"
    return (
        f"{name}, {duration(one.ends_at - at)} left"
        if one.starts_at <= at
        else f"{name} in {duration(one.starts_at - at)}"
    )


def _title(facts: Home, person: User) -> str:
    """Say the situation in one line: what needs this person first."""
    count = len(facts.decisions)
    if count:
        return f"{counted(count, 'change needs', 'changes need')} your decision"
    if facts.alarms:
        return f"{counted(len(facts.alarms), 'rollout stands', 'rollouts stand')} still"
    if facts.notices:
        return f"{counted(len(facts.notices), 'alarm is', 'alarms are')} open"
    back = [one for one in facts.drafts if one.state != "draft" or one.problem]
    if back:
        return f"{counted(len(back), 'change', 'changes')} came back to you"
    if facts.to_schedule:
        return f"{counted(len(facts.to_schedule), 'change needs', 'changes need')} a start"
    if facts.running:
        return f"{counted(len(facts.running), 'rollout is', 'rollouts are')} running"
    return "Nothing needs you now"


def _lede(facts: Home, *, at: datetime) -> str:
    parts = []
    timed = [one for one in facts.decisions if one.time_left is not None and one.time_left.total_seconds() > 0]
    if timed and timed[0].time_left is not None:
        parts.append(f"The first starts in {duration(timed[0].time_left)}.")
    if facts.running and (facts.decisions or facts.alarms or facts.notices):
        parts.append(f"{counted(len(facts.running), 'rollout is', 'rollouts are')} running.")
    holding = [one for one in facts.freezes if one.starts_at <= at]
    if holding:
        parts.append(f"“{holding[0].name}” holds everything in its scope for {duration(holding[0].ends_at - at)}.")
    elif facts.openings:
        opening = facts.openings[0]
        if opening.starts_at <= at:
            parts.append(f"{opening.name} is open for {duration(opening.ends_at - at)}.")
        else:
            parts.append(f"{opening.name} opens in {duration(opening.starts_at - at)}.")
    return " ".join(parts)


def _actions(decisions: Sequence[dict[str, Any]], *, may_create: bool) -> list[dict[str, Any]]:
    found = []
    if may_create:
        label, url = "New change", reverse("change-new")
        found.append({"label": label, "url": url, "icon": "plus", "is_primary": not decisions})
    if decisions:
        url = f"{decisions[0]['url']}#decision"
        found.append({"label": "Decide the first", "url": url, "is_primary": True})
    return found


def _unfinished(change: ChangeRequest) -> dict[str, Any]:
    is_draft = change.state == "draft"
    if change.problem:
        why = change.problem
    elif is_draft:
        why = "not submitted yet"
    elif change.state == "authorize":
        why = "approved after its planned start; choose a new one"
    else:
        why = f"{words(change.state)}; write the next revision or cancel it"
    return {
        "title": change.title,
        "url": change.get_absolute_url(),
        "number": change.number,
        "state": change.state,
        "why": why,
        "updated_at": change.updated_at,
    }


def _waves(scope: Scope, running: Sequence[ChangeRequest]) -> dict[int, list[dict[str, Any]]]:
    """Count the targets of what runs, by wave and state, in one statement."""
    if not running:
        return {}
    rows = (
        access.visible(scope, RunTarget.objects.filter(run__change__in=running, run__kind=RunKind.ROLLOUT))
        .order_by("wave")
        .values_list("run__change", "wave", "state")
        .annotate(count=Count("pk"))
    )
    counted_by: dict[tuple[int, int], dict[str, int]] = {}
    for change_id, wave, state, count in rows:
        counted_by.setdefault((change_id, wave), {})[state] = count
    found: dict[int, list[dict[str, Any]]] = {}
    for (change_id, wave), counts in counted_by.items():
        total = sum(counts.values())
        done = sum(count for state, count in counts.items() if state in DONE)
        summary = ", ".join(f"{count} {words(state)}" for state, count in counts.items())
        found.setdefault(change_id, []).append(
            {
                "label": f"Wave {wave}",
                "total": total,
                "counts": counts,
                "note": f"{done} of {total}",
                "summary": summary,
                "done": done,
            }
        )
    return found


def _running(change: ChangeRequest, waves: Sequence[dict[str, Any]]) -> dict[str, Any]:
    done, total = sum(one["done"] for one in waves), sum(one["total"] for one in waves)
    return {
        "title": change.title,
        "url": f"{change.get_absolute_url()}#run",
        "number": change.number,
        "meta": f"{change.tenant} · {counted(change.store_count, 'store')} · {share_of(change):.0%} of sales",
        "state": change.state,
        "waves": list(waves),
        "healthy": f"{done} of {counted(total, 'target')}" if total else "being prepared",
        "started_at": change.started_at,
    }


def _alarm(alarm: Alarm) -> dict[str, Any]:
    state = alarm.run.state if alarm.run else ""
    return {
        "tone": "bad" if state == "rollback_failed" else "warn",
        "icon": "alert-circle" if state == "rollback_failed" else "player-pause",
        "title": f"{alarm.change.number} {alarm.change.title}",
        "text": alarm.sentence,
        "url": f"{alarm.change.get_absolute_url()}#run",
        "link": "Look",
    }


def _notice(notice: Notice) -> dict[str, Any]:
    return {
        "tone": "bad" if notice.is_bad else "warn",
        "icon": "alert-circle" if notice.is_bad else "alert-triangle",
        "title": notice.title,
        "text": notice.text,
        "url": notice.path,
        "link": "Look",
    }


def _next_of_each(spans: Sequence[Span]) -> list[Span]:
    """Return the next opening of each window in each zone."""
    found: dict[tuple[str, str, str], Span] = {}
    for span in spans:
        found.setdefault((span.name, span.scope, span.zone), span)
    return list(found.values())[:SHOWN]


def _opening(span: Span, *, at: datetime) -> dict[str, Any]:
    is_open = span.starts_at <= at
    return {
        "name": span.name,
        "where": span.scope,
        "state": "open" if is_open else "window",
        "starts_at": span.starts_at,
        "ends_at": span.ends_at,
        "zone": span.zone,
        "length": span.ends_at - span.starts_at,
        "starts_in": None if is_open else span.starts_at - at,
    }


def _freeze(freeze: Freeze, *, at: datetime) -> dict[str, Any]:
    holds = freeze.starts_at <= at
    return {
        "name": freeze.name,
        "where": scope_words(freeze),
        "state": "freeze",
        "starts_at": freeze.starts_at,
        "ends_at": freeze.ends_at,
        "zone": "",
        "length": freeze.ends_at - freeze.starts_at,
        "starts_in": None if holds else freeze.starts_at - at,
    }
