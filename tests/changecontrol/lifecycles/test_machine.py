from __future__ import annotations

import pytest

from changecontrol.errors import IllegalTransition
from changecontrol.lifecycles.machine import Lifecycle, Word


class Door(Word):
    SHUT = "shut"
    WIDE_OPEN = "wide_open"
    BRICKED_UP = "bricked_up"


DOOR: Lifecycle[Door] = Lifecycle(
    name="door",
    initial=Door.SHUT,
    transitions={
        "open": (frozenset({Door.SHUT}), Door.WIDE_OPEN),
        "shut": (frozenset({Door.WIDE_OPEN}), Door.SHUT),
        "brick_up": (frozenset({Door.SHUT, Door.WIDE_OPEN}), Door.BRICKED_UP),
    },
)


def test_verb_leads_to_its_state() -> None:
    assert DOOR.target("open", Door.SHUT) is Door.WIDE_OPEN


def test_state_read_from_a_database_is_as_good_as_the_word() -> None:
    assert DOOR.target("open", "shut") is Door.WIDE_OPEN
    assert DOOR.verbs("wide_open") == ("shut", "brick_up")


def test_illegal_move_is_refused_with_a_sentence_that_names_the_way_out() -> None:
    with pytest.raises(IllegalTransition) as caught:
        DOOR.target("brick_up", Door.BRICKED_UP)

    assert caught.value.sentence == (
        "Brick up is not possible while this door is at “bricked up”; it must be at “shut” or “wide open”."
    )


def test_unknown_verb_is_refused() -> None:
    with pytest.raises(IllegalTransition, match=r"A door has no step called “set fire to”\."):
        DOOR.target("set_fire_to", Door.SHUT)
    assert not DOOR.allows("set_fire_to", Door.SHUT)


def test_final_states_are_those_no_verb_leaves() -> None:
    assert DOOR.final == {Door.BRICKED_UP}


def test_words_serve_as_choices_of_a_field() -> None:
    assert Door.choices() == [("shut", "Shut"), ("wide_open", "Wide open"), ("bricked_up", "Bricked up")]


def test_among_refuses_a_word_that_does_not_exist() -> None:
    assert Door.among(["shut"]) == {Door.SHUT}
    with pytest.raises(ValueError, match="ajar"):
        Door.among(["ajar"])
