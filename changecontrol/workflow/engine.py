"""Leased ticks: hand each due row to one worker, let it do one step, settle only while the lease is its own.

A tick *claims* a row (one statement, new token), *advances* it (input and output, no transaction) and *settles*
(short transaction that refuses a lost lease). Where a workflow allows it, rows that have something in common are
claimed and settled together, and advance one after another in between. A crash anywhere leaves the rows to the next
worker once their lease ends, and since a workflow observes before it performs, nothing is repeated and nothing is lost.
The engine writes the lease columns alone; what a step means is written by the workflow's own actions.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Q

from changecontrol import clock
from changecontrol.errors import DomainError, Hindered, Permanent, Transient, UnderWay
from changecontrol.gathering import gathering
from changecontrol.models.leased import Leased
from changecontrol.workflow.claiming import free, statement
from changecontrol.workflow.rows import row_of

LEASE_SECONDS = 60
"""How long a worker may hold a row. Celery's hard limit (30 s) ends a worker well before; settings may shorten it."""
BACK_OFF_SECONDS = (2, 4, 8, 15, 30, 60)
AFTER_LIMIT_SECONDS = 3600.0
"""The longest wait a far side may ask for; beyond it we look again regardless."""
UNDER_WAY_SECONDS = 5.0
ATTEMPTS_LIMIT = 12
"""Consecutive failed ticks after which a person is asked to look."""
TOGETHER_FOR = timedelta(seconds=4)
"""How long a tick goes on to further rows that it claimed together; what is left goes back as it came."""

DATABASE_LOST = (OperationalError, InterfaceError)
NO_ANSWER = (Transient, SoftTimeLimitExceeded, *DATABASE_LOST)
"""What says only that somebody else did not answer, or not in time: no fault of the row, and none of ours."""
WAITING_ATTEMPTS = len(BACK_OFF_SECONDS) - 1
"""How many attempts are kept of a row that may go on waiting: it is looked at each minute then, and what ends its
workers again and again still counts up to the limit from there."""

log = structlog.get_logger(__name__)
Row = TypeVar("Row", bound=Leased)


class LeaseLost(Exception):
    """Another worker has the row now; whatever this one learnt is dropped."""


@dataclass(frozen=True, slots=True)
class Settlement(Generic[Row]):
    """What one step comes to. `write` runs in the settling transaction, on the freshly locked row.

    `due_in` is when to look again; None ends the work. `failed` keeps counting attempts instead of starting afresh, and
    keeps what the row says is wrong, or says `trouble`; a step that succeeds clears it.
    """

    write: Callable[[Row], None] | None
    due_in: timedelta | None
    failed: bool = False
    trouble: str = ""


class Workflow(Protocol[Row]):
    """What the engine asks of a workflow. `find` creates work that is due to begin; the rest concerns one row."""

    name: str
    model: type[Row]

    def due(self) -> Q:
        """Narrow the model to the rows this workflow looks after: the same for all workflows of the class, always.

        A workflow may also have `crowded(at) -> Q`: due rows that nobody claims now, since enough workers are there;
        `troubled(row, reason, at)`, called on the locked row when a step fails for a reason it did not fail for
        before; `is_waiting(row, at) -> bool`: whether a row may go on waiting for what does not answer, however often
        it was asked (a fault of ours, or a step that ends its workers, comes before a person all the same); and, for
        rows taken together: `together: Together`, `meet(rows, at) -> Settlement | None`, which reads for all of them
        what their steps need, or returns what stands in place of a step for each, and
        `lock_all(pks) -> list[Row]`, which locks them in the order of their keys.
        """

    def find(self, at: datetime) -> None:
        """Look for approved work nobody has begun, and create its rows. Must be safe to run many times at once."""

    def advance(self, row: Row, at: datetime) -> Settlement[Row]:
        """Observe, decide, perform one idempotent effect. No transaction is open. May raise `Transient` or `Permanent`.

        Call `confirm_lease(row)` between a slow observation and the effect.
        """

    def lock(self, pk: int) -> Row:
        """Lock and return the row inside the settling transaction, roots first."""

    def refused(self, row: Row, reason: str, at: datetime) -> Settlement[Row]:
        """Settle a `Permanent` refusal of the far side."""

    def exhausted(self, row: Row, reason: str, at: datetime) -> Settlement[Row]:
        """Settle a row whose attempts or deadline are used up: it needs a person. Success is never guessed.

        Attempts start afresh. Clear a `deadline_at` that has passed, or the next failure ends here again.
        """


