from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.rules.recurrence import Recurrence
from changecontrol.rules.windows import (
    ClosingDecision,
    Effect,
    Freeze,
    Judgement,
    Moment,
    OnClosing,
    Purpose,
    Scope,
    Window,
    WindowTarget,
    WindowVerdict,
    ask_leave,
    decide_on_closing,
    fit,
    judge,
    judge_targets,
)


def local(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute)  # noqa: DTZ001 - local times are naive


BERLIN = WindowTarget("berlin", "acme", "production", "acme-prod", "eu-1", "pilot", 1, "Europe/Berlin")
NIGHTLY = Recurrence(local(2026, 1, 1, 2), timedelta(hours=3), "Europe/Berlin", "FREQ=DAILY")
NIGHT = Window("Night", Effect.ALLOW, NIGHTLY)
SALE = Window(
    "Winter sale",
    Effect.DENY,
    Recurrence(local(2026, 3, 3, 4), timedelta(hours=8), "Europe/Berlin"),
)
OPEN, CLOSED, FROZEN = WindowVerdict.OPEN, WindowVerdict.CLOSED, WindowVerdict.FROZEN


def utc(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hour", "minute", "verdict"),
    [(0, 59, CLOSED), (1, 0, OPEN), (3, 59, OPEN), (4, 0, CLOSED)],
)
def test_window_is_half_open(hour: int, minute: int, verdict: WindowVerdict) -> None:  # WIN-5
    assert judge([NIGHT], freezes=[], target=BERLIN, at=utc(2, hour, minute)).verdict is verdict


def test_open_window_says_until_when() -> None:
    assert judge([NIGHT], freezes=[], target=BERLIN, at=utc(2, 2)) == Judgement(
        OPEN, "Open until Mon 02 Mar 05:00 CET: window “Night”.", until=utc(2, 4)
    )


def test_closed_window_says_when_it_opens() -> None:
    assert judge([NIGHT], freezes=[], target=BERLIN, at=utc(2, 12)) == Judgement(
        CLOSED,
        "Closed: outside its change windows. It opens Tue 03 Mar 02:00 CET.",
        next_opening=utc(3, 1),
    )


def test_deny_beats_allow_and_cuts_the_opening_short() -> None:  # WIN-4
    before = judge([NIGHT, SALE], freezes=[], target=BERLIN, at=utc(3, 2))
    during = judge([NIGHT, SALE], freezes=[], target=BERLIN, at=utc(3, 3))

    assert (before.verdict, before.until) == (OPEN, utc(3, 3))
    assert (during.verdict, during.next_opening) == (CLOSED, utc(4, 1))
    assert during.reason.startswith("Closed: blackout “Winter sale”.")


def test_freeze_beats_deny_and_allow() -> None:  # WIN-4
    freeze = Freeze("Till outage", utc(3, 2), utc(3, 3, 30))

    now = judge([NIGHT, SALE], freezes=[freeze], target=BERLIN, at=utc(3, 3))

    assert (now.verdict, now.next_opening) == (FROZEN, utc(4, 1))
    assert now.reason == "Frozen: “Till outage”. It opens Wed 04 Mar 02:00 CET."


def test_freeze_without_an_end_leaves_no_opening_in_sight() -> None:
    now = judge([NIGHT], freezes=[Freeze("Stop the line", utc(1, 0))], target=BERLIN, at=utc(3, 2))

    assert now == Judgement(FROZEN, "Frozen: “Stop the line”. No opening is in sight.")


@pytest.mark.parametrize(("tier", "verdict"), [(0, CLOSED), (1, CLOSED), (2, OPEN), (3, OPEN), (None, CLOSED)])
def test_where_nothing_matches_the_tier_decides(tier: int | None, verdict: WindowVerdict) -> None:  # WIN-4
    elsewhere = replace(NIGHT, scope=Scope(tenants=frozenset({"other"})))

    now = judge([elsewhere], freezes=[], target=replace(BERLIN, tier=tier), at=utc(2, 2))

    assert now.verdict is verdict
    assert "no window covers it" in now.reason


def test_lenient_tier_is_closed_outside_the_windows_that_cover_it() -> None:  # WIN-4
    assert judge([NIGHT], freezes=[], target=replace(BERLIN, tier=3), at=utc(2, 12)).verdict is CLOSED


def test_blackout_alone_closes_a_lenient_tier_and_opens_no_strict_one() -> None:  # WIN-4
    lenient = replace(BERLIN, tier=3)

    assert judge([SALE], freezes=[], target=lenient, at=utc(3, 2)).until == utc(3, 3)
    assert judge([SALE], freezes=[], target=lenient, at=utc(3, 4)).next_opening == utc(3, 11)
    assert judge([SALE], freezes=[], target=BERLIN, at=utc(3, 2)).verdict is CLOSED


@pytest.mark.parametrize(
    "scope",
    [
        Scope(tenants=frozenset({"other"})),
        Scope(environment_stages=frozenset({"staging"})),
        Scope(environments=frozenset({"acme-test"})),
        Scope(clusters=frozenset({"us-1"})),
        Scope(cohorts=frozenset({"north"})),
        Scope(tenants=frozenset({"acme"}), cohorts=frozenset({"north"})),
    ],
)
def test_freeze_elsewhere_holds_nothing_here(scope: Scope) -> None:
    freeze = Freeze("Elsewhere", utc(1, 0), scope=scope)

    assert judge([NIGHT], freezes=[freeze], target=BERLIN, at=utc(2, 2)).is_open


