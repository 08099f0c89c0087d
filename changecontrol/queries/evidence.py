"""Everything known of one change, in the words of its evidence pack. Nothing depends on when it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count

from changecontrol.events import Tag
from changecontrol.models import (
    ApprovalRound,
    Artefact,
    AuditEvent,
    ChangeRequest,
    Contributor,
    GateResult,
    Plan,
    Revision,
    Run,
    RunTarget,
    Vote,
)

OF_SINGLE_TARGETS = (Tag.TARGET_MOVED, Tag.OBJECT_APPLIED, Tag.OBJECT_PRUNED)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The events of a change as its report tells them, and how many it only counts."""

    events: tuple[dict[str, Any], ...]
    left_out: int


def moment(value: datetime | None) -> str | None:
    """Return ISO 8601 with an offset."""
    return value.isoformat(timespec="microseconds") if value else None


def change_facts(change: ChangeRequest) -> dict[str, Any]:
    """Return what `change.json` says: what was asked, by whom, for what, and how it ended."""
    contributors = Contributor.objects.filter(change=change).select_related("user").order_by("id")
    return {
        "number": change.number,
        "tenant": change.tenant.slug,
        "title": change.title,
        "type": change.type,
        "kind": change.kind,
        "is_retrospective": change.is_retrospective,
        "state": change.state,
        "close_code": change.close_code,
        "close_note": change.close_note,
        "hold_reason": change.hold_reason,
        "requester": change.requester.username,
        "assignee": change.assignee.username if change.assignee else None,
        "stage": change.stage,
        "tier": change.tier,
        "risk": {"score": change.risk_score, "level": change.risk_level},
        "stores": change.store_count,
        "sales_share_percent": str(change.sales_share),
        "environments": list(change.environments.order_by("slug").values_list("slug", flat=True)),
        "times": {
            name: moment(getattr(change, name))
            for name in (
                "created_at",
                "submitted_at",
                "authorized_at",
                "planned_start_at",
                "planned_end_at",
                "started_at",
                "finished_at",
                "closed_at",
            )
        },
        "contributors": [
            {
                "who": row.user.username if row.user else row.email,
                "contribution": row.contribution,
                "at": moment(row.at),
            }
            for row in contributors
        ],
        "plan_digest": change.plan.digest if change.plan else None,
    }


def plan_facts(change: ChangeRequest) -> list[dict[str, Any]]:
    """Return every revision with its plans, oldest first."""
    plans: dict[int, list[Plan]] = {}
    for plan in Plan.objects.filter(revision__change=change).order_by("id"):
        plans.setdefault(plan.revision_id, []).append(plan)
    return [
        {
            "revision": revision.number,
            "author": revision.author.username,
            "created_at": moment(revision.created_at),
            "content": revision.content,
            "plans": [
                {"digest": plan.digest, "created_at": moment(plan.created_at)} for plan in plans.get(revision.pk, [])
            ],
        }
        for revision in Revision.objects.filter(change=change).select_related("author").order_by("number")
    ]


def plan_documents(change: ChangeRequest) -> Iterator[tuple[str, bytes]]:
    """Yield each plan as the bytes its digest is taken of."""
    for plan in Plan.objects.filter(revision__change=change).order_by("id"):
        yield plan.digest, plan.document.encode()


def gate_facts(change: ChangeRequest) -> list[dict[str, Any]]:
    """Return every verdict ever given, oldest first (GATE-1)."""
    return [
        {
            "gate": result.gate,
            "name": result.name,
            "verdict": result.verdict,
            "sentence": result.sentence,
            "judged": {"what": result.judged_what, "digest": result.judged},
            "tool": {"name": result.tool, "version": result.tool_version},
            "database_at": moment(result.database_at),
            "at": moment(result.at),
            "expires_at": moment(result.expires_at),
            "artefact_sha256": result.artefact_sha256 or None,
            "revision": result.revision.number,
        }
        for result in GateResult.objects.filter(change=change).select_related("revision").order_by("id")
    ]


def round_facts(change: ChangeRequest) -> list[dict[str, Any]]:
    """Return every approval round with the policy as it was copied, oldest first."""
    rounds = ApprovalRound.objects.filter(change=change).select_related("revision", "policy")
    return [
        {
            "round": asked.number,
            "revision": asked.revision.number,
            "policy": {"slug": asked.policy.slug, "version": asked.policy.version, "content": asked.policy_content},
            "state": asked.state,
            "opened_at": moment(asked.opened_at),
            "ended_at": moment(asked.ended_at),
        }
        for asked in rounds.order_by("number")
    ]


def vote_facts(change: ChangeRequest) -> list[dict[str, Any]]:
    """Return every vote ever cast, oldest first (APR-7)."""
    votes = Vote.objects.filter(requirement__round__change=change).select_related(
        "voter", "acting_for", "requirement__round"
    )
    return [
        {
            "round": vote.requirement.round.number,
            "stage": vote.requirement.stage_name,
            "requirement": vote.requirement.name,
            "role": vote.requirement.role,
            "voter": vote.voter.username,
            "acting_for": vote.acting_for.username if vote.acting_for else None,
            "verdict": vote.verdict,
            "plan_digest": vote.plan_digest,
            "comment": vote.comment,
            "at": moment(vote.at),
            "zone": vote.zone,
            "authentication": vote.authentication,
            "authenticated_at": moment(vote.authenticated_at),
            "source_address": vote.source_address,
        }
        for vote in votes.order_by("id")
    ]


def run_facts(change: ChangeRequest) -> list[dict[str, Any]]:
    """Return every run with how its targets ended, oldest first."""
    runs = Run.objects.filter(change=change).annotate(target_count=Count("targets")).order_by("id")
    states = RunTarget.objects.filter(run__change=change).values_list("run", "state").annotate(count=Count("pk"))
    found: dict[int, dict[str, int]] = {}
    for run_id, state, count in states.order_by("run", "state"):
        found.setdefault(run_id, {})[state] = count
    return [
        {
            "kind": run.kind,
            "state": run.state,
            "sentence": run.sentence,
            "targets": found.get(run.pk, {}),
            "times": {
                name: moment(getattr(run, name))
                for name in (
                    "started_at",
                    "detected_at",
                    "rollback_decided_at",
                    "rollback_started_at",
                    "rollback_serving_at",
                    "rollback_verified_at",
                    "finished_at",
                )
            },
        }
        for run in runs
    ]


def artefacts(change: ChangeRequest) -> list[Artefact]:
    return list(Artefact.objects.filter(change=change).order_by("id"))


def event_lines(change: ChangeRequest) -> list[dict[str, Any]]:
    """Return the change's audit events, chain by chain, as `verify.py` reads them."""
    events = AuditEvent.objects.filter(change=change).order_by("subject", "sequence")
    return [
        {
            "subject": event.subject,
            "sequence": event.sequence,
            "previous_hash": bytes(event.previous_hash).hex(),
            "hash": bytes(event.hash).hex(),
            "body": event.body,
        }
        for event in events.iterator()
    ]


def timeline(change: ChangeRequest) -> Timeline:
    """Return what happened to the change, oldest first, for the report.

    What happened to single targets and objects grows with the rollout, and is counted: printed, 500 targets took half
    a minute and 400 MB. `events.ndjson` has every event.
    """
    events = AuditEvent.objects.filter(change=change)
    told = events.exclude(tag__in=OF_SINGLE_TARGETS).order_by("id").values_list("body", flat=True)
    return Timeline(
        events=tuple(json.loads(body) for body in told),
        left_out=events.filter(tag__in=OF_SINGLE_TARGETS).count(),
    )