@dataclass(frozen=True, slots=True)
class Claim(Generic[Row]):
    """A row and the token that fences it. `is_takeover` tells that its last worker ended without settling."""

    row: Row
    token: uuid.UUID
    is_takeover: bool = False


Step = tuple[Claim[Row], Settlement[Row]]
"""A claimed row and what its step came to."""


def lease_for() -> timedelta:
    return timedelta(seconds=getattr(settings, "WORKFLOW_LEASE_SECONDS", LEASE_SECONDS))


def claim(workflow: Workflow[Row], *, at: datetime) -> list[Claim[Row]]:
    """Take the row that is due longest and that nobody holds, with those the workflow takes together with it.

    One statement, one token for all. A row whose last worker never settled counts an attempt: work that kills its
    workers comes before a person too. Such a row, or one that failed, is taken alone: it may be what ends the worker.
    """
    token = uuid.uuid4()
    with connection.cursor() as cursor:
        cursor.execute(*statement(workflow, token=token, at=at, until=at + lease_for()))
        found = cursor.fetchall()
    claims = [
        Claim(row=row_of(workflow.model, values), token=token, is_takeover=is_takeover)
        for *values, is_takeover in found
    ]
    return sorted(claims, key=lambda one: one.row.pk)


def confirm_lease(row: Leased) -> None:
    """Raise `LeaseLost` unless the claimed row is still this worker's: a late one stops before its effect."""
    with connection.cursor() as cursor:
        # Written out: every effect waits for it.
        cursor.execute(
            f'SELECT 1 FROM "{row._meta.db_table}" WHERE "{row._meta.pk.column}" = %s'  # noqa: S608
            " AND lease_token = %s AND lease_until > %s",
            [row.pk, row.lease_token, clock.now()],
        )
        if cursor.fetchone() is None:
            raise LeaseLost(f"{row._meta.label} {row.pk}")


def settle(workflow: Workflow[Row], claimed: Claim[Row], settlement: Settlement[Row], *, at: datetime) -> None:
    """Write what the step came to and give the row back. Raises `LeaseLost` where the lease is no longer ours."""
    with transaction.atomic():
        row = workflow.lock(claimed.row.pk)
        if row.lease_token != claimed.token:
            raise LeaseLost(f"{workflow.name} {row.pk}")
        _give_back([_written(row, claimed, settlement, at=at)])


def _settle_all(workflow: Workflow[Row], steps: Sequence[Step[Row]], *, at: datetime) -> None:
    """Write and give back by one transaction what several steps came to, those apart whose lease is no longer ours."""
    lock_all = workflow.lock_all  # type: ignore[attr-defined]  # whoever takes rows together has it
    of_row = {claimed.row.pk: (claimed, settlement) for claimed, settlement in steps}
    with transaction.atomic(), gathering():
        returned = []
        for row in lock_all(list(of_row)):
            claimed, settlement = of_row[row.pk]
            if row.lease_token == claimed.token:
                returned.append(_written(row, claimed, settlement, at=at))
            else:
                log.warning("tick.lease_lost", row=row.pk)
        _give_back(returned)


def _written(row: Row, claimed: Claim[Row], settlement: Settlement[Row], *, at: datetime) -> _Returned:
    """Write what a step came to on the locked row; return how its lease columns are to be."""
    # A person may have asked for something while the step ran: then the row is due at once, whatever it thought.
    asked_meanwhile = row.next_due_at != claimed.row.next_due_at
    if settlement.write is not None:
        settlement.write(row)
    trouble = (settlement.trouble or row.trouble) if settlement.failed else ""
    due_at = None if settlement.due_in is None else at + settlement.due_in
    return _Returned(
        row=row,
        attempts=row.attempts + 1 if settlement.failed else 0,
        due_at=at if asked_meanwhile else due_at,
        trouble=trouble,
        since=(row.trouble_since or at) if trouble else None,
    )


