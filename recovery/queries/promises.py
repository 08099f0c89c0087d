"""What the backup policy of an environment promises: how old the newest proof may be, and when a drill must pass."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max

from changecontrol.models import Environment
from recovery.models import BackupPolicy, Drill
from recovery.queries.points import schedule_of
from recovery.rules.alarms import drill_due_at
from recovery.rules.schedule import longest_wait
from recovery.rules.times import length, moment


@dataclass(frozen=True, slots=True)
class Limit:
    """How old something may be, and why. `within` None: the schedule has ended, and nothing is promised any more."""

    within: timedelta | None
    sentence: str


@dataclass(frozen=True, slots=True)
class DrillStanding:
    """When a drill must have passed. `last_at` None: none ever did."""

    due_at: datetime
    last_at: datetime | None
    is_overdue: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Promise:
    """What the policy in force allows. `fresh` bounds a point that its schedule makes; `proved` one it has verified."""

    version: int
    fresh: Limit
    proved: Limit
    drill: DrillStanding


def promise_of(environment: Environment, at: datetime) -> Promise | None:
    """Return what holds for an environment; None where nobody has written a backup policy for it."""
    policy = BackupPolicy.objects.active().filter(environment=environment).first()
    if policy is None:
        return None
    wait = longest_wait(schedule_of(policy), after=at)
    grace, proof = timedelta(seconds=policy.grace_seconds), timedelta(days=policy.verify_days)
    if wait is None:
        ended = Limit(None, "The schedule of its backup policy has ended.")
        return Promise(policy.version, fresh=ended, proved=ended, drill=_drill(policy, at))
    return Promise(
        policy.version,
        fresh=Limit(wait + grace, f"Its policy takes a point every {length(wait)}, with a grace of {length(grace)}."),
        proved=Limit(
            proof + wait + grace,
            f"Its policy proves a point every {length(proof)}, takes one every {length(wait)}, and has a grace of "
            f"{length(grace)}.",
        ),
        drill=_drill(policy, at),
    )


def _drill(policy: BackupPolicy, at: datetime) -> DrillStanding:
    # The first version tells since when drills were due: an edit is no reason for a later one.
    versions = BackupPolicy.objects.filter(environment=policy.environment_id).order_by("version")
    passed = Drill.objects.passed(until=at).filter(environment=policy.environment_id)
    last_at = passed.aggregate(newest=Max("finished_at"))["newest"]
    due_at = drill_due_at(
        watched_since=versions.values_list("created_at", flat=True)[0],
        last_drill_at=last_at,
        every=timedelta(days=policy.drill_days),
    )
    last = f"The last drill passed at {moment(last_at)}" if last_at else "No drill has passed yet"
    is_overdue = due_at < at
    due = f"one was due at {moment(due_at)}" if is_overdue else f"the next is due by {moment(due_at)}"
    return DrillStanding(due_at, last_at, is_overdue, f"{last}, and {due}.")
