"""Approval policies as data: who must agree to what, which policy a change gets, and whether people enough exist.

A policy is copied into the change at submission, so nothing here is asked again for a change that is under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from changecontrol.rules.matching import match_places

UNKNOWN_TIER = 0
"""Where nobody said what an environment carries, it is taken for the strictest."""

APPROVAL_TIME_TO_LIVE: Mapping[int, timedelta] = {
    0: timedelta(days=2),
    1: timedelta(days=3),
    2: timedelta(days=7),
    3: timedelta(days=14),
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """`quorum` distinct holders of `role` must approve. `key` is unique in its policy."""

    key: str
    role: str
    quorum: int
    name: str

    def __post_init__(self) -> None:
        if self.quorum < 1:
            raise ValueError(f"The requirement “{self.name}” asks for nobody.")


@dataclass(frozen=True, slots=True)
class Stage:
    """Requirements that are asked at the same time, after the stages before are complete."""

    name: str
    requirements: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """What a policy is for. An empty set matches anything."""

    environment_stages: frozenset[str] = frozenset()
    tiers: frozenset[int] = frozenset()
    types: frozenset[str] = frozenset()
    risks: frozenset[str] = frozenset()

    def fits(self, facts: PolicyFacts) -> bool:
        tier = UNKNOWN_TIER if facts.tier is None else facts.tier
        return (
            _in(facts.environment_stage, self.environment_stages)
            and _in(tier, self.tiers)
            and _in(facts.type, self.types)
            and _in(facts.risk, self.risks)
        )

    @property
    def specificity(self) -> int:
        return sum(bool(one) for one in (self.environment_stages, self.tiers, self.types, self.risks))


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of an approval policy. With `one_person_one_place` a person in two groups fills one place only."""

    name: str
    version: int
    match: Match
    stages: tuple[Stage, ...] = ()
    one_person_one_place: bool = True

    def __post_init__(self) -> None:
        keys = [requirement.key for requirement in self.requirements]
        if len(keys) != len(set(keys)):
            raise ValueError(f"The policy “{self.name}” names a requirement twice.")

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        return tuple(requirement for stage in self.stages for requirement in stage.requirements)

    @property
    def place_count(self) -> int:
        return sum(requirement.quorum for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What a policy is chosen by: one environment that a change touches, and the change's type and risk level."""

    environment_stage: str
    tier: int | None
    type: str
    risk: str


def select_policy(policies: Iterable[Policy], *, facts: Iterable[PolicyFacts]) -> Policy | None:
    """Choose the strictest of the policies that the touched environments get; None where one of them gets none.

    Each environment gets the most specific policy that fits; among equals the one with the most places. None is a
    refusal, never "no approval needed".
    """
    offered = tuple(policies)
    chosen: list[Policy] = []
    for one in facts:
        fitting = [policy for policy in offered if policy.match.fits(one)]
        if not fitting:
            return None
        chosen.append(max(fitting, key=lambda policy: (policy.match.specificity, *_strictness(policy))))
    return max(chosen, key=_strictness, default=None)


def asks_no_less(policy: Policy, *, than: Policy) -> bool:
    """Tell whether the policy asks at least as many distinct people of every role that the other one asks."""
    if than.one_person_one_place and not policy.one_person_one_place:
        return False
    return all(_asked_of(policy, one.role) >= _asked_of(than, one.role) for one in than.requirements)


def check_policy_feasible(
    policy: Policy,
    *,
    members: Mapping[str, Set[str]],
    barred: Set[str] = frozenset(),
    menders: Sequence[str] = (),
) -> tuple[str, ...]:
    """Say in sentences why the policy can never be fulfilled; an empty tuple where it can.

    `members` maps a role to the people who hold it; `barred` are those who may not vote on this change; `menders` are
    the people who can grant roles.
    """
    mend = f" {_either(menders)} can grant it." if menders else " A tenant administrator can grant it."
    sentences: list[str] = []
    for requirement in policy.requirements:
        role = requirement.role.replace("_", " ")
        holders = members.get(requirement.role, frozenset())
        free = holders - barred
        if not holders:
            sentences.append(
                f"“{requirement.name}” needs {requirement.quorum}, and nobody holds the role {role}.{mend}"
            )
        elif len(free) < requirement.quorum:
            holding = "person holds it" if len(free) == 1 else "people hold it"
            who = "of them may vote on this change" if len(free) < len(holders) else holding
            sentences.append(
                f"“{requirement.name}” needs {requirement.quorum} with the role {role}, "
                f"and only {len(free)} {who}.{mend}"
            )
    if sentences or not policy.one_person_one_place:
        return tuple(sentences)
    willing = {one.key: members.get(one.role, frozenset()) - barred for one in policy.requirements}
    filled = match_places({one.key: one.quorum for one in policy.requirements}, people=willing)
    count = sum(len(people) for people in filled.values())
    if count == policy.place_count:
        return ()
    return (
        f"The policy “{policy.name}” needs {policy.place_count} different people, and only {count} of its places "
        f"can be filled, because one person fills one place. More people need the roles.{mend}",
    )


def approval_expires_at(granted_at: datetime, *, tier: int | None) -> datetime:
    """Return when an approval ends by itself. Expiry returns the change to authorisation; it never approves."""
    return granted_at + APPROVAL_TIME_TO_LIVE[UNKNOWN_TIER if tier is None else tier]


def needs_new_schedule(*, granted_at: datetime, planned_start: datetime | None) -> bool:
    """Tell whether approval came after the planned start, so that a new one must be chosen."""
    return planned_start is not None and granted_at > planned_start


def _strictness(policy: Policy) -> tuple[int, int, str]:
    return policy.place_count, len(policy.stages), policy.name


def _asked_of(policy: Policy, role: str) -> int:
    quorums = [one.quorum for one in policy.requirements if one.role == role]
    return sum(quorums) if policy.one_person_one_place else max(quorums, default=0)


def _in(value: object, allowed: frozenset[str] | frozenset[int]) -> bool:
    return not allowed or value in allowed


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


_REVIEWER = Stage("Technical review", (Requirement("technical_review", "technical_reviewer", 1, "Technical review"),))

SHIPPED_POLICIES = (
    Policy("Development", 1, Match(environment_stages=frozenset({"development"}))),
    Policy("Staging", 1, Match(environment_stages=frozenset({"staging"})), (_REVIEWER,)),
    Policy(
        "Production",
        1,
        Match(environment_stages=frozenset({"production"})),
        (
            _REVIEWER,
            Stage("Change authority", (Requirement("change_authority", "change_manager", 1, "Change manager"),)),
        ),
    ),
    Policy(
        "Production, tier 0 and 1",
        1,
        Match(environment_stages=frozenset({"production"}), tiers=frozenset({0, 1})),
        (
            _REVIEWER,
            Stage("Change authority", (Requirement("change_authority", "change_manager", 2, "Two change managers"),)),
        ),
    ),
)
"""What an installation starts with."""
