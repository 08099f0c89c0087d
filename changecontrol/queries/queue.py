"""The approval queue (APR-15): what waits for a decision, what it would do, and whether this person may decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Prefetch, Q

from changecontrol import access
from changecontrol.access import Actor, Scope
from changecontrol.lifecycles.change import ENDED, ChangeState
from changecontrol.models import (
    ApprovalRound,
    ChangeRequest,
    Contributor,
    GateResult,
    Requirement,
    User,
    Vote,
)
from changecontrol.models.gate import Verdict as GateVerdict
from changecontrol.queries import approvals as reading
from changecontrol.queries.approvals import Docket
from changecontrol.rules import approvals
from changecontrol.rules.approvals import Ballot, RequirementStanding, StageStatus, Verdict
from changecontrol.rules.roles import Ability, Role

QUEUE_LIMIT = 100
RESULTS_COUNT = 10
RESULTS_READ = 2000


@dataclass(frozen=True, slots=True)
class GateAge:
    """A gate's newest verdict, and how long ago it was reached; past its time to live it is `stale`."""

    name: str
    verdict: str
    sentence: str
    age: timedelta


@dataclass(frozen=True, slots=True)
class Place:
    """One requirement as this person sees it. `why_not` is empty where they may vote; else it stands for the button."""

    requirement: Requirement
    standing: RequirementStanding
    stage_status: StageStatus
    is_mine: bool
    why_not: str
    my_vote: Vote | None

    @property
    def may_vote(self) -> bool:
        return not self.why_not


@dataclass(frozen=True, slots=True)
class Awaiting:
    """One change of the queue. `decide_by` is its planned start: approval after it forces a new schedule (APR-17)."""

    change: ChangeRequest
    docket: Docket
    gates: tuple[GateAge, ...]
    results: tuple[str, ...]
    waiting_since: datetime
    decide_by: datetime | None
    time_left: timedelta | None
    places: tuple[Place, ...]

    @property
    def is_mine(self) -> bool:
        """Tell whether the person may vote on any of its requirements."""
        return any(place.may_vote for place in self.places)


def changes_awaiting(actor: Actor, scope: Scope, *, at: datetime) -> tuple[Awaiting, ...]:
    """Return what waits for approval in sight, mine first, least time left first. Statements do not grow with it."""
    rounds = ApprovalRound.objects.filter(state__in=reading.LIVE).select_related("policy").order_by("pk")
    rows = (
        access.visible(scope, ChangeRequest.objects.filter(state=ChangeState.AUTHORIZE, authorized_at__isnull=True))
        .filter(_may_concern(scope))
        .select_related("tenant", "requester", "assignee", "revision", "plan")
        .prefetch_related(
            "environments",
            Prefetch("contributors", Contributor.objects.select_related("user")),
            Prefetch("rounds", rounds.prefetch_related("requirements")),
        )
        .order_by("pk")[:QUEUE_LIMIT]
    )
    changes = [one for one in rows if _concerns(scope, one) and one.rounds.all()]
    if not changes:
        return ()
    environments = {pk.pk for one in changes for pk in one.environments.all()}
    book = access.holder_book(tenant_ids={one.tenant_id for one in changes}, environment_ids=environments, at=at)
    votes = _votes(changes)
    gates = _gates(changes, at=at)
    results = _results(scope, changes, environments)
    person = User.objects.prefetch_related("emailaddress_set").get(pk=actor.person.pk)
    found = []
    for change in changes:
        round_ = change.rounds.all()[0]
        requirements = list(round_.requirements.all())
        cast = [one for row in requirements for one in votes.get(row.pk, [])]
        docket = reading.build_docket(
            change, round_=round_, requirements=requirements, votes=sorted(cast, key=lambda one: one.pk), book=book
        )
        decide_by = change.planned_start_at
        found.append(
            Awaiting(
                change=change,
                docket=docket,
                gates=gates.get(change.pk, ()),
                results=results.get(change.pk, ()),
                waiting_since=round_.opened_at,
                decide_by=decide_by,
                time_left=decide_by - at if decide_by else None,
                places=places_of(docket, change=change, person=person, scope=scope, at=at),
            )
        )
    far = timedelta.max
    return tuple(sorted(found, key=lambda one: (not one.is_mine, one.time_left or far, one.change.pk)))


