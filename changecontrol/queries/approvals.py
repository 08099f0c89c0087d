"""Who must agree, who may, and where a round stands: the rules' questions answered from the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Q

from changecontrol import access
from changecontrol.access import HolderBook
from changecontrol.lifecycles.approval import RoundState
from changecontrol.lifecycles.change import ENDED, EXECUTING, ChangeState
from changecontrol.models import (
    ApprovalPolicy,
    ApprovalRound,
    ChangeRequest,
    Contributor,
    Environment,
    Requirement,
    User,
    Vote,
)
from changecontrol.models.change import Contribution
from changecontrol.queries.estate import tier_of
from changecontrol.rules import approvals, policies
from changecontrol.rules.approvals import Hearing, Involvement, Standing, Voter
from changecontrol.rules.policies import Match, Policy, PolicyFacts
from changecontrol.rules.policy_json import policy_from_json
from changecontrol.rules.roles import Role

LIVE = (RoundState.OPEN, RoundState.GRANTED)


@dataclass(frozen=True, slots=True)
class Docket:
    """One round as the rules see it, and the people and rows behind their keys."""

    round: ApprovalRound
    requirements: tuple[Requirement, ...]
    votes: tuple[Vote, ...]
    hearing: Hearing
    people: dict[str, User]

    @property
    def standing(self) -> Standing:
        hearing = self.hearing
        return approvals.standing(hearing.policy, votes=hearing.votes, digest=hearing.digest, eligible=hearing.eligible)


def policies_in_force(tenant_id: int, *, at: datetime) -> list[ApprovalPolicy]:
    """Return, of each policy of the tenant and the platform, the version that was newest then (APR-4)."""
    return list(
        ApprovalPolicy.objects.filter(Q(tenant__isnull=True) | Q(tenant=tenant_id), created_at__lte=at)
        .order_by("tenant_id", "slug", "-version")
        .distinct("tenant_id", "slug")
    )


def choose_policy(
    tenant_id: int, *, environments: Iterable[Environment], change_type: str, risk: str, at: datetime
) -> ApprovalPolicy | None:
    """Choose the policy of a change submitted at that time; None where one of its environments gets none.

    A tenant's own policy may ask for more than the platform's, never for less of any role: then the platform's holds.
    """
    facts = [
        PolicyFacts(environment_stage=one.stage, tier=tier_of(one), type=change_type, risk=risk) for one in environments
    ]
    rows = policies_in_force(tenant_id, at=at)
    own, shared = _select(rows, facts), _select([row for row in rows if row.tenant_id is None], facts)
    if own is None or shared is None:
        return own or shared
    return own if policies.asks_no_less(rule_of(own), than=rule_of(shared)) else shared


def policy_for(change: ChangeRequest) -> ApprovalPolicy | None:
    """Return the policy of a submitted change, in the version of its submission: the same whenever it is asked."""
    if change.submitted_at is None:
        return None
    environments = change.environments.prefetch_related("processes")
    return choose_policy(
        change.tenant_id,
        environments=environments,
        change_type=change.type,
        risk=change.risk_level,
        at=change.submitted_at,
    )


def rule_of(row: ApprovalPolicy) -> Policy:
    return policy_from_json(row.content, name=row.name, version=row.version)


def voter_of(user: User, *, roles: Iterable[Role], authenticated_at: datetime | None = None) -> Voter:
    """Return a person as the rules see them. A superuser's power is not among the roles that vote."""
    # allauth's manager, which the typed model does not know; `holder_book` has prefetched it.
    known: Any = user
    addresses = {user.email, *(one.email for one in known.emailaddress_set.all())}
    return Voter(
        person=str(user.pk),
        roles=frozenset(str(role) for role in roles if role is not Role.PLATFORM_ADMINISTRATOR),
        emails=frozenset(addresses - {""}),
        is_active=user.is_active,
        is_service_account=user.is_system or Role.EXECUTOR in roles,
        authenticated_at=authenticated_at,
    )


def involvement_of(change: ChangeRequest) -> Involvement:
    """Return everybody whose own work the change is. Prefetch `contributors` for lists (APR-1, APR-2)."""
    rows = list(change.contributors.all())
    authors = {Contribution.AUTHORED, Contribution.COMMITTED}
    return Involvement(
        requester=str(change.requester_id),
        contributors=_users(row for row in rows if row.contribution not in {*authors, Contribution.EXECUTES}),
        git_emails=frozenset(row.email for row in rows if row.email),
        git_accounts=_users(row for row in rows if row.contribution in authors),
        executors=_users(row for row in rows if row.contribution == Contribution.EXECUTES),
    )


def infeasible(
    policy: Policy, *, change: ChangeRequest, environments: Sequence[Environment], barred: Iterable[str], at: datetime
) -> tuple[str, ...]:
    """Say why a policy could never be fulfilled for this change, and who can mend it (APR-12)."""
    ids = [one.pk for one in environments]
    book = access.holder_book(tenant_ids=[change.tenant_id], environment_ids=ids, at=at)
    involvement = involvement_of(change)

    def holding(role: str) -> frozenset[int]:
        return book.holding(Role(role), tenant_id=change.tenant_id, environment_ids=ids)

    members = {one.role: {str(pk) for pk in holding(one.role)} for one in policy.requirements}
    voters = [voter_of(person, roles=()) for person in book.people.values()]
    menders = sorted(str(book.people[pk]) for pk in holding(Role.TENANT_ADMINISTRATOR))
    return policies.check_policy_feasible(
        policy,
        members=members,
        barred=approvals.barred_people(voters, involvement=involvement) | set(barred),
        menders=menders,
    )