def test_window_in_store_time_opens_for_each_target_in_its_own_zone() -> None:  # WIN-2
    local = Window("Night, store time", Effect.ALLOW, replace(NIGHTLY, zone=None))
    zones = ("Europe/Berlin", "Europe/London", "America/New_York")
    targets = [replace(BERLIN, key=zone, zone=zone) for zone in zones]

    judged = judge_targets([local], freezes=[], targets=targets, at=utc(2, 12))

    assert {key: one.next_opening for key, one in judged.items()} == {
        "Europe/Berlin": utc(3, 1),
        "Europe/London": utc(3, 2),
        "America/New_York": utc(3, 7),
    }


def test_touching_windows_are_one_opening() -> None:
    morning = Window("Morning", Effect.ALLOW, replace(NIGHTLY, starts_at=local(2026, 1, 1, 5)))

    assert judge([NIGHT, morning], freezes=[], target=BERLIN, at=utc(2, 2)).until == utc(2, 7)


def test_opening_far_ahead_is_found() -> None:
    yearly = Window("Stocktaking", Effect.ALLOW, Recurrence(local(2026, 1, 5), timedelta(days=1), "UTC", "FREQ=YEARLY"))

    now = judge([yearly], freezes=[], target=BERLIN, at=utc(2, 2))

    assert now.next_opening == datetime(2027, 1, 5, tzinfo=UTC)


def test_safety_action_is_never_blocked_and_is_known_as_such() -> None:  # WIN-8
    closed = judge([NIGHT], freezes=[Freeze("Stop the line", utc(1, 0))], target=BERLIN, at=utc(2, 2))
    opened = judge([NIGHT], freezes=[], target=BERLIN, at=utc(2, 2))

    assert not ask_leave(closed, purpose=Purpose.WORK).is_given
    leave = ask_leave(closed, purpose=Purpose.SAFETY)
    assert (leave.is_given, leave.is_override) == (True, True)
    assert ask_leave(opened, purpose=Purpose.SAFETY).is_override is False
    assert ask_leave(opened, purpose=Purpose.WORK).is_given


@pytest.mark.parametrize(
    ("moment", "is_given"),
    [(Moment.SUBMIT, True), (Moment.SCHEDULE, False), (Moment.START, False), (Moment.WAVE, False)],
)
def test_closed_window_warns_at_submission_and_stops_later(moment: Moment, is_given: bool) -> None:  # WIN-5
    closed = judge([NIGHT], freezes=[], target=BERLIN, at=utc(2, 12))

    leave = ask_leave(closed, purpose=Purpose.WORK, moment=moment)

    assert (leave.is_given, leave.sentence, leave.is_override) == (is_given, closed.reason, False)


@pytest.mark.parametrize(("rollback", "fits"), [(30, True), (31, False)])
def test_run_bake_and_rollback_must_fit_in_the_window(rollback: int, fits: bool) -> None:
    now = judge([NIGHT], freezes=[], target=BERLIN, at=utc(2, 2))

    answer = fit(
        now,
        at=utc(2, 2),
        run_for=timedelta(minutes=60),
        bake_for=timedelta(minutes=30),
        rollback_for=timedelta(minutes=rollback),
    )

    assert answer.fits is fits


def test_nothing_fits_in_a_closed_window() -> None:
    now = judge([NIGHT], freezes=[], target=BERLIN, at=utc(2, 12))
    none = timedelta(0)

    assert not fit(now, at=utc(2, 12), run_for=none, bake_for=none, rollback_for=none).fits


@pytest.mark.parametrize(
    ("choice", "closed_minutes", "waves", "decision"),
    [
        (OnClosing.FINISH_WAVE_AND_PAUSE, 0, 1, ClosingDecision.GO_ON),
        (OnClosing.FINISH_WAVE_AND_PAUSE, 0, 0, ClosingDecision.PAUSE),
        (OnClosing.COMPLETE_WITHIN_OVERRUN, 9, 0, ClosingDecision.GO_ON),
        (OnClosing.COMPLETE_WITHIN_OVERRUN, 10, 1, ClosingDecision.PAUSE),
        (OnClosing.PAUSE_NOW, 0, 1, ClosingDecision.PAUSE),
        (OnClosing.ROLL_BACK, 0, 1, ClosingDecision.ROLL_BACK),
    ],
)
def test_run_does_what_its_plan_says_when_the_window_closes(  # WIN-7
    choice: OnClosing, closed_minutes: int, waves: int, decision: ClosingDecision
) -> None:
    answer = decide_on_closing(
        choice,
        closed_for=timedelta(minutes=closed_minutes),
        overrun_for=timedelta(minutes=10),
        open_wave_count=waves,
    )

    assert answer is decision


def test_judging_500_targets_against_50_windows_is_quick() -> None:
    zones = ("Europe/Berlin", "Europe/London", "America/New_York")
    targets = [
        replace(BERLIN, key=str(n), cohort=f"c{n % 12}", environment=f"e{n % 20}", zone=zones[n % 3])
        for n in range(500)
    ]
    rules = ("FREQ=DAILY", "FREQ=WEEKLY;BYDAY=TU,TH", "FREQ=MONTHLY;BYDAY=-1SU")
    windows = [
        Window(
            str(n),
            Effect.DENY if n % 5 == 0 else Effect.ALLOW,
            Recurrence(local(2016, 1, 1, n % 24), timedelta(hours=2), None if n % 2 else "UTC", rules[n % 3]),
            Scope(cohorts=frozenset({f"c{n % 12}"})) if n % 4 else Scope(),
        )
        for n in range(50)
    ]

    begun = time.thread_time()
    judged = judge_targets(windows, freezes=[Freeze("f", utc(1, 0), utc(2, 0))], targets=targets, at=utc(3, 12))
    seconds = time.thread_time() - begun

    assert len(judged) == 500
    # The aim is 0.2 s; a core whose other half is busy takes longer.
    assert seconds < 1.0
