"""Who may vote, and what the votes amount to.

One check serves pages, API, bulk actions and background work; superusers are bound like anybody. Votes are rows that
never change: everything is computed from all of them, and no order of arrival alters the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from changecontrol.rules.matching import match_places
from changecontrol.rules.policies import UNKNOWN_TIER, Policy, Requirement
from changecontrol.rules.words import seen

FRESH_AUTHENTICATION = timedelta(minutes=5)
"""How long ago a voter on a tier 0 or 1 change may have proved who they are (APR-7). The settings take it from here."""
STRICT_TIERS = frozenset({0, 1})


class Verdict(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    ABSTAIN = "abstain"
    WITHDRAW = "withdraw"


class RefusalKind(StrEnum):
    """Which domain error the refusal becomes."""

    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a vote is not taken. `code` is for programs, `sentence` for people."""

    kind: RefusalKind
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Voter:
    """The person who votes. `roles` are those held where the change acts; being a superuser is not among the facts."""

    person: str
    roles: frozenset[str]
    emails: frozenset[str] = frozenset()
    is_active: bool = True
    is_service_account: bool = False
    authenticated_at: datetime | None = None
    acting_for: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """One row. `sequence` grows with time; `acting_for` is the person whose voice it is, where that is another."""

    person: str
    requirement: str
    verdict: Verdict
    digest: str
    sequence: int
    acting_for: str = ""

    @property
    def voice(self) -> str:
        return self.acting_for or self.person


@dataclass(frozen=True, slots=True)
class Involvement:
    """Everybody whose own work the change is. `contributors` are all who ever edited or owned any revision."""

    requester: str
    contributors: frozenset[str] = frozenset()
    git_emails: frozenset[str] = frozenset()
    git_accounts: frozenset[str] = frozenset()
    executors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ballot:
    """What the voter sent."""

    requirement: str
    verdict: Verdict
    seen_digest: str
    comment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Hearing:
    """What the vote is about, as it is now. `round_state` is a state of the approval round's lifecycle."""

    policy: Policy
    digest: str
    revision: int
    tier: int | None
    round_state: str
    involvement: Involvement
    votes: tuple[Vote, ...] = ()
    eligible: Mapping[str, Set[str]] = field(default_factory=dict)
    is_execution_started: bool = False


class StageStatus(StrEnum):
    WAITING = "waiting"
    OPEN = "open"
    COMPLETE = "complete"


class Outcome(StrEnum):
    OPEN = "open"
    GRANTED = "granted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class RequirementStanding:
    """How far one requirement is. `unplaced` approved it but fill no place, or fill one elsewhere."""

    requirement: Requirement
    filled_by: tuple[str, ...]
    unplaced: tuple[str, ...]
    rejected_by: tuple[str, ...]
    abstained: tuple[str, ...]

    @property
    def filled_count(self) -> int:
        return len(self.filled_by)

    @property
    def missing_count(self) -> int:
        return self.requirement.quorum - len(self.filled_by)

    @property
    def is_complete(self) -> bool:
        return self.missing_count == 0