def live_round(change: ChangeRequest) -> ApprovalRound | None:
    return change.rounds.filter(state__in=LIVE).select_related("policy").first()


def docket_of(change: ChangeRequest, *, round_: ApprovalRound, at: datetime) -> Docket:
    """Return one round of one change, read now."""
    ids = [one.pk for one in change.environments.all()]
    book = access.holder_book(tenant_ids=[change.tenant_id], environment_ids=ids, at=at)
    requirements = tuple(round_.requirements.all())
    votes = tuple(Vote.objects.filter(requirement__round=round_).select_related("voter", "acting_for").order_by("pk"))
    return build_docket(change, round_=round_, requirements=requirements, votes=votes, book=book)


def dockets_of(change: ChangeRequest, *, at: datetime) -> tuple[Docket, ...]:
    """Return every round of one change, oldest first, however many in the same number of statements."""
    rounds = list(change.rounds.select_related("policy", "revision").prefetch_related("requirements"))
    if not rounds:
        return ()
    ids = [one.pk for one in change.environments.all()]
    book = access.holder_book(tenant_ids=[change.tenant_id], environment_ids=ids, at=at)
    votes = list(
        Vote.objects.filter(requirement__round__change=change).select_related("voter", "acting_for").order_by("pk")
    )
    return tuple(
        build_docket(
            change,
            round_=one,
            requirements=list(one.requirements.all()),
            votes=[vote for vote in votes if vote.requirement_id in {row.pk for row in one.requirements.all()}],
            book=book,
        )
        for one in rounds
    )


def build_docket(
    change: ChangeRequest,
    *,
    round_: ApprovalRound,
    requirements: Sequence[Requirement],
    votes: Sequence[Vote],
    book: HolderBook,
) -> Docket:
    """Put a round together from rows already read; asks nothing where relations are prefetched."""
    ids = [one.pk for one in change.environments.all()]
    executors = book.holding(Role.EXECUTOR, tenant_id=change.tenant_id, environment_ids=ids)
    involvement = involvement_of(change)
    involvement = replace(involvement, executors=involvement.executors | {str(pk) for pk in executors})
    eligible: dict[str, frozenset[str]] = {}
    for requirement in requirements:
        held = book.holding(Role(requirement.role), tenant_id=change.tenant_id, environment_ids=ids)
        voters = [voter_of(book.people[pk], roles=(Role(requirement.role),)) for pk in held]
        eligible[str(requirement.pk)] = frozenset(str(pk) for pk in held) - approvals.barred_people(
            voters, involvement=involvement
        )
    hearing = Hearing(
        policy=_policy_of(round_, requirements),
        digest=change.plan.digest if change.plan else "",
        revision=change.revision.number if change.revision else 0,
        tier=change.tier,
        round_state=str(round_.state),
        involvement=involvement,
        votes=tuple(_vote(one) for one in votes),
        eligible=eligible,
        is_execution_started=change.state in {*EXECUTING, *ENDED, ChangeState.REVIEW},
    )
    people = {str(pk): person for pk, person in book.people.items()} | {str(one.voter_id): one.voter for one in votes}
    return Docket(round=round_, requirements=tuple(requirements), votes=tuple(votes), hearing=hearing, people=people)


def _select(rows: Sequence[ApprovalPolicy], facts: Sequence[PolicyFacts]) -> ApprovalPolicy | None:
    rules = [rule_of(row) for row in rows]
    chosen = policies.select_policy(rules, facts=facts)
    return next((row for row, rule in zip(rows, rules, strict=True) if rule is chosen), None)


def _policy_of(round_: ApprovalRound, requirements: Sequence[Requirement]) -> Policy:
    """Return the copied policy, its requirements keyed by their rows."""
    stages: dict[int, tuple[str, list[policies.Requirement]]] = {}
    for row in requirements:
        one = policies.Requirement(key=str(row.pk), role=row.role, quorum=row.quorum, name=row.name)
        stages.setdefault(row.stage, (row.stage_name, []))[1].append(one)
    return Policy(
        name=round_.policy.name,
        version=round_.policy.version,
        match=Match(),
        stages=tuple(policies.Stage(name, tuple(rows)) for _, (name, rows) in sorted(stages.items())),
        one_person_one_place=round_.policy_content.get("one_person_one_place", True),
    )


def _vote(row: Vote) -> approvals.Vote:
    return approvals.Vote(
        person=str(row.voter_id),
        requirement=str(row.requirement_id),
        verdict=approvals.Verdict(row.verdict),
        digest=row.plan_digest,
        sequence=row.pk,
        acting_for=str(row.acting_for_id or ""),
    )


def _users(rows: Iterable[Contributor]) -> frozenset[str]:
    return frozenset(str(row.user_id) for row in rows if row.user_id)
