"""RTO and RPO: what an environment must meet, what a policy can, what was measured, what to expect (BIZ-2, BCK-6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt
from statistics import fmean, stdev

from changecontrol.rules.risk import STRICTEST_TIER, tier_defaults
from recovery.rules.times import length


@dataclass(frozen=True, slots=True)
class ProcessObjectives:
    """What one business process asks of the environments that support it."""

    name: str
    rto: timedelta
    rpo: timedelta


@dataclass(frozen=True, slots=True)
class Objectives:
    """What holds for an environment, and in whose name."""

    rto: timedelta
    rpo: timedelta
    rto_of: str
    rpo_of: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a policy copies what. None where it does not: WAL, attachments, or a schedule that ends."""

    backups_every: timedelta | None
    wal_every: timedelta | None
    filestore_every: timedelta | None
    backup_takes: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Fitness:
    """Whether a policy meets an RPO. `worst_loss` is None where nothing bounds it."""

    is_met: bool
    worst_loss: timedelta | None
    sentence: str


@dataclass(frozen=True, slots=True)
class RecoveryTimes:
    """The moments of one recovery, the clock starting when it was declared. None where it has not come so far."""

    declared_at: datetime
    decided_at: datetime | None = None
    provisioned_at: datetime | None = None
    restored_at: datetime | None = None
    validated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MeasuredRto:
    """How long each part took, and all of it; None for what is not over."""

    decide: timedelta | None
    provision: timedelta | None
    restore: timedelta | None
    validate: timedelta | None
    whole: timedelta | None


@dataclass(frozen=True, slots=True)
class PastRestore:
    size: int
    took: timedelta


@dataclass(frozen=True, slots=True)
class Expectation:
    """How long a restore will take. `error` is one standard error of the guess, None where nothing tells it."""

    takes: timedelta
    error: timedelta | None


def strictest(processes: Iterable[ProcessObjectives]) -> Objectives:
    """Return the strictest of what the processes ask. Where none is known, it is what the strictest tier asks."""
    known = list(processes)
    if not known:
        tier = tier_defaults(STRICTEST_TIER)
        whose = f"tier {STRICTEST_TIER}, since no business process is named for it"
        return Objectives(tier.rto, tier.rpo, whose, whose)
    rto = min(known, key=lambda one: (one.rto, one.name))
    rpo = min(known, key=lambda one: (one.rpo, one.name))
    return Objectives(rto.rto, rpo.rpo, rto.name, rpo.name)


def judge_rpo(pace: Pace, *, objectives: Objectives) -> Fitness:
    """Tell whether a policy can lose no more than the RPO allows, and what decides it.

    A point stands for the pair of database and attachments: the slower of the two decides.
    """
    if pace.backups_every is None:
        return Fitness(False, None, "The schedule of backups ends, or never begins: nothing bounds what would be lost.")
    between_backups = pace.backups_every + pace.backup_takes
    database = min(pace.wal_every, between_backups) if pace.wal_every is not None else between_backups
    of_database = "WAL is shipped" if pace.wal_every is not None else "only backups are taken, without WAL,"
    attachments = min(pace.filestore_every, between_backups) if pace.filestore_every is not None else database
    if attachments > database:
        worst, why = attachments, f"attachments are copied every {length(attachments)}"
    else:
        worst, why = database, f"{of_database} every {length(database)}"
    asked = f"{objectives.rpo_of} allows {length(objectives.rpo)}"
    if worst <= objectives.rpo:
        return Fitness(True, worst, f"Up to {length(worst)} may be lost, since {why}; {asked}.")
    return Fitness(False, worst, f"Up to {length(worst)} would be lost, since {why}, and {asked}.")


def measure_rpo(*, declared_at: datetime, newest_sentinel_at: datetime | None) -> timedelta | None:
    """Return what was lost: declared time minus the newest sentinel recovered, never the age of a file (BCK-6)."""
    if newest_sentinel_at is None:
        return None
    return max(timedelta(0), declared_at - newest_sentinel_at)


def measure_rto(times: RecoveryTimes) -> MeasuredRto:
    """Split the time to recover into its parts.

    A part that was not needed (integrity is asked without a sandbox) is None, and the next begins where the last ended.
    """
    reached, parts = times.declared_at, []
    for end in (times.decided_at, times.provisioned_at, times.restored_at, times.validated_at):
        parts.append(None if end is None else end - reached)
        reached = end or reached
    decide, provision, restore, validate = parts
    whole = None if times.validated_at is None else times.validated_at - times.declared_at
    return MeasuredRto(decide, provision, restore, validate, whole)


def expect_restore(size: int, *, past: Sequence[PastRestore]) -> Expectation | None:
    """Tell how long restoring so many bytes will take, from what earlier restores took; None where there were none.

    A line through at least three earlier ones of different sizes, where time grows with size; else in proportion.
    """
    if not past:
        return None
    sizes = [float(one.size) for one in past]
    seconds = [one.took.total_seconds() for one in past]
    mean_size, mean_seconds = fmean(sizes), fmean(seconds)
    spread = sum((one - mean_size) ** 2 for one in sizes)
    pairs = list(zip(sizes, seconds, strict=True))
    slope = sum((x - mean_size) * (y - mean_seconds) for x, y in pairs) / spread if spread else 0.0
    if len(past) < 3 or slope <= 0:
        return _in_proportion(size, sizes, seconds)
    residuals = sum((y - mean_seconds - slope * (x - mean_size)) ** 2 for x, y in pairs)
    deviation = sqrt(residuals / (len(past) - 2))
    error = deviation * sqrt(1 + 1 / len(past) + (size - mean_size) ** 2 / spread)
    return _expectation(mean_seconds + slope * (size - mean_size), error)


def _in_proportion(size: int, sizes: Sequence[float], seconds: Sequence[float]) -> Expectation:
    rates = [y / x for x, y in zip(sizes, seconds, strict=True) if x > 0]
    if not rates:
        return _expectation(fmean(seconds), None)
    return _expectation(fmean(rates) * size, stdev(rates) * size if len(rates) > 1 else None)


def _expectation(seconds: float, error: float | None) -> Expectation:
    return Expectation(
        takes=timedelta(seconds=round(max(0.0, seconds))),
        error=None if error is None else timedelta(seconds=round(error)),
    )
