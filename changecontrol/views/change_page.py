"""Everything the page of one change says, put together once, for the whole page and for its fragments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from changecontrol import access, clock
from changecontrol.lifecycles.change import MAIN_PATH, ChangeState
from changecontrol.models import Artefact, ChangeRequest, User
from changecontrol.queries.changes import change_by_number
from changecontrol.rules.content import Content
from changecontrol.rules.roles import Ability
from changecontrol.views.approval_facts import Approvals, approvals_of, decision_of, gate_reason, with_reason
from changecontrol.views.difference import compare
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.fit import window_fit
from changecontrol.views.gate_facts import Gates, gates_of
from changecontrol.views.lifecycle import steps_for, way_on
from changecontrol.views.plan_facts import plan_pairs, plan_words, risk_rows, rollback_facts, waves_of
from changecontrol.views.timeline import timeline_of
from changecontrol.views.wording import counted, share_of, words

BEFORE_RUN = frozenset(MAIN_PATH[: MAIN_PATH.index(ChangeState.IMPLEMENTING)])


def change_of(request: HttpRequest, number: str) -> ChangeRequest:
    """Return a change in sight. Raises `NotFound`."""
    return change_by_number(scope_for(request), number)


def page_facts(request: HttpRequest, change: ChangeRequest, *, against: int | None = None) -> dict[str, Any]:
    """Return the facts of the whole page."""
    at = clock.now()
    scope = scope_for(request)
    content = Content.from_json(change.revision.content if change.revision else change.draft)
    document = change.plan.content if change.plan else {}
    timeline, event_count = timeline_of(change)
    artefacts = list(access.visible(scope, Artefact.objects.filter(change=change)).order_by("id"))
    comparison = compare(change, against=against)
    run_url = fragment_url(change)
    facts: dict[str, Any] = {
        **live_facts(request, change, at=at),
        "head": _head(change),
        "plan_sentence": plan_words(change, content),
        "plan_description": content.description,
        "plan_pairs": plan_pairs(content, document),
        "waves": waves_of(content, document),
        "risk_rows": risk_rows(content),
        "comparison": comparison,
        "rollback": rollback_facts(content, document),
        "fit": window_fit(change, content, at=at) if change.state in BEFORE_RUN else None,
        "artefacts": artefacts,
        "artefact_size": sum(one.size for one in artefacts),
        "may_export": Ability.EVIDENCE_EXPORT in access.abilities_for(scope, change),
        "timeline": timeline,
        "event_count": event_count,
        "run_url": run_url,
        "way_on": way_on(change),
    }
    return facts | {"sections": _sections(facts)}


def live_facts(request: HttpRequest, change: ChangeRequest, *, at: datetime) -> dict[str, Any]:
    """Return what changes under a reader's eyes: status, gates, approvals and the decision."""
    assert isinstance(request.user, User)
    gates = gates_of(change, at=at)
    approvals = approvals_of(change, viewer_id=request.user.pk, at=at)
    return {
        "change": change,
        "at": at,
        "reached": _reached(change),
        "gates": gates,
        "approvals": approvals,
        "decision": _decision(request, change, gates, approvals, at=at),
        "left": change.planned_start_at - at if change.planned_start_at and change.planned_start_at > at else None,
        "head_subject": f"revision {change.revision.number}" if change.revision else "",
        "steps": steps_for(change, scope=scope_for(request)),
    }


def fragment_url(change: ChangeRequest) -> str:
    """Return where the app that carries changes out shows the run of this one; empty where none does."""
    if change.state in BEFORE_RUN and change.state != ChangeState.SCHEDULED:
        return ""
    try:
        return reverse("change-run", args=[change.number])
    except NoReverseMatch:
        return ""


def _decision(request: HttpRequest, change: ChangeRequest, gates: Gates, approvals: Approvals, *, at: datetime) -> Any:
    found = decision_of(change, approvals.docket, actor=actor_of(request), scope=scope_for(request), at=at)
    if found is None or found.kind not in {"vote", "confirm"}:
        return found
    return with_reason(found, [gate_reason(gates.passing, gates.total)])


def _reached(change: ChangeRequest) -> str:
    """Return the step that an aside state left, as far as the row tells."""
    if change.state in {ChangeState.REJECTED, ChangeState.EXPIRED}:
        return str(ChangeState.AUTHORIZE)
    if change.state in {ChangeState.ON_HOLD, ChangeState.CANCELED}:
        return str(
            ChangeState.AUTHORIZE if change.plan_id else ChangeState.SUBMITTED if change.revision_id else "draft"
        )
    return ""


def _head(change: ChangeRequest) -> dict[str, Any]:
    tags = [f"Tier {change.tier}"] if change.revision_id else []
    if change.stage:
        tags.append(words(change.stage))
    if change.plan and (name := change.plan.content.get("rollback", {}).get("class")):
        tags.append(str(name))
    if change.risk_level:
        tags.append(f"{words(change.risk_level)} risk, {change.risk_score} points")
    reach = f"{counted(change.store_count, 'store')} · {share_of(change):.0%} of sales" if change.revision_id else ""
    return {
        "revision": f"revision {change.revision.number}" if change.revision else "draft",
        "kind": f"{words(change.type)}, {words(change.kind)}",
        "tags": tags,
        "reach": reach.replace("%", "\N{NO-BREAK SPACE}%"),
    }


def _sections(facts: dict[str, Any]) -> list[dict[str, Any]]:
    comparison, approvals = facts["comparison"], facts["approvals"]
    found = [
        {"label": "Plan", "url": "#plan", "is_current": True},
        {"label": "Difference", "url": "#difference", "count": comparison.count or None}
        if comparison.before or comparison.files
        else None,
        {"label": "Gates", "url": "#gates", "count": facts["gates"].total or None},
        {"label": "Approvals", "url": "#approvals", "count": approvals.count or None},
        {"label": "Run", "url": "#run"} if facts["run_url"] else None,
        {"label": "Rollback", "url": "#rollback"},
        {"label": "Window fit", "url": "#fit"} if facts["fit"] else None,
        {"label": "Evidence", "url": "#evidence", "count": len(facts["artefacts"]) or None},
        {"label": "Timeline", "url": "#timeline"},
    ]
    return [one for one in found if one]
