from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changecontrol.rules.approvals import (
    FRESH_AUTHENTICATION,
    Ballot,
    Hearing,
    Involvement,
    Outcome,
    RefusalKind,
    StageStatus,
    Verdict,
    Vote,
    Voter,
    barred_people,
    check_eligible,
    check_vote,
    standing,
)
from changecontrol.rules.policies import Match, Policy, Requirement, Stage

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
REVIEW = Requirement("review", "technical_reviewer", 1, "Technical review")
MANAGERS = Requirement("managers", "change_manager", 2, "Two change managers")
POLICY = Policy("p", 1, Match(), (Stage("first", (REVIEW,)), Stage("second", (MANAGERS,))))
FLAT = Policy("p", 1, Match(), (Stage("all", (REVIEW, MANAGERS)),))
EVERYBODY = frozenset({"ben", "cy", "dee", "eve"})
ELIGIBLE = {"review": EVERYBODY, "managers": EVERYBODY}
BEN = Voter(
    "ben",
    roles=frozenset({"technical_reviewer", "change_manager"}),
    emails=frozenset({"ben@example.com"}),
    authenticated_at=NOW,
)
BALLOT = Ballot("review", Verdict.APPROVE, seen_digest="d", comment="", at=NOW)
HEARING = Hearing(
    policy=POLICY,
    digest="d",
    revision=4,
    tier=1,
    round_state="open",
    involvement=Involvement(requester="ada", contributors=frozenset({"ada"}), executors=frozenset({"executor"})),
    eligible=ELIGIBLE,
)
_sequence = iter(range(1_000_000))


def vote(person: str, requirement: str = "review", verdict: Verdict = Verdict.APPROVE, digest: str = "d") -> Vote:
    return Vote(person, requirement, verdict, digest, next(_sequence))


def count(policy: Policy, *votes: Vote) -> tuple[Outcome, list[StageStatus], dict[str, tuple[str, ...]]]:
    now = standing(policy, votes=votes, digest="d", eligible=ELIGIBLE)
    filled = {one.key: now.of(one.key).filled_by for one in policy.requirements}
    return now.outcome, [stage.status for stage in now.stages], filled


def test_able_reviewer_may_vote() -> None:
    assert check_vote(BALLOT, voter=BEN, hearing=HEARING) is None


@pytest.mark.parametrize(
    ("involvement", "code"),
    [
        (Involvement(requester="ben"), "requester"),
        (Involvement(requester="ada", contributors=frozenset({"ada", "ben"})), "contributor"),  # APR-2
        (Involvement(requester="ada", git_emails=frozenset({" Ben@Example.COM"})), "git_author"),
        (Involvement(requester="ada", git_accounts=frozenset({"ben"})), "git_author"),
        (Involvement(requester="ada", executors=frozenset({"ben"})), "executor"),
    ],
)
def test_whoever_had_a_hand_in_the_change_cannot_vote(involvement: Involvement, code: str) -> None:  # APR-1
    refusal = check_vote(BALLOT, voter=BEN, hearing=replace(HEARING, involvement=involvement))

    assert refusal is not None
    assert (refusal.kind, refusal.code) == (RefusalKind.FORBIDDEN, code)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"roles": frozenset({"platform_administrator"})}, "role"),
        ({"roles": frozenset()}, "role"),
        ({"is_active": False}, "inactive"),
        ({"is_service_account": True}, "executor"),
        ({"acting_for": "ada"}, "requester"),
        ({"authenticated_at": None}, "reauthenticate"),  # APR-7
        ({"authenticated_at": NOW - FRESH_AUTHENTICATION}, "reauthenticate"),
        ({"authenticated_at": NOW + timedelta(seconds=1)}, "reauthenticate"),
    ],
)
def test_person_who_is_not_able_cannot_vote(change: dict[str, object], code: str) -> None:  # APR-1
    refusal = check_vote(BALLOT, voter=replace(BEN, **change), hearing=HEARING)  # type: ignore[arg-type]

    assert refusal is not None
    assert (refusal.kind, refusal.code) == (RefusalKind.FORBIDDEN, code)


@pytest.mark.parametrize(("tier", "is_asked"), [(0, True), (1, True), (2, False), (3, False), (None, True)])
def test_only_strict_tiers_ask_to_sign_in_again(tier: int | None, is_asked: bool) -> None:  # APR-7
    refusal = check_vote(BALLOT, voter=replace(BEN, authenticated_at=None), hearing=replace(HEARING, tier=tier))

    assert (refusal is not None) is is_asked


