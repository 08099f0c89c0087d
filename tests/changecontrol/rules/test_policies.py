from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.rules.policies import (
    SHIPPED_POLICIES,
    Match,
    Policy,
    PolicyFacts,
    Requirement,
    Stage,
    approval_expires_at,
    asks_no_less,
    check_policy_feasible,
    needs_new_schedule,
    select_policy,
)
from changecontrol.rules.policy_json import policy_problems

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def facts(stage: str, tier: int | None = 2, risk: str = "low") -> PolicyFacts:
    return PolicyFacts(environment_stage=stage, tier=tier, type="normal", risk=risk)


@pytest.mark.parametrize(
    ("stage", "tier", "asked"),
    [
        ("development", 0, []),
        ("staging", 0, [("technical_reviewer", 1)]),
        ("production", 3, [("technical_reviewer", 1), ("change_manager", 1)]),
        ("production", 2, [("technical_reviewer", 1), ("change_manager", 1)]),
        ("production", 1, [("technical_reviewer", 1), ("change_manager", 2)]),
        ("production", 0, [("technical_reviewer", 1), ("change_manager", 2)]),
        ("production", None, [("technical_reviewer", 1), ("change_manager", 2)]),
    ],
)
def test_shipped_policies_ask_more_the_closer_a_change_comes_to_the_till(
    stage: str, tier: int | None, asked: list[tuple[str, int]]
) -> None:
    policy = select_policy(SHIPPED_POLICIES, facts=[facts(stage, tier)])

    assert policy is not None
    assert [(one.role, one.quorum) for one in policy.requirements] == asked


def test_change_gets_the_strictest_policy_of_all_it_touches() -> None:
    policy = select_policy(SHIPPED_POLICIES, facts=[facts("development"), facts("production", 1), facts("staging")])

    assert policy is not None
    assert policy.name == "Production, tier 0 and 1"


def test_nothing_that_fits_is_a_refusal_and_not_an_approval() -> None:
    assert select_policy(SHIPPED_POLICIES, facts=[facts("development"), facts("laboratory")]) is None
    assert select_policy(SHIPPED_POLICIES, facts=[]) is None


@pytest.mark.parametrize(
    ("quorums", "is_one_place", "expected"),
    [
        ({"technical_reviewer": 1, "change_manager": 2}, True, True),
        ({"technical_reviewer": 2, "change_manager": 2, "security_approver": 1}, True, True),
        ({"technical_reviewer": 9}, True, False),
        ({"technical_reviewer": 1, "change_manager": 1, "security_approver": 5}, True, False),
        ({"technical_reviewer": 1, "change_manager": 2}, False, False),
        ({}, True, False),
    ],
)
def test_a_policy_asks_no_less_only_where_every_role_is_asked(
    quorums: dict[str, int], is_one_place: bool, expected: bool
) -> None:
    requirements = tuple(Requirement(role, role, quorum, role) for role, quorum in quorums.items())
    own = Policy("Own", 1, Match(), (Stage("All", requirements),), one_person_one_place=is_one_place)

    assert asks_no_less(own, than=SHIPPED_POLICIES[3]) is expected


def test_one_person_in_two_places_of_a_role_is_not_two_people() -> None:
    twice = (Requirement("a", "change_manager", 1, "A"), Requirement("b", "change_manager", 1, "B"))
    two = (Requirement("a", "change_manager", 2, "Two"),)
    one_by_one = Policy("Own", 1, Match(), (Stage("All", twice),), one_person_one_place=False)
    together = Policy("Platform", 1, Match(), (Stage("All", two),), one_person_one_place=False)

    assert not asks_no_less(one_by_one, than=together)
    assert asks_no_less(together, than=one_by_one)


def test_more_specific_policy_wins_and_the_stricter_among_equals() -> None:
    one = (Stage("a", (Requirement("a", "technical_reviewer", 1, "A"),)),)
    two = (Stage("a", (Requirement("a", "technical_reviewer", 2, "A"),)),)
    high = frozenset({"high"})
    production = frozenset({"production"})
    policies = [
        Policy("any", 1, Match(), two),
        Policy("production", 1, Match(environment_stages=production), one),
        Policy("high risk", 1, Match(risks=high), two),
    ]

    assert select_policy(policies, facts=[facts("production")]) == policies[1]
    assert select_policy(policies, facts=[facts("production", risk="high")]) == policies[2]
    assert select_policy(reversed(policies), facts=[facts("staging")]) == policies[0]


