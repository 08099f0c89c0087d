"""What a revision asks for, as one frozen value, and its JSON. Pure; the same shape in drafts, revisions and plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from changecontrol.lifecycles.machine import Word


class Strategy(Word):
    ROLLING = "rolling"


class Promotion(Word):
    """Who opens the next wave once this one is healthy and baked."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


class OnFailure(Word):
    ROLL_BACK = "roll_back"
    PAUSE = "pause"


class OnWindowClose(Word):
    """WIN-7. What a run does when its window closes under it; the default finishes the wave."""

    FINISH_WAVE = "finish_wave"
    PAUSE_NOW = "pause_now"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Wave:
    """What one wave updates: these environments, and in them these cohorts (none named: everything not yet updated)."""

    name: str
    environments: tuple[str, ...]
    cohorts: tuple[str, ...] = ()
    bake_seconds: int = 600
    promotion: Promotion = Promotion.AUTOMATIC


@dataclass(frozen=True, slots=True)
class IndicatorRule:
    """One indicator of the catalogue and when it is a breach. `minimum_samples` are needed for a pass (ANA-2)."""

    indicator: str
    threshold: float
    minimum_samples: int = 3
    consecutive_breaches: int = 2


@dataclass(frozen=True, slots=True)
class Link:
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Content:
    """The answers of a revision. `commit` is a full hash once submitted; `revision_name` is what the person typed."""

    title: str = ""
    reason: str = ""
    description: str = ""
    security_impact: str = ""
    environments: tuple[str, ...] = ()
    revision_name: str = ""
    commit: str = ""
    strategy: Strategy = Strategy.ROLLING
    waves: tuple[Wave, ...] = ()
    max_unavailable: int = 1
    failure_budget: int = 0
    ready_within_seconds: int = 600
    on_failure: OnFailure = OnFailure.ROLL_BACK
    on_window_close: OnWindowClose = OnWindowClose.FINISH_WAVE
    indicators: tuple[IndicatorRule, ...] = ()
    rollback_plan: str = ""
    test_evidence: str = ""
    risk_answers: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    planned_start_at: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values only; `from_json` gives the same content back."""
        found: dict[str, Any] = asdict(self)
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Content:
        """Read what `to_json` wrote, and drafts with answers still missing. Unknown keys are ignored."""
        known = {key: data[key] for key in cls.__dataclass_fields__ if data.get(key) is not None}
        plain = replace(cls(), **{k: v for k, v in known.items() if k not in _SHAPED})
        return replace(
            plain,
            environments=tuple(known.get("environments", ())),
            strategy=Strategy(known.get("strategy", Strategy.ROLLING)),
            on_failure=OnFailure(known.get("on_failure", OnFailure.ROLL_BACK)),
            on_window_close=OnWindowClose(known.get("on_window_close", OnWindowClose.FINISH_WAVE)),
            waves=tuple(_wave(wave) for wave in known.get("waves", ())),
            indicators=tuple(IndicatorRule(**rule) for rule in known.get("indicators", ())),
            links=tuple(Link(**link) for link in known.get("links", ())),
            risk_answers=dict(known.get("risk_answers", {})),
        )


_SHAPED = {
    "environments",
    "strategy",
    "on_failure",
    "on_window_close",
    "waves",
    "indicators",
    "links",
    "risk_answers",
}


def _wave(data: Mapping[str, Any]) -> Wave:
    return Wave(
        name=data["name"],
        environments=tuple(data.get("environments", ())),
        cohorts=tuple(data.get("cohorts", ())),
        bake_seconds=int(data.get("bake_seconds", 600)),
        promotion=Promotion(data.get("promotion", Promotion.AUTOMATIC)),
    )
