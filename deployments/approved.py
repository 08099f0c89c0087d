"""What a run may do: the approved plan read back as values. Nothing is resolved again here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from changecontrol.models import Environment, Plan, Run
from changecontrol.ports import ObjectRef
from changecontrol.rules.content import Content, OnFailure, OnWindowClose, Promotion, Wave
from deployments.rules import waves as rules

CLOSING: Mapping[OnWindowClose, str] = {
    OnWindowClose.FINISH_WAVE: "finish_wave_and_pause",
    OnWindowClose.PAUSE_NOW: "pause_now",
    OnWindowClose.ROLL_BACK: "roll_back",
}


MAX_REMEMBERED = 32
_remembered: dict[str, Approved] = {}


@dataclass(frozen=True)
class Approved:
    """One approved plan document."""

    document: Mapping[str, Any]

    @classmethod
    def of(cls, plan: Plan) -> Approved:
        return cls(plan.content)

    @classmethod
    def of_run(cls, run: Run) -> Approved:
        """Return the plan of a run. Every target asks, and a plan never changes: it is remembered by its digest."""
        if Run._meta.get_field("plan").is_cached(run) and run.plan is not None:
            return _remembered.get(run.plan.digest) or _remember(run.plan)
        plans = Plan.objects.filter(run=run)
        return _remembered.get(plans.values_list("digest", flat=True).get()) or _remember(plans.get())

    @cached_property
    def content(self) -> Content:
        """What was asked for, with environments and waves as they were resolved."""
        return replace(
            Content.from_json(self.document["content"]),
            environments=tuple(one["name"] for one in self.document["environments"]),
            waves=tuple(
                Wave(
                    name=one["name"],
                    environments=tuple(one["environments"]),
                    cohorts=tuple(one["cohorts"]),
                    bake_seconds=int(one["bake_seconds"]),
                    promotion=Promotion(one["promotion"]),
                )
                for one in self.document["waves"]
            ),
        )

    @property
    def commit(self) -> str:
        return str(self.document["commit"])

    def commit_from(self, environment: Environment) -> str | None:
        """Return what ran in an environment when the plan was made; None where nothing ever did."""
        for one in self.document["environments"]:
            if one["name"] == environment.slug:
                return str(one["commit_from"]) or None
        return None

    def takes_over(self, environment: Environment, ref: ObjectRef) -> bool:
        """Tell whether the plan says that this object, which belonged to nobody, is taken over."""
        said = (one.get("taken_over", ()) for one in self.document["gates"])
        return any(f"{environment.slug}: {ref}" in objects for objects in said)

    @property
    def rolls_back(self) -> bool:
        return self.content.on_failure is OnFailure.ROLL_BACK

    def wave(self, number: int) -> Wave:
        return self.content.waves[number]

    def wave_policy(self, number: int, *, is_skipped: bool) -> rules.WavePolicy:
        """Return how one wave is carried out; a skipped bake lasts no time."""
        wave = self.wave(number)
        return rules.WavePolicy(
            bake_for=timedelta(seconds=0 if is_skipped else wave.bake_seconds),
            failure_budget=self.content.failure_budget,
            max_updating_count=max(1, self.content.max_unavailable),
            on_failure=rules.OnFailure.ROLL_BACK if self.rolls_back else rules.OnFailure.PAUSE,
            needs_promotion=wave.promotion is Promotion.MANUAL,
        )


def _remember(plan: Plan) -> Approved:
    while len(_remembered) >= MAX_REMEMBERED:
        _remembered.pop(next(iter(_remembered)), None)
    found = _remembered[plan.digest] = Approved.of(plan)
    return found
