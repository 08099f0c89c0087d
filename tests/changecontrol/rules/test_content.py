"""What a revision may say, by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from changecontrol.errors import Invalid
from changecontrol.rules.content import Content, IndicatorRule, Link, Wave, propose_waves
from changecontrol.rules.content_problems import planned_start_of, problems
from changecontrol.rules.risk import QUESTIONS

GOOD = Content(
    title="Faster reorder proposals",
    reason="Buyers wait.",
    security_impact="None.",
    environments=("a", "b"),
    revision_name="main",
    waves=(Wave("Pilot", ("a",), ("one",)), Wave("Rest", ("a", "b"))),
    indicators=(IndicatorRule("pos_orders_unsynced", 5.0),),
    rollback_plan="Apply the previous commit.",
    test_evidence="Rehearsed on staging.",
    risk_answers={question.key: next(iter(question.points)) for question in QUESTIONS},
    links=(Link("Ticket", "https://tickets.example/1"),),
    planned_start_at="2026-12-01T02:00+01:00",
)


def test_what_is_complete_has_no_problem() -> None:
    assert problems(GOOD) == {}


def test_json_gives_the_same_content_back() -> None:
    assert Content.from_json(GOOD.to_json()) == GOOD
    assert Content.from_json({}) == Content()
    assert Content.from_json({"title": None, "unknown": 1}) == Content()


def test_an_empty_one_says_everything_that_is_needed() -> None:
    assert set(problems(Content())) == {
        "title", "reason", "security_impact", "environments", "commit", "rollback_plan",
        "test_evidence", "risk_answers",
    }  # fmt: skip


RESTORE = replace(
    GOOD, environments=("a",), waves=(), restore_to="2026-12-01T02:00+01:00", restore_database="shop_2", keep_hours=24
)


def test_a_restore_says_what_comes_back_and_nothing_else_says_it() -> None:
    assert problems(RESTORE, kind="restore") == {}
    assert set(problems(RESTORE)) == {"restore_to", "restore_database"}
    assert set(problems(GOOD, kind="restore")) == {"environments", "restore_to", "restore_database"}


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"restore_to": "2026-12-01T02:00"}, "restore_to"),
        ({"restore_to": "latest"}, "restore_to"),
        ({"restore_database": "Shop"}, "restore_database"),
        ({"restore_database": "x" * 64}, "restore_database"),
        ({"restore_database": "shop;drop"}, "restore_database"),
        ({"keep_hours": 0}, "keep_hours"),
        ({"keep_hours": 2161}, "keep_hours"),
        ({"environments": ("a", "b")}, "environments"),
        ({"environments": ()}, "environments"),
    ],
)
def test_what_is_wrong_with_a_restore_is_named_by_its_field(words: dict[str, Any], field: str) -> None:
    assert set(problems(replace(RESTORE, **words), kind="restore")) == {field}


def test_only_a_restore_writes_down_what_it_brings_back() -> None:
    """What was written before there were restores has the same words, and so the same digest."""
    assert not {"restore_to", "restore_database", "keep_hours"} & GOOD.to_json().keys()
    assert Content.from_json(RESTORE.to_json()) == RESTORE


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"title": "x" * 201}, "title"),
        ({"reason": " \n"}, "reason"),
        ({"description": "x" * 20_001}, "description"),
        ({"environments": ("a", "a", "b")}, "environments"),
        ({"environments": tuple(str(n) for n in range(201)), "waves": ()}, "environments"),
        ({"revision_name": ""}, "commit"),
        ({"commit": "5fa0c33"}, "commit"),
        ({"commit": "G" * 40}, "commit"),
        ({"revision_name": "--upload-pack=x"}, "revision_name"),
        ({"revision_name": "a b"}, "revision_name"),
        ({"waves": (Wave("Pilot", ("a",)),)}, "waves"),
        ({"waves": (Wave("One", ("a", "b")), Wave("One", ("a",)))}, "waves"),
        ({"waves": (Wave("One", ("a", "b", "c")),)}, "waves"),
        ({"waves": (Wave("One", ("a", "b")), Wave("Two", ()))}, "waves"),
        ({"waves": (Wave(" ", ("a", "b")),)}, "waves"),
        ({"waves": (Wave("One", ("a", "b"), ("x", "x")),)}, "waves"),
        ({"waves": (Wave("One", ("a", "b"), bake_seconds=-1),)}, "waves"),
        ({"max_unavailable": 0}, "max_unavailable"),
        ({"failure_budget": -1}, "failure_budget"),
        ({"ready_within_seconds": 9}, "ready_within_seconds"),
        ({"ready_within_seconds": 7201}, "ready_within_seconds"),
        ({"indicators": (IndicatorRule("x", 1.0), IndicatorRule("x", 2.0))}, "indicators"),
        ({"indicators": (IndicatorRule(" ", 1.0),)}, "indicators"),
        ({"indicators": (IndicatorRule("x", 1.0, minimum_samples=0),)}, "indicators"),
        ({"links": (Link("Ticket", "javascript:alert(1)"),)}, "links"),
        ({"links": (Link("", "https://tickets.example"),)}, "links"),
        ({"planned_start_at": "2026-12-01T02:00"}, "planned_start_at"),
        ({"planned_start_at": "tomorrow"}, "planned_start_at"),
        ({"risk_answers": {"rollback": "magic"}}, "risk_answers"),
    ],
)
def test_what_does_not_make_sense_is_named_by_its_field(words: dict[str, Any], field: str) -> None:
    assert list(problems(replace(GOOD, **words))) == [field]


@pytest.mark.parametrize(
    "data",
    [
        {"title": 1}, {"waves": 1}, {"waves": "x"}, {"waves": {"name": "x"}}, {"waves": [1]}, {"waves": [{}]},
        {"environments": "x"}, {"environments": [1]}, {"links": [1]}, {"risk_answers": [1]}, {"strategy": "hope"},
        {"max_unavailable": True}, {"max_unavailable": "x"}, {"max_unavailable": 1.5},
        {"indicators": [{"indicator": "x", "threshold": "inf"}]},
        {"indicators": [{"indicator": "x", "threshold": []}]}, {"reason": "a\x00"},
    ],
)  # fmt: skip
def test_what_has_the_wrong_shape_is_refused_by_its_field(data: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        Content.from_json(data)

    assert list(refused.value.fields) == list(data)


def test_no_planned_start_is_as_soon_as_the_window_allows() -> None:
    assert planned_start_of(Content()) is None


def test_waves_reach_the_cohorts_they_name_and_then_whatever_is_left() -> None:
    assert GOOD.reach == {"a": None, "b": None}
    assert replace(GOOD, waves=GOOD.waves[:1]).reach == {"a": frozenset({"one"})}


def test_waves_are_proposed_pilot_first() -> None:
    assert propose_waves(["a", "b"], pilots=[], pilot_environments=[]) == (Wave("All at once", ("a", "b")),)
    assert propose_waves(["a", "b"], pilots=["p"], pilot_environments=["b"]) == (
        Wave("Pilot", ("b",), ("p",)),
        Wave("Everything else", ("a", "b")),
    )