def production() -> Policy:
    policy = select_policy(SHIPPED_POLICIES, facts=[facts("production", 1)])
    assert policy is not None
    return policy


def test_feasible_policy_is_not_complained_about() -> None:
    members = {"technical_reviewer": {"ben"}, "change_manager": {"cy", "dee"}}

    assert check_policy_feasible(production(), members=members) == ()


def test_empty_group_is_named_with_who_can_mend_it() -> None:  # APR-12
    members = {"change_manager": {"cy", "dee"}}

    assert check_policy_feasible(production(), members=members, menders=["Cy", "Dee"]) == (
        "“Technical review” needs 1, and nobody holds the role technical reviewer. Cy or Dee can grant it.",
    )


def test_group_smaller_than_its_quorum_is_named() -> None:  # APR-12
    members = {"technical_reviewer": {"ben"}, "change_manager": {"cy"}}

    assert check_policy_feasible(production(), members=members) == (
        "“Two change managers” needs 2 with the role change manager, and only 1 person holds it. "
        "A tenant administrator can grant it.",
    )


def test_people_who_may_not_vote_do_not_make_a_quorum() -> None:  # APR-1, APR-12
    members = {"technical_reviewer": {"ada"}, "change_manager": {"cy", "dee"}}

    assert check_policy_feasible(production(), members=members, barred={"ada"}, menders=["Dee"]) == (
        "“Technical review” needs 1 with the role technical reviewer, and only 0 of them may vote on this change. "
        "Dee can grant it.",
    )


def test_groups_that_share_their_people_are_too_small_together() -> None:  # APR-3, APR-12
    members = {"technical_reviewer": {"ben", "cy"}, "change_manager": {"ben", "cy"}}

    (sentence,) = check_policy_feasible(production(), members=members)

    assert sentence.startswith(
        "The policy “Production, tier 0 and 1” needs 3 different people, and only 2 of its places can be filled"
    )


def test_policy_that_lets_one_person_fill_two_places_needs_fewer() -> None:
    base = production()
    policy = Policy(base.name, 2, base.match, base.stages, one_person_one_place=False)
    members = {"technical_reviewer": {"ben", "cy"}, "change_manager": {"ben", "cy"}}

    assert check_policy_feasible(policy, members=members) == ()


def test_requirement_for_nobody_and_a_key_used_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="asks for nobody"):
        Requirement("a", "change_manager", 0, "A")
    twice = Stage("a", (Requirement("a", "change_manager", 1, "A"), Requirement("a", "engineer", 1, "B")))
    with pytest.raises(ValueError, match="twice"):
        Policy("p", 1, Match(), (twice,))


@pytest.mark.parametrize(("tier", "days"), [(0, 2), (1, 3), (2, 7), (3, 14), (None, 2)])
def test_approval_lives_the_shorter_the_more_depends_on_it(tier: int | None, days: int) -> None:
    assert approval_expires_at(NOON, tier=tier) == NOON + timedelta(days=days)


def test_approval_after_the_planned_start_forces_a_new_schedule() -> None:  # APR-17
    assert needs_new_schedule(granted_at=NOON, planned_start=NOON - timedelta(seconds=1))
    assert not needs_new_schedule(granted_at=NOON, planned_start=NOON)
    assert not needs_new_schedule(granted_at=NOON, planned_start=None)


@pytest.mark.parametrize("count, is_said", [(0, True), (1, False), (8, False), (9, True), (5_000, True)])
def test_a_stage_has_a_bounded_number_of_requirements(count: int, is_said: bool) -> None:
    asked = [{"key": str(one), "name": f"Review {one}", "quorum": 1, "role": "change_manager"} for one in range(count)]

    problems = policy_problems({"stages": [{"name": "Review", "requirements": asked}]})

    assert problems == ({"stages": ["Stage 1 needs 1 to 8 requirements."]} if is_said else {})
