"""What a revision asks for, as one frozen value, and its JSON. Pure; the same shape in drafts, revisions and plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from changecontrol.errors import Invalid
from changecontrol.lifecycles.change import ChangeKind, ChangeType
from changecontrol.lifecycles.machine import Word

OFFERED_KINDS = frozenset({ChangeKind.DEPLOY, ChangeKind.RESTORE})
"""The kinds of work that a workflow carries out; another kind would wait for ever."""
OFFERED_TYPES = frozenset({ChangeType.NORMAL, ChangeType.EMERGENCY})
"""A standard change comes from an approved template, and there are none yet."""
DEFAULT_BAKE_SECONDS = 600
DEFAULT_KEEP_HOURS = 72
RESTORE_FIELDS = ("restore_to", "restore_database", "keep_hours")
"""What a restore alone answers: to which time, under which name, and how long the database in use now is kept."""


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
    bake_seconds: int = DEFAULT_BAKE_SECONDS
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
    """The answers of a revision. `commit` is a full hash once submitted; `revision_name` is what the person typed.

    `restore_to` is ISO 8601 with an offset. Its commit is the one that names `restore_database`.
    """

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
    restore_to: str = ""
    restore_database: str = ""
    keep_hours: int = DEFAULT_KEEP_HOURS

    def to_json(self) -> dict[str, Any]:
        """Return JSON values only; `from_json` gives the same content back."""
        found: dict[str, Any] = asdict(self)
        if (self.restore_to, self.restore_database, self.keep_hours) == ("", "", DEFAULT_KEEP_HOURS):
            # Said by restores alone: revisions and plans that were written before read, and digest, as they did.
            return {name: value for name, value in found.items() if name not in RESTORE_FIELDS}
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Content:
        """Read what `to_json` wrote, and drafts with answers still missing. Unknown keys are ignored.

        Raises `Invalid`, by field, for words that have the wrong shape.
        """
        known = {key: data[key] for key in cls.__dataclass_fields__ if data.get(key) is not None}
        read: dict[str, Any] = {}
        fields: dict[str, list[str]] = {}
        for key, value in known.items():
            try:
                read[key] = _READERS.get(key, _text)(value)
            except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
                fields[key] = [f"This is not how “{key.replace('_', ' ')}” is written."]
        if fields:
            raise Invalid("Some answers cannot be read.", fields=fields)
        return replace(cls(), **read)

    @property
    def reach(self) -> dict[str, frozenset[str] | None]:
        """Return the cohorts that the waves name in each environment; None where one takes whatever is left."""
        found: dict[str, frozenset[str] | None] = {}
        for wave in self.waves:
            for environment in wave.environments:
                named = found.get(environment, frozenset())
                found[environment] = None if named is None or not wave.cohorts else named | set(wave.cohorts)
        return found

    @property
    def estimated_seconds(self) -> int:
        """How long a run takes at most when nothing fails: readiness and bake of every wave."""
        return sum(self.ready_within_seconds + wave.bake_seconds for wave in self.waves)


def propose_waves(
    environments: Sequence[str], *, pilots: Sequence[str], pilot_environments: Sequence[str]
) -> tuple[Wave, ...]:
    """Return the waves of somebody who named none: the pilot cohorts first, where there are any, then what is left."""
    if not pilots:
        return (Wave(name="All at once", environments=tuple(environments)),)
    pilot = Wave(name="Pilot", environments=tuple(pilot_environments), cohorts=tuple(pilots))
    return (pilot, Wave(name="Everything else", environments=tuple(environments)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    if "\x00" in value:
        raise ValueError("NUL")  # PostgreSQL has no text with it
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(value)
    return int(value)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(value)
    return tuple(_text(one) for one in value)


def _wave(data: Mapping[str, Any]) -> Wave:
    return Wave(
        name=_text(data["name"]),
        environments=_texts(data.get("environments", ())),
        cohorts=_texts(data.get("cohorts", ())),
        bake_seconds=_whole(data.get("bake_seconds", DEFAULT_BAKE_SECONDS)),
        promotion=Promotion(data.get("promotion", Promotion.AUTOMATIC)),
    )


def _indicator(data: Mapping[str, Any]) -> IndicatorRule:
    return IndicatorRule(
        indicator=_text(data["indicator"]),
        threshold=_finite(data["threshold"]),
        minimum_samples=_whole(data.get("minimum_samples", 3)),
        consecutive_breaches=_whole(data.get("consecutive_breaches", 2)),
    )


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError(value)  # JSON has neither infinity nor NaN
    return float(value)


def _items(value: Any) -> list[Any]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise TypeError(value)
    return list(value)


_READERS: Mapping[str, Any] = {
    "environments": _texts,
    "strategy": Strategy,
    "on_failure": OnFailure,
    "on_window_close": OnWindowClose,
    "max_unavailable": _whole,
    "failure_budget": _whole,
    "ready_within_seconds": _whole,
    "keep_hours": _whole,
    "waves": lambda value: tuple(_wave(one) for one in _items(value)),
    "indicators": lambda value: tuple(_indicator(one) for one in _items(value)),
    "links": lambda value: tuple(Link(label=_text(one["label"]), url=_text(one["url"])) for one in _items(value)),
    "risk_answers": lambda value: {_text(key): _text(answer) for key, answer in value.items()},
}