@dataclass(frozen=True, slots=True)
class _Returned:
    row: Leased
    attempts: int
    due_at: datetime | None
    trouble: str
    since: datetime | None


def _give_back(returned: Sequence[_Returned]) -> None:
    """End the lease of locked rows. Written out, since every tick ends here, and the model takes ten times as long."""
    if not returned:
        return
    meta = returned[0].row._meta
    table, key = f'"{meta.db_table}"', f'"{meta.pk.column}"'
    values = [(one.row.pk, one.attempts, one.due_at, one.trouble, one.since) for one in returned]
    places = ", ".join(["(%s::bigint, %s::integer, %s::timestamptz, %s::text, %s::timestamptz)"] * len(values))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET lease_token = NULL, lease_until = NULL, attempts = new.attempts,"  # noqa: S608
            f" next_due_at = new.due_at, trouble = new.trouble, trouble_since = new.since FROM (VALUES {places})"
            f" AS new (key, attempts, due_at, trouble, since) WHERE {table}.{key} = new.key",
            list(chain.from_iterable(values)),
        )


def uncounted(row: Leased) -> None:
    """Let a `failed` settlement neither add an attempt nor start afresh. For its `write`."""
    row.attempts -= 1


def back_off(attempts: int, *, after: float | None = None) -> timedelta:
    """Return how long to wait after so many failures: jittered, growing, and never less than the far side asks."""
    base = BACK_OFF_SECONDS[min(attempts, len(BACK_OFF_SECONDS) - 1)]
    # Never before the time it named, and not all at that very moment either.
    asked = min(after or 0.0, AFTER_LIMIT_SECONDS) * random.uniform(1.0, 1.1)  # noqa: S311
    return timedelta(seconds=max(asked, base * random.uniform(0.75, 1.25)))  # noqa: S311


def step(workflow: Workflow[Row], row: Row, *, at: datetime) -> Settlement[Row]:
    """Advance one row and turn whatever goes wrong into a settlement."""
    try:
        if row.attempts >= ATTEMPTS_LIMIT:
            return workflow.exhausted(row, "Its workers ended in the middle of this step, again and again.", at)
        return workflow.advance(row, at)
    except (Permanent, Hindered) as refusal:
        return workflow.refused(row, refusal.reason, at)
    except UnderWay as word:
        due_in = timedelta(seconds=word.after or UNDER_WAY_SECONDS)
        return Settlement(write=uncounted, due_in=due_in, failed=True, trouble=word.reason)
    except LeaseLost:
        raise
    except Exception as trouble:  # noqa: BLE001  decided by `_failure`: none may spin, vanish or end the worker
        return _failure(workflow, row, trouble, at=at)


def _failure(workflow: Workflow[Row], row: Row, trouble: Exception, *, at: datetime) -> Settlement[Row]:
    """Settle a step that did not succeed: again later, or before a person once attempts or deadline are used up."""
    reason = _sentence(trouble)
    is_late = row.deadline_at is not None and at >= row.deadline_at
    goes_on = isinstance(trouble, NO_ANSWER) and _is_waiting(workflow, row, at)
    if is_late or (row.attempts + 1 >= ATTEMPTS_LIMIT and not goes_on):
        return workflow.exhausted(row, reason, at)
    after = trouble.after if isinstance(trouble, Transient) else None

    def tell(fresh: Row) -> None:
        if goes_on:
            # Else one worker that ends would be taken for the last of many, after an hour without an answer.
            fresh.attempts = min(fresh.attempts, WAITING_ATTEMPTS - 1)
        if fresh.trouble != reason and (troubled := getattr(workflow, "troubled", None)):
            troubled(fresh, reason, at)

    return Settlement(write=tell, due_in=back_off(row.attempts, after=after), failed=True, trouble=reason)


def _is_waiting(workflow: Workflow[Row], row: Row, at: datetime) -> bool:
    asked = getattr(workflow, "is_waiting", None)
    # It may have to ask the database, which is perhaps what did not answer.
    mend_connection()
    return asked is not None and bool(asked(row, at))


