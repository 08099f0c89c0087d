"""Where recovery stands, in words and looks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from changecontrol.models import Environment, Tenant
from recovery.models import BackupPolicy
from recovery.queries.freshness import Freshness
from recovery.queries.overview import Standing, Watched
from recovery.rules.alarms import Alarm, AlarmKind, BackupFacts
from recovery.rules.coverage import Coverage, Span
from recovery.rules.faults import Fault, FaultKind
from recovery.rules.objectives import Objectives
from recovery.views.standing import SHOWN, bar_of, gaps_of, row_of, state_of, wrong_rows
from tests.factories import NOW

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NBSP = "\N{NO-BREAK SPACE}"
VERIFIED = Freshness("-", level=3, age=DAY, checked_at=NOW)
ONLY_COPIED = Freshness("-")


def place(stage: str = "production", name: str = "Northwind production") -> Environment:
    return Environment(slug=stage, name=name, stage=stage, tenant=Tenant(slug="northwind", name="Northwind"))


def alarm(kind: AlarmKind, *, hours: int = 1) -> Alarm:
    return Alarm(kind, "It is so.", NOW - hours * HOUR)


def watched(
    *alarms: Alarm, environment: Environment | None = None, drill_days: int = 90, wal: int | None = 10
) -> Watched:
    policy = BackupPolicy(environment=environment or place(), drill_days=drill_days, wal_seconds=wal)
    facts = BackupFacts(watched_since=NOW - 30 * DAY, due_at=None, grace=HOUR, last_success_at=NOW - HOUR)
    return Watched(policy, facts, alarms)


def found(*alarms: Alarm, is_bad: bool, drill_days: int = 90) -> Watched:
    """Return one of which the newest drill failed, and an action is open of an earlier one."""
    faults = [
        Fault(kind, "It is so.", NOW - HOUR, is_bad, 7) for kind in (FaultKind.DRILL_FAILED, FaultKind.ACTION_OPEN)
    ]
    return replace(watched(*alarms, drill_days=drill_days), faults=tuple(faults))


def standing(
    *spans: Span, at_work: Watched | None, freshness: Freshness = VERIFIED, stage: str = "production"
) -> Standing:
    return Standing(
        environment=place(stage),
        objectives=Objectives(4 * HOUR, HOUR, "Checkout", "Checkout"),
        coverage=Coverage(spans, {}),
        freshness=freshness,
        watched=at_work,
        at=NOW,
    )


UNTIL_NOW = Span(NOW - DAY, NOW)
LATE = Span(NOW - DAY, NOW - 2 * HOUR)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (standing(at_work=None), ("warning", "no policy", False)),
        (standing(at_work=None, stage="development"), ("inactive", "no policy", False)),
        (standing(UNTIL_NOW, at_work=watched()), ("verified", "protected", False)),
        (standing(UNTIL_NOW, at_work=watched(), freshness=ONLY_COPIED), ("copied", "only copied", False)),
        (standing(UNTIL_NOW, at_work=watched(alarm(AlarmKind.NO_SUCCESS))), ("alarm", "alarm", True)),
        (standing(LATE, at_work=watched()), ("alarm", "RPO missed", True)),
        (standing(at_work=watched()), ("alarm", "RPO missed", True)),
        (
            standing(UNTIL_NOW, at_work=watched(alarm(AlarmKind.DRILL_OVERDUE), drill_days=7)),
            ("alarm", "drill overdue", True),
        ),
        (standing(UNTIL_NOW, at_work=watched(alarm(AlarmKind.SIZE_ANOMALY))), ("warning", "odd size", False)),
        (standing(UNTIL_NOW, at_work=found(is_bad=False)), ("warning", "drill failed", False)),
        (standing(UNTIL_NOW, at_work=found(is_bad=True)), ("alarm", "drill failed", True)),
        (
            standing(UNTIL_NOW, at_work=found(alarm(AlarmKind.DRILL_OVERDUE), is_bad=True, drill_days=7)),
            ("alarm", "drill failed", True),
        ),
        (
            standing(UNTIL_NOW, at_work=found(alarm(AlarmKind.DRILL_OVERDUE), is_bad=False, drill_days=7)),
            ("alarm", "drill overdue", True),
        ),
        (standing(LATE, at_work=found(is_bad=False)), ("alarm", "RPO missed", True)),
        (
            standing(UNTIL_NOW, at_work=found(alarm(AlarmKind.SIZE_ANOMALY), is_bad=False)),
            ("warning", "drill failed", False),
        ),
    ],
    ids=[
        *("production without policy", "development without policy", "well", "only copied", "alarm", "late", "nothing"),
        *(
            "overdue",
            "odd size",
            "found",
            "found and nothing proved",
            "found, nothing proved, overdue",
            "found and overdue",
            "found and late",
            "found and odd",
        ),
    ],
)
def test_state_is_the_worst_that_is_so(found: Standing, state: tuple[str, str, bool]) -> None:
    assert state_of(found) == state


def test_gaps_are_cut_to_what_is_shown_and_the_last_stays_open() -> None:
    old, newer = Span(NOW - 40 * DAY, NOW - SHOWN - DAY), Span(NOW - SHOWN + DAY, NOW - 2 * HOUR)

    found = gaps_of(standing(old, newer, at_work=watched()))

    assert [(one["start"], one["end"], one["length"], one["is_open"]) for one in found] == [
        (NOW - SHOWN, NOW - SHOWN + DAY, f"2{NBSP}d", False),
        (NOW - 2 * HOUR, NOW, f"2{NBSP}h", True),
    ]


def test_a_gap_before_what_is_shown_is_not_drawn() -> None:
    spans = (Span(NOW - 40 * DAY, NOW - 30 * DAY), Span(NOW - 20 * DAY, NOW))

    assert gaps_of(standing(*spans, at_work=watched())) == []


def test_without_wal_no_gap_is_promised_shut() -> None:
    alone = Span(NOW - DAY, NOW - DAY)

    assert gaps_of(standing(alone, at_work=watched(wal=None))) == []


def test_bar_draws_ranges_and_lone_moments_apart() -> None:
    alone = Span(NOW - DAY, NOW - DAY)
    range_, out_of_frame = Span(NOW - 3 * DAY, NOW - 2 * DAY), Span(NOW - 30 * DAY, NOW - 29 * DAY)

    found = bar_of(Coverage((out_of_frame, range_, alone), {}), gaps=[], at=NOW)

    assert (found["spans"], found["moments"]) == ([range_], [alone])
    assert found["axis"] == {"start": NOW - SHOWN, "end": NOW}


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ((), "Nothing can be restored"),
        (
            (Span(NOW - DAY, NOW - DAY),),
            "Restorable at 1 moment, from Sun 22 Nov 10:12 UTC to Sun 22 Nov 10:12 UTC",
        ),
        ((UNTIL_NOW,), "Restorable from Sun 22 Nov 10:12 UTC to Mon 23 Nov 10:12 UTC, without a gap"),
    ],
    ids=["nothing", "a moment", "a range"],
)
def test_bar_is_said_in_words(spans: tuple[Span, ...], words: str) -> None:
    assert bar_of(Coverage(spans, {}), gaps=[], at=NOW)["summary"].replace(NBSP, " ") == words


def test_rpo_is_said_in_words_and_not_by_colour_alone() -> None:
    met, missed, nothing = (row_of(standing(*spans, at_work=watched())) for spans in ((UNTIL_NOW,), (LATE,), ()))

    assert (met["rpo"], met["rpo_note"]) == (f"0{NBSP}s", f"target 1{NBSP}h, met")
    assert (missed["rpo"], missed["rpo_note"]) == (f"2{NBSP}h", f"target 1{NBSP}h, missed")
    assert (nothing["rpo"], nothing["is_rpo_missed"]) == ("", True)


def test_what_checks_found_stands_after_the_alarms_what_is_bad_first() -> None:
    staging = place("staging", "Northwind staging")
    rows = wrong_rows(
        [
            found(is_bad=False),
            replace(found(is_bad=True), policy=BackupPolicy(environment=staging)),
            watched(alarm(AlarmKind.DRILL_OVERDUE)),
        ]
    )

    assert [(one["title"].partition(" since")[0], one["tone"], one["url"]) for one in rows] == [
        ("Northwind production: drill overdue", "bad", "/recovery/environments/northwind/production/"),
        ("Northwind staging: newest drill failed", "bad", "/recovery/drills/7/"),
        ("Northwind staging: corrective action open", "bad", "/recovery/drills/7/"),
        ("Northwind production: newest drill failed", "warn", "/recovery/drills/7/"),
        ("Northwind production: corrective action open", "warn", "/recovery/drills/7/"),
    ]


def test_alarms_stand_worst_first_and_production_before_the_rest() -> None:
    staging = place("staging", "Northwind staging")
    rows = wrong_rows(
        [
            watched(alarm(AlarmKind.DRILL_OVERDUE), alarm(AlarmKind.SIZE_ANOMALY)),
            watched(alarm(AlarmKind.NO_SUCCESS, hours=9), environment=staging),
            watched(alarm(AlarmKind.NO_SUCCESS)),
        ]
    )

    assert [(one["title"].partition(" since")[0], one["tone"]) for one in rows] == [
        ("Northwind production: no backup in time", "bad"),
        ("Northwind staging: no backup in time", "bad"),
        ("Northwind production: odd size", "warn"),
        ("Northwind production: drill overdue", "bad"),
    ]
