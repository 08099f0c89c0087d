from __future__ import annotations

import pytest

from changecontrol.errors import IllegalTransition
from changecontrol.lifecycles.run import ACTIVE, ENDED, HUMAN_VERBS, RUN, SAFETY_VERBS, TARGET, PauseReason

RUN_GRID: dict[str, dict[str, str]] = {
    "queued": {
        "wait": "waiting_for_window",
        "start": "preflight",
        "pause": "paused",
        "abort": "aborting",
        "fail": "failed",
    },
    "waiting_for_window": {
        "start": "preflight",
        "pause": "paused",
        "abort": "aborting",
        "roll_back": "rolling_back",
        "fail": "failed",
    },
    "preflight": {
        "wait": "waiting_for_window",
        "advance": "running",
        "pause": "paused",
        "abort": "aborting",
        "roll_back": "rolling_back",
        "fail": "failed",
    },
    "running": {
        "bake": "baking",
        "await_promotion": "awaiting_promotion",
        "pause": "paused",
        "abort": "aborting",
        "roll_back": "rolling_back",
        "succeed": "succeeded",
        "fail": "failed",
    },
    "baking": {
        "advance": "running",
        "await_promotion": "awaiting_promotion",
        "skip": "running",
        "pause": "paused",
        "abort": "aborting",
        "roll_back": "rolling_back",
        "succeed": "succeeded",
        "fail": "failed",
    },
    "awaiting_promotion": {
        "promote": "running",
        "pause": "paused",
        "abort": "aborting",
        "roll_back": "rolling_back",
        "succeed": "succeeded",
        "fail": "failed",
    },
    "paused": {"resume": "preflight", "abort": "aborting", "roll_back": "rolling_back", "fail": "failed"},
    "aborting": {"finish_abort": "aborted", "roll_back": "rolling_back"},
    "aborted": {"roll_back": "rolling_back"},
    "rolling_back": {"finish_rollback": "rolled_back", "fail_rollback": "rollback_failed"},
    "rolled_back": {},
    "rollback_failed": {"roll_back": "rolling_back"},
    "succeeded": {},
    "failed": {"roll_back": "rolling_back"},
}

TARGET_GRID: dict[str, dict[str, str]] = {
    "pending": {"update": "updating", "defer": "deferred", "fail": "failed", "skip": "skipped"},
    "updating": {"finish_update": "updated", "defer": "deferred", "fail": "failed", "revert": "reverted"},
    "updated": {"confirm": "healthy", "defer": "deferred", "fail": "failed", "revert": "reverted"},
    "healthy": {"fail": "failed", "revert": "reverted"},
    "deferred": {"retry": "pending", "fail": "failed", "skip": "skipped", "revert": "reverted"},
    "failed": {"retry": "pending", "skip": "skipped", "revert": "reverted"},
    "reverted": {},
    "skipped": {},
}


@pytest.mark.parametrize("verb", RUN.transitions)
@pytest.mark.parametrize("state", RUN.states)
def test_run_moves_only_as_the_grid_says(state: str, verb: str) -> None:
    reached = RUN_GRID[state].get(verb)

    if reached is None:
        with pytest.raises(IllegalTransition, match=r"is not possible while this .* is at “.*”; it must be at “.*”\."):
            RUN.target(verb, state)
    else:
        assert RUN.target(verb, state) == reached


def test_grid_of_run_names_every_state_and_verb() -> None:
    assert set(RUN_GRID) == set(RUN.states)
    assert {verb for moves in RUN_GRID.values() for verb in moves} == set(RUN.transitions)


def test_every_state_of_run_can_be_reached() -> None:
    reached = {RUN.initial}
    for _ in RUN.states:
        reached |= {RUN.target(verb, state) for state in reached for verb in RUN.verbs(state)}

    assert reached == set(RUN.states)


@pytest.mark.parametrize("verb", TARGET.transitions)
@pytest.mark.parametrize("state", TARGET.states)
def test_target_moves_only_as_the_grid_says(state: str, verb: str) -> None:
    reached = TARGET_GRID[state].get(verb)

    if reached is None:
        with pytest.raises(IllegalTransition, match=r"is not possible while this .* is at “.*”; it must be at “.*”\."):
            TARGET.target(verb, state)
    else:
        assert TARGET.target(verb, state) == reached


def test_grid_of_target_names_every_state_and_verb() -> None:
    assert set(TARGET_GRID) == set(TARGET.states)
    assert {verb for moves in TARGET_GRID.values() for verb in moves} == set(TARGET.transitions)


def test_every_state_of_target_can_be_reached() -> None:
    reached = {TARGET.initial}
    for _ in TARGET.states:
        reached |= {TARGET.target(verb, state) for state in reached for verb in TARGET.verbs(state)}

    assert reached == set(TARGET.states)


def test_paused_run_goes_on_only_through_preflight() -> None:  # WIN-7
    assert RUN.target("resume", "paused") == "preflight"
    assert not RUN.allows("advance", "paused")


def test_run_is_never_rolled_back_while_it_rolls_back_or_afterwards() -> None:
    assert not RUN.allows("roll_back", "rolling_back")
    assert not RUN.allows("roll_back", "rolled_back")


def test_abort_freezes_and_is_not_a_rollback() -> None:
    assert RUN.target("finish_abort", RUN.target("abort", "running")) == "aborted"


def test_active_run_can_always_be_stopped_by_a_person() -> None:  # WIN-8
    for state in ACTIVE - {"aborting", "rolling_back"}:
        assert RUN.allows("abort", state), state


def test_ended_run_moves_again_only_to_roll_back() -> None:
    for state in ENDED:
        assert set(RUN.verbs(state)) <= {"roll_back"}


def test_verbs_of_people_exist_in_the_tables() -> None:
    assert set(HUMAN_VERBS) <= set(RUN.transitions)
    assert set(HUMAN_VERBS) >= SAFETY_VERBS


def test_unreachable_target_is_deferred_and_can_be_chased() -> None:  # RUN-4
    assert TARGET.target("retry", TARGET.target("defer", "updating")) == "pending"


def test_pause_reasons_read_as_words() -> None:
    assert PauseReason.CLUSTER_UNREACHABLE.label == "Cluster unreachable"