def test_superseded_plan_is_refused_with_the_number_that_replaced_it() -> None:  # APR-8
    refusal = check_vote(replace(BALLOT, seen_digest="c"), voter=BEN, hearing=HEARING)

    assert refusal is not None
    assert (refusal.kind, refusal.sentence) == (
        RefusalKind.CONFLICT,
        "Revision 4 replaced what you were reading.",
    )


@pytest.mark.parametrize("state", ["granted", "refused", "expired", "superseded"])
def test_ended_round_takes_no_votes(state: str) -> None:  # APR-5
    refusal = check_vote(BALLOT, voter=BEN, hearing=replace(HEARING, round_state=state))

    assert refusal is not None
    assert refusal.code == "round_ended"


def test_stage_that_waits_and_stage_that_is_complete_take_no_votes() -> None:
    hearing = replace(HEARING, votes=(vote("cy"),))

    assert _code(replace(BALLOT, requirement="managers"), HEARING) == "stage_waiting"
    assert _code(BALLOT, hearing) == "stage_complete"
    assert _code(replace(BALLOT, requirement="managers"), hearing) is None
    assert _code(replace(BALLOT, requirement="no such"), hearing) == "requirement"


def test_same_vote_twice_is_one() -> None:  # APR-14
    hearing = replace(HEARING, policy=FLAT, votes=(vote("ben", "managers"),))

    assert _code(replace(BALLOT, requirement="managers"), hearing) == "already_voted"


def test_mind_can_be_changed_by_another_row() -> None:  # APR-6
    hearing = replace(HEARING, votes=(vote("ben", verdict=Verdict.ABSTAIN),))

    assert _code(BALLOT, hearing) is None


@pytest.mark.parametrize("comment", ["", "  \n\t"])
def test_reject_and_withdraw_need_a_comment(comment: str) -> None:  # APR-5
    hearing = replace(HEARING, votes=(vote("ben"),), round_state="open")
    rejecting = replace(BALLOT, verdict=Verdict.REJECT, comment=comment)
    withdrawing = replace(BALLOT, verdict=Verdict.WITHDRAW, comment=comment)

    assert _code(rejecting, HEARING) == "comment"
    assert _code(withdrawing, hearing) == "comment"
    assert _code(replace(rejecting, comment="No rollback."), HEARING) is None
    assert _code(replace(withdrawing, comment="I missed a test."), hearing) is None


def test_vote_can_be_withdrawn_until_execution_starts() -> None:  # APR-6
    withdrawing = replace(BALLOT, verdict=Verdict.WITHDRAW, comment="I missed a test.")
    granted = replace(HEARING, votes=(vote("ben"),), round_state="granted")

    assert _code(withdrawing, granted) is None
    assert _code(withdrawing, replace(granted, is_execution_started=True)) == "execution_started"
    assert _code(withdrawing, replace(granted, votes=())) == "nothing_to_withdraw"
    assert _code(withdrawing, replace(granted, votes=(vote("ben", digest="c"),))) == "nothing_to_withdraw"


def test_delegate_and_principal_are_one_voice() -> None:
    by_delegate = Vote("eve", "managers", Verdict.APPROVE, "d", 1, acting_for="cy")

    assert count(FLAT, by_delegate, vote("cy", "managers"))[2]["managers"] == ("cy",)


def test_stages_open_one_after_the_other() -> None:
    waiting, opened, complete = StageStatus.WAITING, StageStatus.OPEN, StageStatus.COMPLETE
    managers = vote("cy", "managers"), vote("dee", "managers")

    assert count(POLICY)[:2] == (Outcome.OPEN, [opened, waiting])
    assert count(POLICY, vote("ben"))[:2] == (Outcome.OPEN, [complete, opened])
    assert count(POLICY, vote("ben"), managers[0])[:2] == (Outcome.OPEN, [complete, opened])
    assert count(POLICY, vote("ben"), *managers)[:2] == (Outcome.GRANTED, [complete, complete])
    assert count(POLICY, *managers)[:2] == (Outcome.OPEN, [opened, waiting])


def test_policy_without_requirements_is_granted() -> None:
    assert standing(Policy("none", 1, Match()), votes=(), digest="d", eligible={}).outcome is Outcome.GRANTED


def test_one_person_in_two_groups_fills_one_place() -> None:  # APR-3
    both = vote("ben"), vote("ben", "managers"), vote("cy", "managers")

    outcome, _, filled = count(FLAT, *both)

    assert outcome is Outcome.OPEN
    assert filled == {"review": ("ben",), "managers": ("cy",)}
    assert count(FLAT, *both, vote("dee", "managers"))[0] is Outcome.GRANTED


