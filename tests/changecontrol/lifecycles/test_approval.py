from __future__ import annotations

import pytest

from changecontrol.errors import IllegalTransition
from changecontrol.lifecycles.approval import ROUND, STAGE

ROUND_GRID: dict[str, dict[str, str]] = {
    "open": {"grant": "granted", "refuse": "refused", "expire": "expired", "supersede": "superseded"},
    "granted": {"reopen": "open", "expire": "expired", "supersede": "superseded"},
    "refused": {},
    "expired": {},
    "superseded": {},
}

STAGE_GRID: dict[str, dict[str, str]] = {
    "waiting": {"open": "open", "end": "ended"},
    "open": {"complete": "complete", "wait": "waiting", "end": "ended"},
    "complete": {"reopen": "open", "wait": "waiting"},
    "ended": {},
}


@pytest.mark.parametrize("verb", ROUND.transitions)
@pytest.mark.parametrize("state", ROUND.states)
def test_round_moves_only_as_the_grid_says(state: str, verb: str) -> None:
    reached = ROUND_GRID[state].get(verb)

    if reached is None:
        with pytest.raises(IllegalTransition, match=r"is not possible while this .* is at “.*”; it must be at “.*”\."):
            ROUND.target(verb, state)
    else:
        assert ROUND.target(verb, state) == reached


def test_grid_of_round_names_every_state_and_verb() -> None:
    assert set(ROUND_GRID) == set(ROUND.states)
    assert {verb for moves in ROUND_GRID.values() for verb in moves} == set(ROUND.transitions)


def test_every_state_of_round_can_be_reached() -> None:
    reached = {ROUND.initial}
    for _ in ROUND.states:
        reached |= {ROUND.target(verb, state) for state in reached for verb in ROUND.verbs(state)}

    assert reached == set(ROUND.states)


@pytest.mark.parametrize("verb", STAGE.transitions)
@pytest.mark.parametrize("state", STAGE.states)
def test_stage_moves_only_as_the_grid_says(state: str, verb: str) -> None:
    reached = STAGE_GRID[state].get(verb)

    if reached is None:
        with pytest.raises(IllegalTransition, match=r"is not possible while this .* is at “.*”; it must be at “.*”\."):
            STAGE.target(verb, state)
    else:
        assert STAGE.target(verb, state) == reached


def test_grid_of_stage_names_every_state_and_verb() -> None:
    assert set(STAGE_GRID) == set(STAGE.states)
    assert {verb for moves in STAGE_GRID.values() for verb in moves} == set(STAGE.transitions)


def test_every_state_of_stage_can_be_reached() -> None:
    reached = {STAGE.initial}
    for _ in STAGE.states:
        reached |= {STAGE.target(verb, state) for state in reached for verb in STAGE.verbs(state)}

    assert reached == set(STAGE.states)


def test_refused_round_never_opens_again() -> None:  # APR-5
    assert ROUND.verbs("refused") == ()


def test_granted_round_reopens_when_a_vote_is_lost() -> None:  # APR-6, APR-11
    assert ROUND.target("reopen", "granted") == "open"
