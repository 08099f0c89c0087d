from __future__ import annotations

from enum import StrEnum

import pytest

from changecontrol.lifecycles import change, run
from changecontrol.templatetags import states
from changecontrol.templatetags.icons import OUTLINES
from recovery.lifecycles.drill import DrillState
from recovery.lifecycles.restore import RestoreState

VERDICTS = {"pass", "fail", "inconclusive", "no_data", "error", "waived", "stale"}
VOTES = {"approve", "reject", "abstain", "withdraw"}


def words_of(kind: type[StrEnum]) -> set[str]:
    return {member.value for member in kind}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (states.CHANGE, words_of(change.ChangeState)),
        (states.CLOSE_CODE, words_of(change.CloseCode)),
        (states.RUN, words_of(run.RunState)),
        (states.TARGET, words_of(run.TargetState)),
        (states.GATE, VERDICTS),
        (states.VOTE, VOTES),
        (states.RESTORE, words_of(RestoreState)),
        (states.DRILL, words_of(DrillState)),
    ],
)
def test_every_word_of_the_vocabulary_has_its_look(table, words) -> None:
    assert set(table) == words


def test_every_look_has_an_icon_that_exists_and_a_known_tone() -> None:
    assert {look.icon for look in states.LOOKS.values()} - set(OUTLINES) == set()
    assert {look.tone for look in states.LOOKS.values()} <= {"", "good", "warn", "bad", "info", "hold"}


def test_one_word_looks_the_same_in_every_table() -> None:
    tables = [states.CHANGE, states.CLOSE_CODE, states.RUN, states.TARGET, states.GATE, states.VOTE, states.CALENDAR]
    tables += [states.RESTORE, states.DRILL]

    looks: dict[str, set[states.Look]] = {}
    for table in tables:
        for word, look in table.items():
            looks.setdefault(word, set()).add(look)

    assert {word for word, several in looks.items() if len(several) > 1} == set()


def test_nothing_pending_is_red() -> None:
    waiting = (
        "draft",
        "pending",
        "queued",
        "waiting_for_window",
        "awaiting_promotion",
        "authorize",
        "no_data",
        "stale",
    )

    assert [word for word in waiting if states.look(word).tone == "bad"] == []


def test_a_word_outside_the_vocabulary_is_neutral() -> None:
    assert states.look("strange") == states.NEUTRAL
    assert states.tone_class("strange") == ""
    assert states.words("on_hold") == "on hold"
    assert states.tone_class(change.ChangeState.REJECTED) == "is-bad"


def test_steps_say_what_is_done_and_what_comes_next() -> None:
    steps = states.change_steps("authorize")

    assert [step.state for step in steps if step.is_done] == ["draft", "submitted", "assess"]
    assert [step.state for step in steps if step.is_now] == ["authorize"]
    assert [step.state for step in steps if step.is_near] == ["scheduled"]


def test_an_aside_state_stands_after_the_step_it_left() -> None:
    steps = states.change_steps("on_hold", "scheduled")

    assert [step.state for step in steps][4:6] == ["scheduled", "on_hold"]
    assert [step.state for step in steps if step.is_now] == ["on_hold"]
    assert len(steps) == len(states.STEPS) + 1


def test_a_closed_change_has_every_step_done() -> None:
    assert all(step.is_done for step in states.change_steps("closed"))
