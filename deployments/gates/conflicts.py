"""Looks for another change that has the same environment at the same time (WIN-13).

Whoever was approved first keeps the time. The lock on the environment, taken at the start, is what enforces it.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from django.db.models import Q

from changecontrol.gates import GateVerdict
from changecontrol.lifecycles.change import EXECUTING, ChangeState
from changecontrol.models import ChangeRequest
from changecontrol.models.gate import Verdict
from changecontrol.rules.conflicts import Claim, find_conflicts
from changecontrol.rules.intervals import Interval
from deployments.gates.context import KINDS, DeployContext, digest_of_value, said


class ConflictGate:
    key = "target_conflict"
    name = "Conflicts with other changes"
    tool = "ChangeControl calendar"
    kinds = KINDS
    time_to_live = timedelta(hours=1)

    def judge(self, context: DeployContext) -> GateVerdict:
        change = context.change
        slugs = sorted(one.environment.slug for one in context.resolved.environments)
        judged = digest_of_value(slugs)
        lasts = timedelta(seconds=context.resolved.content.estimated_seconds)
        if change.planned_start_at is None:
            words = "It starts when its environments are free and its window is open."
            return GateVerdict(Verdict.PASS, words, judged, "environments", raw=[])
        mine = _claim(change, lasts=lasts)
        before = Q(state__in=EXECUTING) | Q(state=ChangeState.SCHEDULED)
        if change.authorized_at is not None:
            before &= Q(authorized_at__lt=change.authorized_at)
        others = (
            ChangeRequest.objects.filter(
                before, environments__in=change.environments.all(), planned_start_at__isnull=False
            )
            .exclude(pk=change.pk)
            .distinct()
            .prefetch_related("environments")
        )
        found = [
            one
            for one in find_conflicts(mine, others=[_claim(each, lasts=lasts) for each in others])
            if one.is_blocking
        ]
        return GateVerdict(
            verdict=Verdict.FAIL if found else Verdict.PASS,
            sentence=f"{said([one.sentence for one in found])} Choose another start."
            if found
            else "No other change has these environments at that time.",
            judged=judged,
            judged_what="environments",
            raw=[asdict(one) for one in found],
        )


def _claim(change: ChangeRequest, *, lasts: timedelta) -> Claim:
    start = change.planned_start_at
    assert start is not None
    end = change.planned_end_at or start + lasts
    return Claim(
        change=change.number,
        interval=Interval(start, max(end, start + timedelta(minutes=1))),
        environments=frozenset(one.slug for one in change.environments.all()),
    )
