from __future__ import annotations

import pytest

from changecontrol.errors import IllegalTransition
from changecontrol.lifecycles.change import CHANGE, EDITABLE, ENDED, EXECUTING, MAIN_PATH, ChangeState, CloseCode

CHANGE_GRID: dict[str, dict[str, str]] = {
    "draft": {"submit": "submitted", "cancel": "canceled"},
    "submitted": {
        "assess": "assess",
        "fail_assessment": "draft",
        "revise": "submitted",
        "hold": "on_hold",
        "cancel": "canceled",
    },
    "assess": {
        "fail_assessment": "draft",
        "authorize": "authorize",
        "revise": "submitted",
        "hold": "on_hold",
        "cancel": "canceled",
    },
    "authorize": {
        "revise": "submitted",
        "reject": "rejected",
        "expire": "expired",
        "schedule": "scheduled",
        "hold": "on_hold",
        "cancel": "canceled",
    },
    "scheduled": {
        "revise": "submitted",
        "schedule": "scheduled",
        "unschedule": "authorize",
        "hold": "on_hold",
        "start": "implementing",
        "cancel": "canceled",
    },
    "implementing": {"finish": "validating", "fail": "review"},
    "validating": {"fail": "review", "review": "review"},
    "review": {"close": "closed"},
    "closed": {"reopen": "review"},
    "rejected": {"resubmit": "submitted", "cancel": "canceled"},
    "expired": {"resubmit": "submitted", "cancel": "canceled"},
    "canceled": {},
    "on_hold": {"release": "submitted", "cancel": "canceled"},
}


@pytest.mark.parametrize("verb", CHANGE.transitions)
@pytest.mark.parametrize("state", CHANGE.states)
def test_change_moves_only_as_the_grid_says(state: str, verb: str) -> None:
    reached = CHANGE_GRID[state].get(verb)

    if reached is None:
        with pytest.raises(IllegalTransition, match=r"is not possible while this .* is at “.*”; it must be at “.*”\."):
            CHANGE.target(verb, state)
    else:
        assert CHANGE.target(verb, state) == reached


def test_grid_of_change_names_every_state_and_verb() -> None:
    assert set(CHANGE_GRID) == set(CHANGE.states)
    assert {verb for moves in CHANGE_GRID.values() for verb in moves} == set(CHANGE.transitions)


def test_every_state_of_change_can_be_reached() -> None:
    reached = {CHANGE.initial}
    for _ in CHANGE.states:
        reached |= {CHANGE.target(verb, state) for state in reached for verb in CHANGE.verbs(state)}

    assert reached == set(CHANGE.states)


def test_main_path_is_walked_by_one_verb_a_step() -> None:
    verbs = ["submit", "assess", "authorize", "schedule", "start", "finish", "review", "close"]

    state, walked = CHANGE.initial, [CHANGE.initial]
    for verb in verbs:
        state = CHANGE.target(verb, state)
        walked.append(state)

    assert tuple(walked) == MAIN_PATH


def test_rejected_change_comes_back_only_by_resubmission() -> None:  # APR-5
    assert CHANGE.verbs("rejected") == ("resubmit", "cancel")


def test_scheduled_change_goes_back_to_authorisation() -> None:  # APR-6, APR-11
    assert CHANGE.target("unschedule", "scheduled") == "authorize"


def test_nothing_takes_votes_back_or_edits_once_execution_started() -> None:  # APR-6
    for state in EXECUTING:
        assert not {"unschedule", "revise", "hold", "cancel", "resubmit"} & set(CHANGE.verbs(state))


def test_editable_states_are_the_draft_and_those_a_new_revision_leaves() -> None:
    leaves = {state for state in ChangeState if {"revise", "resubmit"} & set(CHANGE.verbs(state))}

    assert leaves | {ChangeState.DRAFT} == EDITABLE


def test_ended_change_is_never_executed_again() -> None:
    for state in ENDED:
        assert set(CHANGE.verbs(state)) <= {"reopen"}


def test_close_codes_are_those_of_the_vocabulary() -> None:
    assert [code.value for code in CloseCode] == [
        "successful",
        "successful_with_issues",
        "rolled_back",
        "failed",
        "not_executed",
    ]