def places_of(docket: Docket, *, change: ChangeRequest, person: User, scope: Scope, at: datetime) -> tuple[Place, ...]:
    """Say of each requirement whether this person may vote on it, or why not. Fresh proof is asked later."""
    roles = access.roles_on(scope, change)
    voter = reading.voter_of(person, roles=roles, authenticated_at=at)
    is_scoped = Ability.CHANGE_VOTE in scope.abilities(roles)
    standing = docket.standing
    places = []
    for requirement in docket.requirements:
        key = str(requirement.pk)
        ballot = Ballot(requirement=key, verdict=Verdict.APPROVE, seen_digest=docket.hearing.digest, comment="", at=at)
        mine = [one for one in docket.votes if one.requirement_id == requirement.pk and one.voter_id == person.pk]
        one = standing.of(key)
        refusal = approvals.check_eligible(voter, requirement=one.requirement, involvement=docket.hearing.involvement)
        is_mine = refusal is None
        refusal = refusal or approvals.check_vote(ballot, voter=voter, hearing=docket.hearing)
        why_not = refusal.sentence if refusal else ""
        if not why_not and not is_scoped:
            why_not = access.why_not(scope, Ability.CHANGE_VOTE)
        if not why_not and change.state != ChangeState.AUTHORIZE:
            why_not = "This change does not ask for a decision now."
        places.append(
            Place(
                requirement=requirement,
                standing=one,
                stage_status=standing.status_of(key),
                is_mine=is_mine,
                why_not=why_not,
                my_vote=mine[-1] if mine else None,
            )
        )
    return tuple(places)


def _may_concern(scope: Scope) -> Q:
    """Narrow to where the person holds a role that votes, so that the limit never hides what waits for them."""

    def votes(roles: Iterable[Role]) -> bool:
        return Ability.CHANGE_VOTE in scope.abilities(roles)

    through = ChangeRequest.environments.through.objects
    reached = through.filter(environment__in=[pk for pk, roles in scope.environments.items() if votes(roles)])
    return Q(tenant__in=[pk for pk, roles in scope.tenants.items() if votes(roles)]) | Q(
        pk__in=reached.values("changerequest")
    )


def _concerns(scope: Scope, change: ChangeRequest) -> bool:
    return Ability.CHANGE_VOTE in access.abilities_for(scope, change)


def _votes(changes: Sequence[ChangeRequest]) -> dict[int, list[Vote]]:
    rounds = [one.rounds.all()[0].pk for one in changes]
    found: dict[int, list[Vote]] = {}
    for vote in Vote.objects.filter(requirement__round__in=rounds).select_related("voter", "acting_for"):
        found.setdefault(vote.requirement_id, []).append(vote)
    return found


def _gates(changes: Sequence[ChangeRequest], *, at: datetime) -> dict[int, tuple[GateAge, ...]]:
    rows = (
        GateResult.objects.filter(revision__in=[one.revision_id for one in changes])
        .order_by("change_id", "gate", "-pk")
        .distinct("change_id", "gate")
    )
    found: dict[int, tuple[GateAge, ...]] = {}
    for row in rows:
        verdict = str(GateVerdict.STALE if row.expires_at <= at else row.verdict)
        one = GateAge(name=row.name, verdict=verdict, sentence=row.sentence, age=at - row.at)
        found[row.change_id] = (*found.get(row.change_id, ()), one)
    return found


def _results(scope: Scope, changes: Sequence[ChangeRequest], environments: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Return, newest first, how the last changes of the same kind on one of the same environments ended."""
    ended = (
        access.visible(scope, ChangeRequest.objects.filter(state__in=list(ENDED), environments__in=list(environments)))
        .exclude(close_code="")
        .order_by("-closed_at", "-pk")
        .values_list("pk", "kind", "close_code", "environments")[:RESULTS_READ]
    )
    rows = list(ended)
    found: dict[int, tuple[str, ...]] = {}
    for change in changes:
        mine = {one.pk for one in change.environments.all()}
        codes = {pk: str(code) for pk, kind, code, place in rows if kind == change.kind and place in mine}
        found[change.pk] = tuple(codes.values())[:RESULTS_COUNT]
    return found
