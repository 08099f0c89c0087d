"""What is done about a job in a cluster follows from its row and from what the cluster shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.ports import JobSight
from changecontrol.rules.placing import BEGINS_WITHIN, SILENT_FOR, JobFacts, Move, decide_move

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DUE = JobFacts(
    is_open=True,
    is_stop_asked=False,
    next_due_at=AT - MINUTE,
    lease_until=None,
    placed_at=None,
    deadline_at=AT + timedelta(hours=1),
)
PLACED = replace(DUE, placed_at=AT - MINUTE)
HELD = replace(PLACED, lease_until=AT + MINUTE)
LEFT = replace(PLACED, lease_until=AT - timedelta(seconds=1))
GIVEN_BACK = replace(PLACED, next_due_at=AT - timedelta(seconds=1))
LATE = replace(PLACED, next_due_at=AT - 2 * BEGINS_WITHIN, placed_at=AT - BEGINS_WITHIN - MINUTE)
ENDED = replace(PLACED, is_open=False, next_due_at=None)

WORKS, WAITS = JobSight(), JobSight(trouble="Its image cannot be pulled.")
DONE, FAILED = JobSight(is_over=True), JobSight(is_over=True, is_failed=True, trouble="Its pod ended with code 70.")
LEAVING = JobSight(is_leaving=True)

CASES = {
    "due, nothing there": (DUE, None, Move.BEGIN),
    "not due yet": (replace(DUE, next_due_at=AT + MINUTE), None, Move.WAIT),
    "somebody works on it elsewhere": (replace(DUE, lease_until=AT + MINUTE), None, Move.WAIT),
    "its worker elsewhere has ended": (replace(DUE, lease_until=AT - MINUTE), None, Move.BEGIN),
    "begun, and not written down": (DUE, WORKS, Move.ADOPT),
    "what was counted is still there": (DUE, FAILED, Move.REMOVE),
    "what was counted is going": (DUE, LEAVING, Move.BEGIN),
    "what was counted is going, not due yet": (replace(DUE, next_due_at=AT + MINUTE), LEAVING, Move.WAIT),
    "its pod is going, and works": (replace(DUE, lease_until=AT + MINUTE), LEAVING, Move.WAIT),
    "its pod works": (HELD, WORKS, Move.WAIT),
    "its pod has failed, and its lease runs on": (HELD, FAILED, Move.WAIT),
    "its pod has failed": (LEFT, FAILED, Move.COUNT),
    "its pod ended without settling": (LEFT, DONE, Move.COUNT),
    "its pod is gone": (LEFT, None, Move.COUNT),
    "its pod is going": (LEFT, LEAVING, Move.COUNT),
    "its pod may be late": (LEFT, WORKS, Move.WAIT),
    "its pod says nothing": (replace(LEFT, lease_until=AT - SILENT_FOR - MINUTE), WORKS, Move.COUNT),
    "its pod has not begun": (PLACED, WORKS, Move.WAIT),
    "its pod cannot begin": (PLACED, WAITS, Move.TELL),
    "its pod did not begin in time": (LATE, WAITS, Move.COUNT),
    "its pod failed before it began": (PLACED, FAILED, Move.COUNT),
    "its pod did nothing": (PLACED, DONE, Move.COUNT),
    "gone before it began": (PLACED, None, Move.COUNT),
    "given back, and its pod is done": (GIVEN_BACK, DONE, Move.RETIRE),
    "given back, and its pod is gone": (GIVEN_BACK, None, Move.RETIRE),
    "given back, and its pod is about to end": (GIVEN_BACK, WORKS, Move.WAIT),
    "given back, and its pod does not end": (
        replace(PLACED, placed_at=AT - 4 * SILENT_FOR, next_due_at=AT - 3 * SILENT_FOR),
        WORKS,
        Move.RETIRE,
    ),
    "stop is asked, its pod works": (replace(HELD, is_stop_asked=True), WORKS, Move.WAIT),
    "stop is asked, its pod has not begun": (replace(PLACED, is_stop_asked=True), WAITS, Move.REMOVE),
    "stop is asked, its pod is going": (replace(PLACED, is_stop_asked=True), LEAVING, Move.STOP),
    "stop is asked, nothing there": (replace(LEFT, is_stop_asked=True), None, Move.STOP),
    "ended, its pod is there": (ENDED, DONE, Move.REMOVE),
    "ended, its pod is going": (ENDED, LEAVING, Move.WAIT),
    "ended, nothing left": (ENDED, None, Move.FORGET),
}


@pytest.mark.parametrize("case", list(CASES))
def test_each_move_follows_from_row_and_cluster(case: str) -> None:
    job, sight, move = CASES[case]

    assert decide_move(job, sight, at=AT)[0] is move


@pytest.mark.parametrize("case", [case for case, (job, _, _) in CASES.items() if job.is_open])
def test_no_job_goes_on_waiting_after_its_deadline(case: str) -> None:
    job, sight, move = CASES[case]
    late = replace(job, deadline_at=AT)

    late_move, sentence = decide_move(late, sight, at=AT)

    if job.lease_until is not None and job.lease_until > AT:
        assert late_move is move  # who works on it is told by its beat
    elif job.is_stop_asked:
        assert late_move is move
    else:
        # What is counted ends as its last attempt.
        assert late_move is (Move.COUNT if move is Move.COUNT else Move.FAIL)
        assert sentence.endswith((".", "?"))


def test_what_is_told_and_counted_has_its_sentence() -> None:
    said = {
        case: decide_move(job, sight, at=AT)[1]
        for case, (job, sight, move) in CASES.items()
        if move in (Move.TELL, Move.COUNT)
    }

    assert [case for case, sentence in said.items() if not sentence.endswith((".", "?"))] == []
    assert said["its pod has failed"] == "Its pod ended with code 70."
    assert said["its pod did not begin in time"] == "Its image cannot be pulled."
    assert said["its pod did nothing"].endswith("Does JOBS_SECRET name the same database?")


@pytest.mark.parametrize("attempts, move", [(0, Move.TELL), (1, Move.WAIT)], ids=["not tried yet", "an attempt failed"])
def test_what_kept_a_pod_away_is_taken_back_once_it_is_over_and_a_failed_attempt_is_not(
    attempts: int, move: Move
) -> None:
    told = replace(PLACED, attempts=attempts, trouble=WAITS.trouble)

    assert decide_move(told, WORKS, at=AT) == (move, "")
    assert decide_move(told, WAITS, at=AT) == (Move.WAIT, "")  # it is told already


def test_what_ends_at_its_deadline_says_what_kept_it() -> None:
    late = replace(DUE, deadline_at=AT, trouble="The cluster cannot be reached.")

    assert decide_move(late, None, at=AT) == (
        Move.FAIL,
        "Its time was over before it was done. The cluster cannot be reached.",
    )
