"""The approval queue, and the votes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from changecontrol import access, clock
from changecontrol.actions import approvals as actions
from changecontrol.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from changecontrol.forms.approvals import QueueForm, VoteForm, WithdrawForm
from changecontrol.models import ChangeRequest, Requirement
from changecontrol.models.approval import VoteVerdict
from changecontrol.queries.changes import change_by_number
from changecontrol.queries.queue import Awaiting, Place, changes_awaiting
from changecontrol.rules.approvals import StageStatus
from changecontrol.rules.content import Content
from changecontrol.views.change_page import live_facts, page_facts
from changecontrol.views.edge import STATUS, actor_of, scope_for
from changecontrol.views.gate_facts import counts_of
from changecontrol.views.pages import page
from changecontrol.views.plan_facts import CLASS_WORDS, plan_words
from changecontrol.views.wording import duration, share_of, words

URGENT = timedelta(hours=1)
SAID = {"approve": "approved", "reject": "rejected", "abstain": "abstained from"}


@page
@require_safe
def approvals(request: HttpRequest) -> HttpResponseBase:
    """Show what waits for a decision: mine first, then why not (APR-15)."""
    scope = scope_for(request)
    waiting = changes_awaiting(actor_of(request), scope, at=clock.now())
    tenants = sorted({(one.change.tenant.slug, one.change.tenant.name) for one in waiting}, key=lambda one: one[1])
    form = QueueForm(request.GET)
    form.is_valid()
    tenant, order = form.cleaned_data.get("tenant", ""), form.cleaned_data.get("order") or "time"
    shown = _in_order([one for one in waiting if not tenant or one.change.tenant.slug == tenant], order)
    mine, others = [one for one in shown if one.is_mine], [one for one in shown if not one.is_mine]
    context = {
        "mine": [queue_item(one) for one in mine],
        "others": [queue_item(one) for one in others],
        "title": "Approvals",
        "lede": _lede(mine),
        "tenants": tenants,
        "tenant": tenant,
        "order": order,
        "orders": QueueForm.ORDERS,
        "tabs": [
            {"label": "Waiting for you", "url": "#mine", "count": len(mine), "is_current": True},
            {"label": "Not yours to approve", "url": "#others", "count": len(others)},
        ],
    }
    return render(request, "changecontrol/approvals.html", context)


def _lede(mine: Sequence[Awaiting]) -> str:
    if not mine:
        return "Nothing waits for your vote. Changes that need it appear here, least time left first."
    verb = "waits" if len(mine) == 1 else "wait"
    return f"{len(mine)} {verb} for your vote. What is approved after its planned start needs a new one."


def _in_order(rows: Sequence[Awaiting], order: str) -> list[Awaiting]:
    if order == "sales":
        return sorted(rows, key=lambda one: -one.change.sales_share)
    if order == "tier":
        return sorted(rows, key=lambda one: one.change.tier)
    return list(rows)


def queue_item(one: Awaiting) -> dict[str, Any]:
    """Return one change of the queue as `components/queue_item.html` wants it."""
    change = one.change
    content = Content.from_json(change.revision.content)
    counts = counts_of(gate.verdict for gate in one.gates)
    place = _best_place(one.places)
    risk_class = str((change.plan.content.get("rollback") or {}).get("class", "")) if change.plan else ""
    return {
        "title": change.title,
        "url": change.get_absolute_url(),
        "number": change.number,
        "meta": f"{words(change.type)}, {words(change.kind)} · asked by {change.requester} · {change.tenant} · "
        f"round {one.docket.round.number}, revision {change.revision.number}",
        "summary": plan_words(change, content),
        "store_count": change.store_count,
        "share": share_of(change),
        "gate_counts": [{"verdict": verdict, "count": count} for verdict, count in counts],
        "gate_note": f"oldest {duration(max(gate.age for gate in one.gates))}" if one.gates else "not judged",
        "results": list(one.results),
        "results_summary": results_words(one.results),
        "left": one.time_left if one.time_left and one.time_left > timedelta() else None,
        "by": one.decide_by,
        "is_late": bool(one.time_left is not None and one.time_left <= timedelta()),
        "is_urgent": bool(one.time_left and one.time_left < URGENT),
        "tag": " · ".join(part for part in (risk_class, f"Tier {change.tier}") if part),
        "tag_note": CLASS_WORDS.get(risk_class, f"{words(change.risk_level)} risk"),
        "may": one.is_mine,
        "refusal": _refusal(place),
        "place": _place_words(place) if one.is_mine and place else "",
    }


def results_words(results: Sequence[str]) -> str:
    return ", ".join(f"{count} {words(code)}" for code, count in counts_of(results))


def _best_place(places: Sequence[Place]) -> Place | None:
    """Return the place that tells the person most: one they may fill, else one that is theirs, else the first."""
    ranked = sorted(places, key=lambda one: (not one.may_vote, not one.is_mine))
    return ranked[0] if ranked else None


def _refusal(place: Place | None) -> dict[str, str]:
    if place is None:
        return {"title": "Nobody is asked.", "text": ""}
    if place.my_vote is not None and place.is_mine:
        return {"title": "You have voted.", "text": place.why_not}
    if place.is_mine and place.stage_status is StageStatus.WAITING:
        text = f"“{place.requirement.name}” opens when the stages before it are complete."
        return {"title": "An earlier stage is open.", "text": text}
    return {"title": place.why_not, "text": ""}


def _place_words(place: Place) -> str:
    standing = place.standing
    role = words(place.requirement.role)
    return f"As {role}, {standing.filled_count} of {standing.requirement.quorum}."


@page
@require_POST
def vote(request: HttpRequest, requirement_id: int) -> HttpResponseBase:
    """Cast a vote on exactly the plan the person saw."""
    change = _change_of(request, requirement_id)
    form = VoteForm(request.POST)
    if not form.is_valid():
        return _refused(request, change, Invalid("This vote cannot be read. Load the page again and decide there."))
    given = form.cleaned_data
    try:
        actions.cast_vote(
            actor=actor_of(request),
            requirement_id=requirement_id,
            verdict=given["verdict"],
            seen_digest=given["seen_digest"],
            comment=given["comment"],
            at=clock.now(),
        )
    except (Conflict, Forbidden, Invalid) as refusal:
        return _refused(request, change, refusal)
    return _done(request, change, f"You {SAID[given['verdict']]} this plan.")


@page
@require_POST
def withdraw(request: HttpRequest, requirement_id: int) -> HttpResponseBase:
    """Take a vote back, with the reason."""
    change = _change_of(request, requirement_id)
    form = WithdrawForm(request.POST)
    comment = form.cleaned_data["comment"] if form.is_valid() else ""
    try:
        actions.withdraw_vote(actor=actor_of(request), requirement_id=requirement_id, comment=comment, at=clock.now())
    except (Conflict, Forbidden, Invalid) as refusal:
        return _refused(request, change, refusal)
    return _done(request, change, "Your vote is withdrawn.")


def _change_of(request: HttpRequest, requirement_id: int) -> ChangeRequest:
    rows = access.visible(scope_for(request), Requirement.objects.select_related("round__change"))
    requirement = rows.filter(pk=requirement_id).first()
    if requirement is None:
        raise NotFound("There is no such approval requirement.")
    return requirement.round.change


def _done(request: HttpRequest, change: ChangeRequest, sentence: str) -> HttpResponse:
    messages.success(request, sentence)
    if not request.headers.get("HX-Request"):
        return redirect(f"{change.get_absolute_url()}#approvals")
    return _fragment(request, change)


def _refused(request: HttpRequest, change: ChangeRequest, refusal: DomainError) -> HttpResponse:
    """Answer with the card as it is now and the sentence: 409 where the plan is another, 422, or 403."""
    status = STATUS[type(refusal)]
    if request.headers.get("HX-Request"):
        response = _fragment(request, change, refusal=refusal.sentence, status=status)
        if status == 403:
            # htmx swaps no 403; the sentence is said instead.
            response["HX-Trigger"] = json.dumps({"cc:say": refusal.sentence})
        return response
    fresh = change_by_number(scope_for(request), change.number)
    facts = page_facts(request, fresh) | _kept(request, refusal.sentence)
    return render(request, "changecontrol/change.html", facts, status=status)


def _kept(request: HttpRequest, refusal: str) -> dict[str, Any]:
    """Return why a try was refused and what was typed for it: a fresh card must not cost anybody their words."""
    if not refusal:
        return {}
    return {
        "vote_refusal": refusal,
        "typed": request.POST.get("comment", "").strip(),
        "rejecting": request.POST.get("verdict") == VoteVerdict.REJECT,
    }


def _fragment(request: HttpRequest, change: ChangeRequest, *, refusal: str = "", status: int = 200) -> HttpResponse:
    fresh = change_by_number(scope_for(request), change.number)
    facts = live_facts(request, fresh, at=clock.now()) | _kept(request, refusal)
    return render(request, "changecontrol/change_voted.html", facts, status=status)