def test_policy_may_let_one_person_fill_two_places() -> None:  # APR-3
    policy = replace(FLAT, one_person_one_place=False)

    assert count(policy, vote("ben"), vote("ben", "managers"), vote("cy", "managers"))[0] is Outcome.GRANTED


def test_place_is_found_for_everyone_who_can_have_one() -> None:  # APR-3
    votes = vote("ben"), vote("ben", "managers"), vote("cy"), vote("dee", "managers")

    assert count(FLAT, *votes) == (
        Outcome.GRANTED,
        [StageStatus.COMPLETE],
        {"review": ("cy",), "managers": ("ben", "dee")},
    )


Row = tuple[str, str, Verdict, str]
VOTES = st.lists(
    st.tuples(
        st.sampled_from(sorted(EVERYBODY)),
        st.sampled_from(["review", "managers"]),
        st.sampled_from([Verdict.APPROVE, Verdict.ABSTAIN, Verdict.WITHDRAW]),
        st.sampled_from(["d", "d", "c"]),
    ),
    max_size=12,
)


@given(VOTES, st.randoms(use_true_random=False))
def test_result_does_not_depend_on_the_order_rows_are_read_in(rows: list[Row], random: Random) -> None:  # APR-3, APR-14
    votes = [Vote(*row, index) for index, row in enumerate(rows)]
    shuffled = random.sample(votes, len(votes))

    assert count(POLICY, *shuffled) == count(POLICY, *votes)


@given(st.permutations([("ben", "review"), ("ben", "managers"), ("cy", "review"), ("dee", "managers")]))
def test_result_does_not_depend_on_who_voted_first(order: list[tuple[str, str]]) -> None:  # APR-3
    votes = [
        Vote(person, requirement, Verdict.APPROVE, "d", index) for index, (person, requirement) in enumerate(order)
    ]

    assert count(FLAT, *votes)[0] is Outcome.GRANTED


@given(VOTES)
def test_nobody_ever_fills_two_places(rows: list[Row]) -> None:  # APR-3
    _, _, filled = count(FLAT, *(Vote(*row, index) for index, row in enumerate(rows)))

    people = [person for people in filled.values() for person in people]
    assert len(people) == len(set(people))


def test_latest_row_of_a_person_counts() -> None:  # APR-6
    assert count(POLICY, vote("ben"), vote("ben", verdict=Verdict.WITHDRAW))[2]["review"] == ()
    assert count(POLICY, vote("ben", verdict=Verdict.ABSTAIN), vote("ben"))[2]["review"] == ("ben",)


def test_stale_vote_counts_for_nothing_and_revives_no_earlier_one() -> None:  # APR-8
    assert count(POLICY, vote("ben", digest="c"))[2]["review"] == ()
    assert count(POLICY, vote("ben"), vote("ben", digest="c"))[2]["review"] == ()


def test_one_reject_refuses_whatever_else_was_said() -> None:  # APR-5
    votes = vote("ben"), vote("cy", "managers"), vote("dee", "managers", Verdict.REJECT), vote("eve", "managers")

    assert count(POLICY, *votes)[0] is Outcome.REFUSED


def test_approver_who_left_no_longer_counts() -> None:  # APR-11
    votes = vote("ben"), vote("cy", "managers"), vote("dee", "managers")

    now = standing(POLICY, votes=votes, digest="d", eligible={**ELIGIBLE, "managers": {"cy"}})

    assert now.outcome is Outcome.OPEN
    assert now.of("managers").filled_by == ("cy",)
    assert now.of("managers").unplaced == ("dee",)
    assert now.of("managers").missing_count == 1


def test_reject_stands_when_its_author_left() -> None:
    votes = [vote("ben", verdict=Verdict.REJECT)]

    assert standing(POLICY, votes=votes, digest="d", eligible={}).outcome is Outcome.REFUSED


def test_reason_why_not_stands_in_place_of_the_button() -> None:
    outsider = Voter("eve", roles=frozenset({"engineer"}))

    refusal = check_eligible(outsider, requirement=MANAGERS, involvement=HEARING.involvement)

    assert refusal is not None
    assert refusal.sentence == "“Two change managers” is for the role change manager, which you do not hold here."


def test_barred_people_are_those_with_a_hand_in_the_change() -> None:
    ada = Voter("ada", roles=frozenset({"technical_reviewer"}))

    assert barred_people([ada, BEN], involvement=HEARING.involvement) == {"ada"}


def _code(ballot: Ballot, hearing: Hearing) -> str | None:
    refusal = check_vote(ballot, voter=BEN, hearing=hearing)
    return refusal.code if refusal else None
