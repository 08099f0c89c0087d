"""Where every environment stands: one read for the home of recovery, in as many statements for one as for many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.models import BackupPolicy
from recovery.queries.alarms import backup_facts
from recovery.queries.faults import faults_in
from recovery.queries.freshness import Freshness, freshness_in
from recovery.queries.points import coverages_of, objectives_of, policies_of
from recovery.rules.alarms import Alarm, BackupFacts, alarms, drill_due_at
from recovery.rules.coverage import Coverage
from recovery.rules.faults import Fault
from recovery.rules.objectives import Objectives

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Watched:
    """An environment with a policy in force, and what is known and wrong of it."""

    policy: BackupPolicy
    facts: BackupFacts
    alarms: tuple[Alarm, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def drill_due_at(self) -> datetime:
        every = timedelta(days=self.policy.drill_days)
        return drill_due_at(watched_since=self.facts.watched_since, last_drill_at=self.facts.last_drill_at, every=every)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far back and how fresh an environment can be recovered; `watched` is None where it has no policy."""

    environment: Environment
    objectives: Objectives
    coverage: Coverage
    freshness: Freshness
    watched: Watched | None
    at: datetime

    @property
    def safe_at(self) -> datetime | None:
        """The newest time that can be restored; None where there is none."""
        return self.coverage.last_safe_before(self.at)

    @property
    def rpo_now(self) -> timedelta | None:
        """What would be lost if it happened now; None where there is nothing to go back to."""
        return None if self.safe_at is None else self.at - self.safe_at

    @property
    def is_rpo_met(self) -> bool:
        return self.rpo_now is not None and self.rpo_now <= self.objectives.rpo

    @property
    def is_drill_overdue(self) -> bool:
        return self.watched is not None and self.watched.drill_due_at < self.at


def environments_in(scope: Scope) -> QuerySet[Environment]:
    """Return the environments whose recovery the scope may see."""
    return access.environments_with(scope, Ability.RECOVERY_VIEW).select_related("tenant")


def environments_page(
    scope: Scope, *, before: int | None = None, after: int | None = None
) -> tuple[list[Environment], bool, bool]:
    """Return one page of environments by key, and whether there are earlier and later ones."""
    rows = environments_in(scope).prefetch_related("processes").order_by("pk")
    if before is not None:
        found = list(rows.filter(pk__lt=before).order_by("-pk")[: PAGE_SIZE + 1])
        return found[:PAGE_SIZE][::-1], len(found) > PAGE_SIZE, True
    if after is not None:
        rows = rows.filter(pk__gt=after)
    found = list(rows[: PAGE_SIZE + 1])
    return found[:PAGE_SIZE], after is not None, len(found) > PAGE_SIZE


def watched_in(scope: Scope, *, at: datetime, environment: Environment | None = None) -> Mapping[int, Watched]:
    """Return every environment in sight that has a policy, or the one named, by key, in one number of statements."""
    rows = policies_of(scope)
    policies = list(rows if environment is None else rows.filter(environment=environment))
    facts = backup_facts(policies, at=at)
    found = faults_in(facts, at=at)
    return {
        one.environment_id: Watched(
            policy=one,
            facts=facts[one.environment_id],
            alarms=alarms(facts[one.environment_id], at=at),
            faults=found[one.environment_id],
        )
        for one in policies
    }


def standings(environments: Iterable[Environment], *, watched: Mapping[int, Watched], at: datetime) -> list[Standing]:
    """Return where environments stand, in five statements; their processes are read before."""
    rows = list(environments)
    coverages = coverages_of(rows)
    fresh = freshness_in(rows, coverages=coverages, at=at)
    return [
        Standing(
            environment=one,
            objectives=objectives_of(one),
            coverage=coverages[one.pk],
            freshness=fresh[one.pk],
            watched=watched.get(one.pk),
            at=at,
        )
        for one in rows
    ]