def _sentence(trouble: Exception) -> str:
    match trouble:
        case Transient() | Permanent():
            return trouble.reason
        case DomainError():
            return trouble.sentence
        case SoftTimeLimitExceeded():
            return "This step took longer than a step may; it was stopped and is tried again."
        case OperationalError() | InterfaceError():
            return f"The database did not answer ({type(trouble).__name__})."
    # A fault of ours: it is logged whole here, and a person is asked in the end.
    log.error("tick.fault", exc_info=trouble)
    return f"An unexpected {type(trouble).__name__} stopped this step; the log holds the details."


def tick(workflow: Workflow[Row]) -> int:
    """Claim what is due, advance it and settle. Return how many rows were taken: none where nothing is due."""
    at = clock.now()
    claims = claim(workflow, at=at)
    if not claims:
        return 0
    with structlog.contextvars.bound_contextvars(workflow=workflow.name):
        for one in claims:
            if one.is_takeover:
                log.warning("tick.takeover", row=one.row.pk, attempts=one.row.attempts)
        try:
            steps = _settle_steps(workflow, _advance_all(workflow, claims, at=at))
        except Exception as trouble:
            # The rows are left to their lease: the next worker takes them over, and counts that.
            log.error("tick.unsettled", exc_info=None if isinstance(trouble, DATABASE_LOST) else trouble)
            mend_connection()
        else:
            _tell(steps, since=at)
    return len(claims)


def _advance_all(workflow: Workflow[Row], claims: Sequence[Claim[Row]], *, at: datetime) -> list[Step[Row]]:
    """Take a step of each row while there is time; a row that is no longer ours has no step."""
    meet = getattr(workflow, "meet", None)
    common: Settlement[Row] | None = None
    if meet is not None:
        try:
            common = meet([one.row for one in claims], at)
        except Exception as trouble:  # noqa: BLE001  decided by `_failure`, as if the step had met it
            mend_connection()
            return [(one, _failure(workflow, one.row, trouble, at=at)) for one in claims]
    if common is not None:
        return [(one, common) for one in claims]
    steps: list[Step[Row]] = []
    for number, one in enumerate(claims):
        if number and clock.now() >= at + TOGETHER_FOR:
            untouched: Settlement[Row] = Settlement(write=uncounted, due_in=timedelta(), failed=True)
            return [*steps, *((left, untouched) for left in claims[number:])]
        with structlog.contextvars.bound_contextvars(row=one.row.pk):
            try:
                steps.append((one, step(workflow, one.row, at=at)))
            except LeaseLost:
                log.warning("tick.lease_lost")
    return steps


def _settle_steps(workflow: Workflow[Row], steps: Sequence[Step[Row]]) -> Sequence[Step[Row]]:
    """Settle what the steps came to, and return it. Where that fails together, each is settled by itself."""
    if len(steps) > 1:
        try:
            _settle_all(workflow, steps, at=clock.now())
        except Exception as trouble:  # noqa: BLE001  one of them was refused, and the others must not pay for it
            log.warning("tick.apart", problem=type(trouble).__name__)
            mend_connection()
        else:
            return steps
    return [one for one in (_settle_step(workflow, *step) for step in steps) if one is not None]


def _settle_step(workflow: Workflow[Row], claimed: Claim[Row], settlement: Settlement[Row]) -> Step[Row] | None:
    try:
        settle(workflow, claimed, settlement, at=clock.now())
    except LeaseLost:
        log.warning("tick.lease_lost", row=claimed.row.pk)
        return None
    except Exception as trouble:  # noqa: BLE001  what was to be written was refused: the step failed, and is tried again
        mend_connection()
        at = clock.now()
        settlement = _failure(workflow, claimed.row, trouble, at=at)
        settle(workflow, claimed, settlement, at=at)
    return claimed, settlement