@dataclass(frozen=True, slots=True)
class StageStanding:
    name: str
    status: StageStatus
    requirements: tuple[RequirementStanding, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    outcome: Outcome
    stages: tuple[StageStanding, ...]

    def of(self, requirement: str) -> RequirementStanding:
        return next(one for stage in self.stages for one in stage.requirements if one.requirement.key == requirement)

    def status_of(self, requirement: str) -> StageStatus:
        """Return the status of the stage that the requirement is in."""
        return next(
            stage.status
            for stage in self.stages
            if any(one.requirement.key == requirement for one in stage.requirements)
        )


def standing(policy: Policy, *, votes: Iterable[Vote], digest: str, eligible: Mapping[str, Set[str]]) -> Standing:
    """Count the votes on the plan with this digest. `eligible` maps a requirement's key to who may fill it now.

    A person's latest row on a requirement counts; where it is about another digest it counts for nothing, and no
    earlier row takes its place. A reject stands even when its author has left since: only a new round undoes it.
    """
    latest = _latest(votes)
    current = [vote for vote in latest.values() if vote.digest == digest]
    said = {
        (key, verdict): {vote.voice for vote in current if vote.requirement == key and vote.verdict is verdict}
        for key in (requirement.key for requirement in policy.requirements)
        for verdict in Verdict
    }
    approving: dict[str, Set[str]] = {
        requirement.key: said[requirement.key, Verdict.APPROVE] & eligible.get(requirement.key, frozenset())
        for requirement in policy.requirements
    }
    filled = _fill(policy, approving)
    stages: list[StageStanding] = []
    are_all_complete = True
    for stage in policy.stages:
        rows = tuple(
            RequirementStanding(
                requirement=requirement,
                filled_by=filled[requirement.key],
                unplaced=tuple(sorted(said[requirement.key, Verdict.APPROVE] - set(filled[requirement.key]))),
                rejected_by=tuple(sorted(said[requirement.key, Verdict.REJECT])),
                abstained=tuple(sorted(said[requirement.key, Verdict.ABSTAIN])),
            )
            for requirement in stage.requirements
        )
        is_complete = all(row.is_complete for row in rows)
        status = StageStatus.WAITING if not are_all_complete else StageStatus.OPEN
        if are_all_complete and is_complete:
            status = StageStatus.COMPLETE
        are_all_complete = are_all_complete and is_complete
        stages.append(StageStanding(stage.name, status, rows))
    if any(row.rejected_by for stage in stages for row in stage.requirements):
        return Standing(Outcome.REFUSED, tuple(stages))
    return Standing(Outcome.GRANTED if are_all_complete else Outcome.OPEN, tuple(stages))


def why_barred(voter: Voter, *, involvement: Involvement) -> Refusal | None:
    """Say why this person may not vote on this change at all, whatever roles they hold; None where they may."""
    people = {voter.person, voter.acting_for} - {""}
    emails = {_address(email) for email in voter.emails}
    if not voter.is_active:
        return _forbidden("inactive", "Your account is deactivated.")
    if voter.is_service_account or voter.person in involvement.executors:
        return _forbidden("executor", "The identity that carries out changes never votes on them.")
    if involvement.requester in people:
        return _forbidden("requester", "You asked for this change, so others decide on it.")
    if people & involvement.contributors:
        return _forbidden("contributor", "You edited or owned this change, so others decide on it.")
    if people & involvement.git_accounts or emails & {_address(email) for email in involvement.git_emails}:
        return _forbidden(
            "git_author", "You wrote or committed part of what this change brings, so others decide on it."
        )
    return None


def check_eligible(voter: Voter, *, requirement: Requirement, involvement: Involvement) -> Refusal | None:
    """Say why this person cannot fill the requirement; None where they can. Shown in place of the button."""
    barred = why_barred(voter, involvement=involvement)
    if barred is not None:
        return barred
    if requirement.role not in voter.roles:
        role = requirement.role.replace("_", " ")
        return _forbidden("role", f"“{requirement.name}” is for the role {role}, which you do not hold here.")
    return None


def check_vote(ballot: Ballot, *, voter: Voter, hearing: Hearing) -> Refusal | None:
    """Decide whether the vote is taken; None means it is. The person comes first, so that a stranger learns no more."""
    requirement = next((one for one in hearing.policy.requirements if one.key == ballot.requirement), None)
    if requirement is None:
        return Refusal(RefusalKind.INVALID, "requirement", "This change has no such approval requirement.")
    return (
        check_eligible(voter, requirement=requirement, involvement=hearing.involvement)
        or _check_moment(ballot, hearing=hearing)
        or _check_words(ballot, voter=voter, hearing=hearing)
        or _check_authentication(ballot, voter=voter, hearing=hearing)
    )


def _check_moment(ballot: Ballot, *, hearing: Hearing) -> Refusal | None:
    if hearing.is_execution_started:
        return _conflict("execution_started", "Execution has started, so votes can no longer be cast or withdrawn.")
    is_withdrawal = ballot.verdict is Verdict.WITHDRAW
    if hearing.round_state not in ({"open", "granted"} if is_withdrawal else {"open"}):
        return _conflict("round_ended", f"This approval round has ended: it is {hearing.round_state}.")
    if ballot.seen_digest != hearing.digest:
        return _conflict("stale", f"Revision {hearing.revision} replaced what you were reading.")
    if is_withdrawal:
        return None
    now = standing(hearing.policy, votes=hearing.votes, digest=hearing.digest, eligible=hearing.eligible)
    status = now.status_of(ballot.requirement)
    if status is StageStatus.WAITING:
        return _conflict("stage_waiting", "An earlier approval stage is not complete yet.")
    if status is StageStatus.COMPLETE:
        return _conflict("stage_complete", "This approval stage is complete already.")
    return None


def _check_words(ballot: Ballot, *, voter: Voter, hearing: Hearing) -> Refusal | None:
    voice = voter.acting_for or voter.person
    last = _latest(hearing.votes).get((ballot.requirement, voice))
    has_standing_vote = last is not None and last.digest == hearing.digest and last.verdict is not Verdict.WITHDRAW
    if ballot.verdict is Verdict.WITHDRAW and not has_standing_vote:
        return _conflict("nothing_to_withdraw", "You have no vote here to withdraw.")
    if last is not None and has_standing_vote and last.verdict is ballot.verdict:
        return _conflict("already_voted", "Your vote is recorded already.")
    if ballot.verdict in {Verdict.REJECT, Verdict.WITHDRAW} and not seen(ballot.comment):
        return Refusal(RefusalKind.INVALID, "comment", f"Say in a comment why you {ballot.verdict.value}.")
    return None


def _check_authentication(ballot: Ballot, *, voter: Voter, hearing: Hearing) -> Refusal | None:
    tier = UNKNOWN_TIER if hearing.tier is None else hearing.tier
    if tier not in STRICT_TIERS:
        return None
    proved_at = voter.authenticated_at
    if proved_at is not None and proved_at <= ballot.at < proved_at + FRESH_AUTHENTICATION:
        return None
    minutes = FRESH_AUTHENTICATION // timedelta(minutes=1)
    return _forbidden(
        "reauthenticate",
        f"This change touches tier {tier}: confirm your password or second factor, then vote within {minutes} minutes.",
    )


def _fill(policy: Policy, approving: Mapping[str, Set[str]]) -> dict[str, tuple[str, ...]]:
    quorums = {requirement.key: requirement.quorum for requirement in policy.requirements}
    if policy.one_person_one_place:
        return match_places(quorums, people=approving)
    return {key: tuple(sorted(approving[key]))[:quorum] for key, quorum in quorums.items()}


def _latest(votes: Iterable[Vote]) -> dict[tuple[str, str], Vote]:
    latest: dict[tuple[str, str], Vote] = {}
    for vote in votes:
        key = (vote.requirement, vote.voice)
        if key not in latest or latest[key].sequence < vote.sequence:
            latest[key] = vote
    return latest


def barred_people(voters: Sequence[Voter], *, involvement: Involvement) -> frozenset[str]:
    """Return those who may not vote on the change, for `check_policy_feasible` and for `eligible`."""
    return frozenset(one.person for one in voters if why_barred(one, involvement=involvement) is not None)


def _address(email: str) -> str:
    return email.strip().casefold()


def _forbidden(code: str, sentence: str) -> Refusal:
    return Refusal(RefusalKind.FORBIDDEN, code, sentence)


def _conflict(code: str, sentence: str) -> Refusal:
    return Refusal(RefusalKind.CONFLICT, code, sentence)
