"""A tick: claimed by one, settled while the lease is its own, and never lost whatever goes wrong inside."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, connection, transaction
from django.test import TestCase

from changecontrol import clock
from changecontrol.errors import Conflict, Permanent, Transient
from changecontrol.lifecycles.run import TargetState
from changecontrol.models import Run, RunTarget
from changecontrol.workflow import engine
from changecontrol.workflow.engine import LeaseLost, Settlement
from tests.changecontrol.workflow.toy import MemoryFarSide, ToyRun, ToyTarget, ToyTogether, claim_one, make_runs

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Advance = Callable[[RunTarget, datetime], Settlement[RunTarget]]


class Scripted(ToyTarget):
    """Does what the test says instead of its own step."""

    def __init__(self, advance: Advance) -> None:
        super().__init__(MemoryFarSide())
        self._advance = advance

    def advance(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        return self._advance(row, at)


def raising(trouble: Exception) -> Scripted:
    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        raise trouble

    return Scripted(advance)


def done(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
    return Settlement(write=None, due_in=None)


@pytest.fixture(autouse=True)
def host_clock() -> Iterator[None]:
    clock.set_offset(timedelta())
    yield
    clock.set_offset(timedelta())


@pytest.fixture
def target(db: None) -> RunTarget:
    """One target that is due."""
    (run,) = make_runs(1, at=AT, targets=1)
    row = RunTarget.objects.get(run=run)
    row.next_due_at = AT
    row.save()
    return row


# Claiming.


def test_claim_takes_the_row_that_is_due_longest(db: None) -> None:
    runs = make_runs(3, at=AT)
    for run, minutes in zip(runs, (3, 1, 2), strict=True):
        Run.objects.filter(pk=run.pk).update(next_due_at=AT - minutes * MINUTE)

    order = [claim_one(ToyRun(MemoryFarSide()), at=AT) for _ in range(3)]

    assert [one.row.pk for one in order if one] == [runs[0].pk, runs[2].pk, runs[1].pk]


def test_claim_writes_the_token_and_the_lease(target: RunTarget) -> None:
    claimed = claim_one(ToyTarget(MemoryFarSide()), at=AT)

    assert claimed is not None
    stored = RunTarget.objects.get()
    assert (stored.lease_token, stored.lease_until) == (claimed.token, AT + engine.lease_for())
    assert claimed.row.lease_token == claimed.token
    assert claimed.row.workload == "Deployment/odoo-0"
    assert not claimed.is_takeover


def test_claim_leaves_rows_alone_that_are_held_or_not_due_or_another_workflows(target: RunTarget) -> None:
    workflow = ToyTarget(MemoryFarSide())

    assert claim_one(workflow, at=AT - MINUTE) is None
    RunTarget.objects.update(lease_until=AT + MINUTE, lease_token=uuid.uuid4())
    assert claim_one(workflow, at=AT) is None
    RunTarget.objects.update(lease_until=None, lease_token=None)
    Run.objects.update(kind="assessment")
    assert claim_one(workflow, at=AT) is None
    Run.objects.update(kind="rollout")
    assert claim_one(workflow, at=AT) is not None


def test_claim_takes_over_after_the_lease_and_counts_the_unsettled_tick(target: RunTarget) -> None:  # RUN-1
    workflow = ToyTarget(MemoryFarSide())
    first = claim_one(workflow, at=AT)

    second = claim_one(workflow, at=AT + engine.lease_for())

    assert first is not None
    assert second is not None
    assert second.is_takeover
    assert second.token != first.token
    assert second.row.attempts == 1


def test_claim_is_one_statement(target: RunTarget, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        claim_one(ToyTarget(MemoryFarSide()), at=AT)


# Settling.


def test_settle_gives_the_row_back(target: RunTarget) -> None:
    workflow = ToyTarget(MemoryFarSide())
    RunTarget.objects.update(attempts=3)
    claimed = claim_one(workflow, at=AT)
    assert claimed is not None

    engine.settle(workflow, claimed, Settlement(write=None, due_in=MINUTE), at=AT)

    stored = RunTarget.objects.get()
    assert (stored.lease_token, stored.lease_until, stored.attempts) == (None, None, 0)
    assert stored.next_due_at == AT + MINUTE


def test_settle_refuses_a_lost_lease_and_writes_nothing(target: RunTarget) -> None:  # RUN-1
    workflow = ToyTarget(MemoryFarSide())
    late = claim_one(workflow, at=AT)
    ours = claim_one(workflow, at=AT + 2 * MINUTE)
    assert late is not None
    assert ours is not None

    def write(row: RunTarget) -> None:
        row.sentence = "from the late worker"
        row.save()

    with pytest.raises(LeaseLost):
        engine.settle(workflow, late, Settlement(write=write, due_in=None), at=AT + 2 * MINUTE)

    stored = RunTarget.objects.get()
    assert (stored.sentence, stored.lease_token) == ("", ours.token)


def test_a_late_worker_that_confirms_its_lease_stops(target: RunTarget) -> None:  # RUN-1
    workflow = ToyTarget(MemoryFarSide())
    now = clock.now()
    RunTarget.objects.update(next_due_at=now)
    late = claim_one(workflow, at=now)
    assert late is not None
    engine.confirm_lease(late.row)

    clock.set_offset(2 * MINUTE)

    with pytest.raises(LeaseLost):
        engine.confirm_lease(late.row)
    ours = claim_one(workflow, at=clock.now())
    assert ours is not None
    engine.confirm_lease(ours.row)
    with pytest.raises(LeaseLost):
        engine.confirm_lease(late.row)


def test_what_a_person_asks_during_a_tick_makes_the_row_due_at_once(target: RunTarget) -> None:
    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        engine.release(RunTarget.objects.get(), at=at)
        return Settlement(write=None, due_in=timedelta(hours=1))

    before = clock.now()
    engine.tick(Scripted(advance))

    stored = RunTarget.objects.get()
    assert stored.next_due_at is not None
    assert before <= stored.next_due_at <= clock.now()
    assert stored.lease_token is None


# What goes wrong.


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Transient("The cluster did not answer."), "The cluster did not answer."),
        (Conflict("Somebody else was quicker."), "Somebody else was quicker."),
        (SoftTimeLimitExceeded(), "This step took longer than a step may; it was stopped and is tried again."),
        (OperationalError("gone"), "The database did not answer (OperationalError)."),
        (InterfaceError("gone"), "The database did not answer (InterfaceError)."),
        (KeyError("password=hunter2"), "An unexpected KeyError stopped this step; the log holds the details."),
    ],
)
def test_a_failed_step_is_tried_again_and_then_comes_before_a_person(
    target: RunTarget, trouble: Exception, reason: str
) -> None:
    workflow = raising(trouble)
    for attempt in range(1, engine.ATTEMPTS_LIMIT):
        assert engine.tick(workflow)
        stored = RunTarget.objects.get()
        assert (stored.attempts, stored.lease_token, stored.sentence) == (attempt, None, "")
        assert stored.next_due_at is not None
        assert stored.next_due_at > clock.now()
        clock.set_offset(stored.next_due_at - datetime.now(UTC))

    engine.tick(workflow)

    stored = RunTarget.objects.get()
    assert (stored.state, stored.sentence, stored.next_due_at) == (TargetState.FAILED, reason, None)
    assert (stored.attempts, stored.lease_token) == (0, None)


def test_a_passed_deadline_ends_the_attempts(target: RunTarget) -> None:
    RunTarget.objects.update(deadline_at=AT)

    engine.tick(raising(Transient("No answer.")))

    assert RunTarget.objects.get().sentence == "No answer."


def test_a_refusal_is_settled_at_once(target: RunTarget) -> None:
    engine.tick(raising(Permanent("This image does not exist.")))

    stored = RunTarget.objects.get()
    assert (stored.sentence, stored.next_due_at, stored.attempts) == ("This image does not exist.", None, 0)


def test_success_forgets_earlier_failures(target: RunTarget) -> None:
    RunTarget.objects.update(attempts=7)

    engine.tick(Scripted(done))

    assert RunTarget.objects.get().attempts == 0


def test_work_that_kills_its_workers_comes_before_a_person(target: RunTarget) -> None:
    RunTarget.objects.update(attempts=engine.ATTEMPTS_LIMIT - 1, lease_token=uuid.uuid4(), lease_until=AT)

    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        raise AssertionError("It would kill this worker too.")

    engine.tick(Scripted(advance))

    stored = RunTarget.objects.get()
    assert stored.state == TargetState.FAILED
    assert stored.sentence == "Its workers ended in the middle of this step, again and again."


class Waiting(Scripted):
    """May wait for an answer for an hour."""

    def is_waiting(self, row: RunTarget, at: datetime) -> bool:
        return at < AT + 60 * MINUTE


def ticked_until_over(workflow: Scripted, *, at: datetime, passing: timedelta = MINUTE) -> datetime:
    """Tick once a minute until the target is over; return when it was."""
    while RunTarget.objects.get().state != TargetState.FAILED:
        clock.set_offset(at - datetime.now(UTC))
        RunTarget.objects.update(next_due_at=AT)
        engine.tick(workflow)
        at += passing
    return at - passing


@pytest.mark.parametrize("trouble", [Transient("No answer."), OperationalError(), SoftTimeLimitExceeded()])
def test_what_may_wait_for_an_answer_goes_on_until_its_own_limit(target: RunTarget, trouble: Exception) -> None:
    workflow = Waiting(raising(trouble)._advance)

    over_at = ticked_until_over(workflow, at=AT)

    assert 60 * MINUTE <= over_at - AT <= 70 * MINUTE


def test_what_waits_is_looked_at_each_minute_and_says_why(target: RunTarget) -> None:
    RunTarget.objects.update(attempts=engine.ATTEMPTS_LIMIT - 1)
    clock.set_offset(AT - datetime.now(UTC))

    engine.tick(Waiting(raising(Transient("No answer."))._advance))

    stored = RunTarget.objects.get()
    assert (stored.attempts, stored.trouble) == (engine.WAITING_ATTEMPTS, "No answer.")
    assert stored.next_due_at is not None
    assert timedelta(seconds=45) <= stored.next_due_at - AT <= timedelta(seconds=76)


def test_a_fault_of_ours_comes_before_a_person_though_the_row_may_wait(target: RunTarget) -> None:
    over_at = ticked_until_over(Waiting(raising(ValueError("fault"))._advance), at=AT)

    assert over_at - AT < 20 * MINUTE


def test_what_waits_and_kills_its_workers_comes_before_a_person(target: RunTarget) -> None:
    RunTarget.objects.update(attempts=engine.WAITING_ATTEMPTS)
    workflow, at = Waiting(done), AT
    for _ in range(engine.ATTEMPTS_LIMIT - engine.WAITING_ATTEMPTS):
        assert claim_one(workflow, at=at) is not None
        at += engine.lease_for()
    clock.set_offset(at - datetime.now(UTC))

    engine.tick(workflow)

    assert RunTarget.objects.get().sentence == "Its workers ended in the middle of this step, again and again."


def test_one_worker_that_ends_among_many_silent_answers_is_not_the_last_of_many(target: RunTarget) -> None:
    workflow = Waiting(raising(Transient("No answer."))._advance)
    clock.set_offset(AT - datetime.now(UTC))
    for _ in range(2 * engine.ATTEMPTS_LIMIT):
        RunTarget.objects.update(next_due_at=AT)
        engine.tick(workflow)
    RunTarget.objects.update(next_due_at=AT, lease_token=uuid.uuid4(), lease_until=AT)

    engine.tick(workflow)

    stored = RunTarget.objects.get()
    assert (stored.state, stored.attempts) == (target.state, engine.WAITING_ATTEMPTS)


@pytest.mark.parametrize("trouble", [ValueError("fault"), Conflict("Cancelled meanwhile."), SoftTimeLimitExceeded()])
def test_a_refused_write_is_rolled_back_and_counts_as_a_failed_step(target: RunTarget, trouble: Exception) -> None:
    def write(row: RunTarget) -> None:
        row.sentence = "half written"
        row.save()
        raise trouble

    engine.tick(Scripted(lambda row, at: Settlement(write=write, due_in=None)))

    stored = RunTarget.objects.get()
    assert (stored.sentence, stored.attempts, stored.lease_token) == ("", 1, None)
    assert stored.next_due_at is not None


def test_a_row_that_cannot_even_be_settled_is_left_to_its_lease(
    target: RunTarget, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Scripted):
        def lock(self, pk: int) -> RunTarget:
            raise RuntimeError("cannot lock")

    with caplog.at_level(logging.ERROR):
        assert engine.tick(Broken(done))

    stored = RunTarget.objects.get()
    assert stored.lease_token is not None
    assert "tick.unsettled" in caplog.text
    assert claim_one(Broken(done), at=clock.now()) is None
    assert claim_one(Broken(done), at=clock.now() + engine.lease_for()) is not None


def test_a_broken_finder_starves_neither_its_own_rows_nor_others(target: RunTarget) -> None:
    class BlindFinder(Scripted):
        def find(self, at: datetime) -> None:
            raise ValueError("fault")

    assert engine.work_off(BlindFinder(done), budget_seconds=5) == 1


def test_a_workflow_whose_claim_fails_does_not_end_the_worker(target: RunTarget) -> None:
    class Unclaimable(Scripted):
        def due(self) -> Any:
            raise ValueError("fault")

    assert engine.work_off(Unclaimable(done), budget_seconds=5) == 0


def test_a_tick_leaves_no_transaction_open_while_it_advances(fresh_db: Any) -> None:
    make_runs(1, at=AT, targets=1)
    RunTarget.objects.update(next_due_at=AT)
    seen: list[bool] = []

    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        seen.append(connection.in_atomic_block)
        return done(row, at)

    engine.tick(Scripted(advance))

    assert seen == [False]


def test_a_worker_goes_on_after_the_database_cut_its_connection(fresh_db: Any) -> None:
    make_runs(1, at=AT, targets=2)
    RunTarget.objects.update(next_due_at=AT)

    def cut_off(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        raise AssertionError("The line above fails.")

    engine.tick(Scripted(cut_off))

    assert sorted(RunTarget.objects.values_list("attempts", flat=True)) == [0, 1]
    assert engine.work_off(Scripted(done), budget_seconds=5) == 1


def test_a_lost_database_is_no_fault_of_what_may_wait_though_waiting_is_asked_of_it(fresh_db: Any) -> None:
    make_runs(1, at=AT, targets=1)
    RunTarget.objects.update(next_due_at=AT)

    class AskingWhetherItWaits(Scripted):
        def is_waiting(self, row: RunTarget, at: datetime) -> bool:
            return RunTarget.objects.filter(pk=row.pk).exists()

    def cut_off(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        raise AssertionError("The line above fails.")

    engine.tick(AskingWhetherItWaits(cut_off))

    row = RunTarget.objects.get()
    assert (row.attempts, row.lease_token) == (1, None)
    assert row.trouble


# Pace.


@pytest.mark.parametrize(("attempts", "base"), [(0, 2), (1, 4), (5, 60), (500, 60)])
def test_back_off_grows_with_jitter(attempts: int, base: float) -> None:
    waits = [engine.back_off(attempts).total_seconds() for _ in range(200)]

    assert min(waits) >= base * 0.75
    assert max(waits) <= base * 1.25
    assert len(set(waits)) > 100


def test_back_off_never_looks_before_the_far_side_said() -> None:
    waits = [engine.back_off(0, after=30).total_seconds() for _ in range(200)]

    assert min(waits) >= 30
    assert max(waits) <= 33
    assert len(set(waits)) > 100
    assert engine.back_off(0, after=1e12) <= timedelta(seconds=engine.AFTER_LIMIT_SECONDS * 1.1)
    assert engine.back_off(0, after=-5) >= timedelta(seconds=1.5)


def test_retry_after_decides_when_a_row_is_due(target: RunTarget) -> None:
    before = clock.now()

    engine.tick(raising(Transient("Too many requests.", after=120)))

    due_at = RunTarget.objects.get().next_due_at
    assert due_at is not None
    assert timedelta(seconds=120) <= due_at - before <= timedelta(seconds=140)


def test_a_drain_ends_with_its_budget(target: RunTarget) -> None:
    again = Scripted(lambda row, at: Settlement(write=None, due_in=timedelta()))

    assert engine.drain(again, budget_seconds=0) == 0
    count = engine.drain(again, budget_seconds=0.2)

    assert count > 1
    assert engine.due_count(again, at=clock.now(), limit=8) == 1


def test_the_limits_follow_each_other() -> None:
    from changecontrol.project import settings
    from changecontrol.tasks import DRAIN_SECONDS

    assert DRAIN_SECONDS < settings.CELERY_TASK_SOFT_TIME_LIMIT < settings.CELERY_TASK_TIME_LIMIT < engine.LEASE_SECONDS


def test_the_clock_follows_the_database(db: None) -> None:
    assert abs(engine.database_offset()) < timedelta(seconds=5)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        clock.set_offset(engine.database_offset())
        assert abs(clock.now() - cursor.fetchone()[0]) < timedelta(seconds=5)


# Rows taken together.


class Company(ToyTogether):
    """Rows of one run, three at most, whose steps a test says."""

    def __init__(self, advance: Advance) -> None:
        super().__init__(MemoryFarSide())
        self._advance = advance

    def advance(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        return self._advance(row, at)


class Adjourned(Company):
    """Of a class of its own, since the claim of a class is built once."""

    def meet(self, rows: Sequence[RunTarget], at: datetime) -> Settlement[RunTarget] | None:
        return Settlement(write=None, due_in=MINUTE)


@pytest.fixture
def company(db: None) -> list[RunTarget]:
    """Two runs of four targets, all of them due; the first of the second run is due longest."""
    runs = make_runs(2, at=AT, targets=4)
    now = clock.now()
    RunTarget.objects.update(next_due_at=now - MINUTE)
    rows = list(RunTarget.objects.filter(run=runs[1]).order_by("pk"))
    RunTarget.objects.filter(pk=rows[0].pk).update(next_due_at=now - 2 * MINUTE)
    return rows


def note(row: RunTarget) -> None:
    row.sentence = "written"
    row.save(update_fields=["sentence"])


def write_note(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
    return Settlement(write=note, due_in=None)


def test_rows_that_share_the_column_are_claimed_together_under_one_token(
    company: list[RunTarget], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        claims = engine.claim(Company(done), at=clock.now())

    assert company[0].pk == claims[0].row.pk
    assert {one.row.pk for one in claims} < {one.pk for one in company}
    assert (len(claims), len({one.token for one in claims})) == (3, 1)
    stored = RunTarget.objects.filter(lease_token=claims[0].token)
    assert {one.pk for one in stored} == {one.row.pk for one in claims}


def test_a_row_that_failed_or_lost_its_worker_is_taken_alone_and_joins_nobody(company: list[RunTarget]) -> None:
    RunTarget.objects.filter(pk=company[0].pk).update(attempts=1)
    RunTarget.objects.filter(pk=company[1].pk).update(lease_token=uuid.uuid4(), lease_until=AT)
    RunTarget.objects.filter(pk=company[1].pk).update(next_due_at=clock.now() - 2 * MINUTE + timedelta(seconds=1))
    workflow = Company(done)

    first, second, third = (engine.claim(workflow, at=clock.now()) for _ in range(3))

    assert [one.row.pk for one in first] == [company[0].pk]
    assert [one.row.pk for one in second] == [company[1].pk]
    assert not {company[0].pk, company[1].pk} & {one.row.pk for one in third}


def test_what_steps_together_come_to_is_written_by_one_transaction(company: list[RunTarget]) -> None:
    commits: list[int] = []

    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        def write(fresh: RunTarget) -> None:
            note(fresh)
            transaction.on_commit(lambda: commits.append(RunTarget.objects.filter(sentence="written").count()))

        return Settlement(write=write, due_in=MINUTE)

    with TestCase.captureOnCommitCallbacks(execute=True):
        taken = engine.tick(Company(advance))

    assert (taken, commits) == (3, [3, 3, 3])
    assert RunTarget.objects.filter(sentence="written", lease_token=None, next_due_at__gt=clock.now()).count() == 3


def test_a_step_that_fails_leaves_the_others_of_its_company_alone(company: list[RunTarget]) -> None:
    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        if row.pk == company[0].pk:
            raise Transient("No answer.")
        return write_note(row, at)

    engine.tick(Company(advance))

    assert RunTarget.objects.filter(sentence="written").count() == 2
    failed = RunTarget.objects.get(pk=company[0].pk)
    assert (failed.attempts, failed.trouble, failed.lease_token) == (1, "No answer.", None)


def test_where_one_cannot_be_written_each_of_its_company_is_settled_by_itself(company: list[RunTarget]) -> None:
    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        def write(fresh: RunTarget) -> None:
            note(fresh)
            if fresh.pk == company[0].pk:
                raise Conflict("Somebody else has it.")

        return Settlement(write=write, due_in=None)

    engine.tick(Company(advance))

    assert RunTarget.objects.filter(sentence="written", next_due_at=None).count() == 2
    refused = RunTarget.objects.get(pk=company[0].pk)
    assert (refused.sentence, refused.attempts, refused.trouble) == ("", 1, "Somebody else has it.")


def test_a_lease_lost_on_the_way_loses_that_row_alone(company: list[RunTarget]) -> None:  # RUN-1
    token = uuid.uuid4()

    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        RunTarget.objects.filter(pk=company[0].pk).update(lease_token=token)
        return write_note(row, at)

    engine.tick(Company(advance))

    assert RunTarget.objects.filter(sentence="written", lease_token=None).count() == 2
    lost = RunTarget.objects.get(pk=company[0].pk)
    assert (lost.sentence, lost.lease_token) == ("", token)


def test_rows_there_is_no_time_for_go_back_as_they_came(company: list[RunTarget]) -> None:
    def advance(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        clock.set_offset(clock._offset + engine.TOGETHER_FOR)
        return write_note(row, at)

    engine.tick(Company(advance))

    assert RunTarget.objects.filter(sentence="written").count() == 1
    left = RunTarget.objects.filter(run=company[0].run_id, sentence="", attempts=0, lease_token=None, trouble="")
    assert left.filter(next_due_at__lte=clock.now()).count() == 3


def test_what_they_meet_may_stand_in_place_of_their_steps(company: list[RunTarget]) -> None:
    taken = engine.tick(Adjourned(write_note))

    assert taken == 3
    assert not RunTarget.objects.filter(sentence="written").exists()
    assert RunTarget.objects.filter(next_due_at__gt=clock.now()).count() == 3