def _tell(steps: Sequence[Step[Any]], *, since: datetime) -> None:
    """Write one line for each row."""
    seconds = round((clock.now() - since).total_seconds(), 3)
    for claimed, settlement in steps:
        due = settlement.due_in.total_seconds() if settlement.due_in is not None else None
        outcome = "failed" if settlement.failed else "ok"
        log.info("tick", row=claimed.row.pk, outcome=outcome, due_in=due, seconds=seconds)


def release(row: Leased, *, at: datetime) -> None:
    """Make a row due at once, for instance because a person asked for something. Call it on a locked row."""
    row.next_due_at = at
    row.save(update_fields=["next_due_at"])


def drain(workflow: Workflow[Any], *, budget_seconds: float) -> int:
    """Tick a workflow until nothing is due or the budget is spent. Return how many rows were taken."""
    ends_at = clock.now() + timedelta(seconds=budget_seconds)
    count = 0
    while clock.now() < ends_at and (taken := tick(workflow)):
        count += taken
    return count


def look_for_work(workflow: Workflow[Any]) -> None:
    """Let a workflow find new work. Its failure is logged: it starves neither what is under way nor other workflows."""
    with _contained("find", workflow):
        workflow.find(clock.now())


def work_off(workflow: Workflow[Any], *, budget_seconds: float) -> int:
    """Find new work, then drain. Whatever goes wrong is logged and ends neither the worker nor the other workflows."""
    look_for_work(workflow)
    count = 0
    with _contained("drain", workflow):
        count = drain(workflow, budget_seconds=budget_seconds)
    return count  # noqa: RET504  reached after a contained failure too


def due_count(workflow: Workflow[Any], *, at: datetime, limit: int) -> int:
    """Return how many rows are due and free, at most `limit`."""
    rows = workflow.model._default_manager.filter(workflow.due(), free(at), next_due_at__lte=at)
    return len(rows.order_by().values("pk")[:limit])


def count_failure(row: Leased, reason: str, *, at: datetime) -> bool:
    """Count a failed attempt on a locked row that no worker holds, and make it due again later.

    Return False, with nothing written but the lease, where its attempts or its time are used up.
    """
    row.lease_token = row.lease_until = None
    row.attempts += 1
    has_left = row.attempts < ATTEMPTS_LIMIT and (row.deadline_at is None or at < row.deadline_at)
    if has_left:
        row.next_due_at = at + back_off(row.attempts - 1)
        tell_trouble(row, reason, at=at)
    row.save(update_fields=["lease_token", "lease_until", "attempts", "next_due_at"])
    return has_left


def put_off(row: Leased, reason: str, *, at: datetime, after: float | None = None) -> None:
    """Make a locked row that no worker holds due again, soon and then each minute. It counts no attempt."""
    row.next_due_at = at + back_off(WAITING_ATTEMPTS if row.trouble else 0, after=after)
    row.save(update_fields=["next_due_at"])
    tell_trouble(row, reason, at=at)


def tell_trouble(row: Leased, reason: str, *, at: datetime) -> None:
    """Say on a locked row what keeps it from going on, or that nothing does; the next step that succeeds clears it."""
    row.trouble, row.trouble_since = reason, (row.trouble_since or at) if reason else None
    row.save(update_fields=["trouble", "trouble_since"])


def database_offset() -> timedelta:
    """Return how far the database's clock is ahead of this host's; its answer counts as from the middle of asking."""
    with connection.cursor() as cursor:
        asked_at = datetime.now(UTC)
        cursor.execute("SELECT clock_timestamp()")
        there: datetime = cursor.fetchone()[0]
        answered_at = datetime.now(UTC)
    return there - asked_at - (answered_at - asked_at) / 2


def mend_connection() -> None:
    """Drop the connection where the database has cut it, so that the next statement opens a new one."""
    if not connection.in_atomic_block:
        with suppress(DatabaseError):
            connection.close_if_unusable_or_obsolete()


@contextmanager
def _contained(doing: str, workflow: Workflow[Any]) -> Iterator[None]:
    try:
        yield
    except DATABASE_LOST as trouble:
        log.error("database.lost", doing=doing, workflow=workflow.name, problem=type(trouble).__name__)
        mend_connection()
    except Exception:
        log.exception("workflow.fault", doing=doing, workflow=workflow.name)
        mend_connection()
