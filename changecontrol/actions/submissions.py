"""Submitting and revising: all that is wrong is said at once, and what is right becomes an immutable revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import locked_change, move, sight_of
from changecontrol.actions.refusals import audited
from changecontrol.errors import Invalid
from changecontrol.events import Tag
from changecontrol.lifecycles.change import CHANGE, ChangeKind, ChangeState
from changecontrol.models import ApprovalPolicy, ChangeRequest, Contributor, Environment, Revision
from changecontrol.models.change import Contribution
from changecontrol.queries import approvals, estate, windows
from changecontrol.queries.estate import Reach
from changecontrol.queries.runs import has_drifted
from changecontrol.rules.content import Content, propose_waves
from changecontrol.rules.content_problems import planned_start_of, problems
from changecontrol.rules.risk import Risk, RiskFacts, assess_risk, inherited_tier
from changecontrol.rules.roles import Ability


@dataclass(frozen=True, slots=True)
class Submission:
    """What came of submitting. `warnings` are sentences that stop nothing yet, such as a closed window (WIN-5)."""

    change: ChangeRequest
    revision: Revision
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Findings:
    """A content that holds, with what the estate says about it."""

    content: Content
    environments: tuple[Environment, ...]
    stage: str
    tier: int
    reach: Reach
    risk: Risk
    policy: ApprovalPolicy


@audited
@transaction.atomic
def submit_change(*, actor: Actor, change_id: int, at: datetime) -> Submission:
    """Submit a draft, or what was rejected or expired, for assessment.

    The answers of the draft become the next revision. Raises `Invalid` with everything that is wrong, by field; the
    key `approval` says that the policy cannot be fulfilled and who can mend that (APR-12).
    """
    change = locked_change(actor, change_id)
    verb = "resubmit" if change.state in {ChangeState.REJECTED, ChangeState.EXPIRED} else "submit"
    CHANGE.target(verb, change.state)
    access.require(actor, Ability.CHANGE_SUBMIT, change)
    return _submit(change, Content.from_json(change.draft), verb=verb, actor=actor, at=at, submitted_at=at)


@audited
@transaction.atomic
def revise_change(*, actor: Actor, change_id: int, content: Mapping[str, Any], at: datetime) -> Submission:
    """Replace what a change asks for, before its execution; it is resolved and judged from the start.

    The policy stays in the version of the submission (APR-4). Votes are untouched: they count again where the new plan
    has the same digest, and are stale where it has not (APR-8).
    """
    change = locked_change(actor, change_id)
    CHANGE.target("revise", change.state)
    access.require(actor, Ability.CHANGE_EDIT, change)
    asked = Content.from_json(content)
    # After plan drift the same words mean something else: they are resolved, judged and approved anew.
    if asked == Content.from_json(change.revision.content) and not has_drifted(change):
        raise Invalid("This revision changes nothing.")
    return _submit(change, asked, verb="revise", actor=actor, at=at, submitted_at=change.submitted_at or at)


def add_contributor(change: ChangeRequest, contribution: Contribution, *, user_id: int, at: datetime) -> None:
    """Remember for good that somebody had a hand in a change (APR-2)."""
    Contributor.objects.get_or_create(
        change=change, user_id=user_id, email="", contribution=contribution, defaults={"at": at}
    )


def _submit(
    change: ChangeRequest, content: Content, *, verb: str, actor: Actor, at: datetime, submitted_at: datetime
) -> Submission:
    found = _examine(change, content, actor=actor, at=at, submitted_at=submitted_at)
    change.environments.set(found.environments)
    # The move names environments the person may hold no role on: the rights are asked again for what it reaches now.
    access.require(actor, Ability.CHANGE_EDIT if verb == "revise" else Ability.CHANGE_SUBMIT, change)
    revision = _write_revision(change, found.content, actor=actor, at=at)
    planned = planned_start_of(found.content)
    before = move(
        change,
        verb,
        at=at,
        title=found.content.title.strip(),
        draft=found.content.to_json(),
        draft_version=change.draft_version + 1,
        revision=revision,
        plan=None,
        problem="",
        hold_reason="",
        stage=found.stage,
        tier=found.tier,
        risk_score=found.risk.score,
        risk_level=str(found.risk.level),
        store_count=found.reach.store_count,
        sales_share=found.reach.sales_share,
        submitted_at=submitted_at,
        authorized_at=None,
        approval_expires_at=None,
        planned_start_at=planned,
        planned_end_at=None,
    )
    warnings = _window_warnings(change, found.content, at=max(planned or at, at))
    audit.record(
        Tag.CHANGE_REVISED if verb == "revise" else Tag.CHANGE_SUBMITTED,
        subject=change,
        actor=actor,
        at=at,
        data={
            "from": before,
            "revision": revision.number,
            "environments": [one.slug for one in found.environments],
            "policy": {"slug": found.policy.slug, "version": found.policy.version},
            "risk": {"score": found.risk.score, "level": str(found.risk.level)},
            "tier": found.tier,
            "warnings": list(warnings),
        },
    )
    wiring.nudge("assessment")
    return Submission(change=change, revision=revision, warnings=warnings)


def _examine(
    change: ChangeRequest, content: Content, *, actor: Actor, at: datetime, submitted_at: datetime
) -> _Findings:
    fields = problems(content, kind=change.kind)
    named = estate.environments_named(sight_of(actor), tenant_id=change.tenant_id, slugs=content.environments)
    environments = tuple(named[slug] for slug in dict.fromkeys(content.environments) if slug in named)
    for slug in content.environments:
        if slug not in named:
            # One of another tenant, or out of sight, reads exactly like one that does not exist.
            fields.setdefault("environments", []).append(f"There is no environment called “{slug}” in {change.tenant}.")
    content = content if content.waves else _with_waves(content, environments, kind=change.kind)
    if sentences := _cohort_problems(content, named):
        fields.setdefault("waves", []).extend(sentences)
    tier = inherited_tier([estate.tier_of(one) for one in environments])
    stage = estate.strictest_stage([one.stage for one in environments])
    reach = estate.reach_of(environments, named=content.reach)
    risk = assess_risk(
        content.risk_answers,
        facts=RiskFacts(
            tier=tier,
            environment_stage=stage,
            store_count=reach.store_count,
            sales_share=float(reach.sales_share) / 100,
        ),
    )
    policy = None
    if environments:
        policy, sentences = _choose_policy(
            change, environments, risk=risk, actor=actor, at=at, submitted_at=submitted_at
        )
        if sentences:
            fields["approval"] = sentences
    if fields or policy is None:
        count = len(fields)
        needs = "1 answer needs" if count == 1 else f"{count} answers need"
        raise Invalid(f"{needs} another look before this can be submitted.", fields=fields)
    return _Findings(
        content=content, environments=environments, stage=stage, tier=tier, reach=reach, risk=risk, policy=policy
    )


def _choose_policy(
    change: ChangeRequest,
    environments: Sequence[Environment],
    *,
    risk: Risk,
    actor: Actor,
    at: datetime,
    submitted_at: datetime,
) -> tuple[ApprovalPolicy | None, list[str]]:
    policy = approvals.choose_policy(
        change.tenant_id, environments=environments, change_type=change.type, risk=str(risk.level), at=submitted_at
    )
    if policy is None:
        return None, ["No approval policy fits this change. A tenant administrator can publish one."]
    # Whoever submits becomes a contributor by that, and so cannot be counted on for a vote.
    barred = {str(actor.person.pk)}
    rule = approvals.rule_of(policy)
    return policy, list(approvals.infeasible(rule, change=change, environments=environments, barred=barred, at=at))


def _with_waves(content: Content, environments: Sequence[Environment], *, kind: str) -> Content:
    slugs = [one.slug for one in environments]
    if kind == ChangeKind.RESTORE:
        # A pilot would take orders into another database than the rest while it bakes.
        return replace(content, waves=propose_waves(slugs, pilots=[], pilot_environments=[]))
    cohorts = {one.slug: one.is_pilot for environment in environments for one in environment.cohorts.all()}
    pilots = sorted(slug for slug, is_pilot in cohorts.items() if is_pilot)
    serving_pilots = [one.slug for one in environments if any(cohort.is_pilot for cohort in one.cohorts.all())]
    waves = propose_waves(slugs, pilots=pilots, pilot_environments=serving_pilots)
    return replace(content, waves=waves)


def _cohort_problems(content: Content, named: Mapping[str, Environment]) -> list[str]:
    sentences: list[str] = []
    for wave in content.waves:
        served = {cohort.slug for slug in wave.environments if slug in named for cohort in named[slug].cohorts.all()}
        sentences.extend(
            f"“{wave.name}” names the cohort “{slug}”, which none of its environments serves."
            for slug in wave.cohorts
            if slug not in served
        )
    return sentences


def _write_revision(change: ChangeRequest, content: Content, *, actor: Actor, at: datetime) -> Revision:
    person = actor.person
    last = change.revisions.aggregate(last=Max("number"))["last"] or 0
    add_contributor(change, Contribution.EDITED, user_id=person.pk, at=at)
    return Revision.objects.create(
        change=change, number=last + 1, author=person, created_at=at, content=content.to_json()
    )


def _window_warnings(change: ChangeRequest, content: Content, *, at: datetime) -> tuple[str, ...]:
    verdicts = windows.judge_change(change, at=at, content=content)
    return tuple(dict.fromkeys(one.sentence for one in verdicts if one.wave == 0 and not one.judgement.is_open))
