"""How a change is rolled out: its waves, what is watched, and what happens on failure or when the window closes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.forms import BoundField
from django.utils import timezone

from changecontrol.forms.changes import StepForm, as_ruled
from changecontrol.rules.content import DEFAULT_BAKE_SECONDS
from changecontrol.rules.content_problems import MAX_WAVES

LEAST_WAVES = 4
PROPOSED, OWN = "proposed", "own"


@dataclass(frozen=True, slots=True)
class Place:
    """What a wave can name: a cohort in an environment, or an environment that serves no cohort."""

    name: str
    environment: str
    cohort: str
    label: str
    note: str


@dataclass(frozen=True, slots=True)
class PlaceRow:
    place: Place
    wave: BoundField


@dataclass(frozen=True, slots=True)
class WaveRow:
    number: int
    name: BoundField
    bake: BoundField
    promotion: BoundField


@dataclass(frozen=True, slots=True)
class IndicatorRow:
    title: str
    rule: str
    is_watched: BoundField
    threshold: BoundField
    samples: BoundField
    breaches: BoundField


class HowForm(StepForm):
    key = "how"
    heading = "How"
    lede = "waves, bake, and what happens when something fails"
    content_fields = {
        "waves": "wave_plan",
        "planned_start_at": "planned_start_at",
        "max_unavailable": "max_unavailable",
        "failure_budget": "failure_budget",
        "ready_within_seconds": "ready_within_minutes",
        "on_failure": "on_failure",
        "on_window_close": "on_window_close",
    }

    wave_plan = forms.ChoiceField(
        label="Waves",
        required=False,
        widget=forms.RadioSelect,
        choices=[(PROPOSED, "The pilot first, then everything else"), (OWN, "Waves of my own")],
    )
    planned_start_at = forms.DateTimeField(
        label="Planned start",
        required=False,
        help_text="In your own zone. Left empty: as soon as the window allows.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    ready_within_minutes = forms.IntegerField(
        label="Ready within, minutes",
        min_value=1,
        max_value=120,
        initial=10,
        error_messages=as_ruled("ready_within_seconds", 0),
    )
    max_unavailable = forms.IntegerField(
        label="Targets down at once",
        min_value=1,
        max_value=500,
        initial=1,
        error_messages=as_ruled("max_unavailable", 0),
    )
    failure_budget = forms.IntegerField(
        label="Failure budget of a wave, targets",
        min_value=0,
        max_value=500,
        initial=0,
        error_messages=as_ruled("failure_budget", -1),
    )
    on_failure = forms.ChoiceField(
        label="When the budget is spent or an indicator is breached",
        widget=forms.RadioSelect,
        choices=[("roll_back", "Roll back"), ("pause", "Pause")],
    )
    on_window_close = forms.ChoiceField(
        label="If the window closes while it runs",
        widget=forms.RadioSelect,
        choices=[
            ("finish_wave", "Finish the wave, then pause"),
            ("pause_now", "Pause at once"),
            ("roll_back", "Roll back"),
        ],
    )

    wave_hints = {
        PROPOSED: "proposed at submission from the pilot cohorts; a restore comes everywhere at once",
        OWN: "you say which cohort is in which",
    }
    failure_hints = {
        "roll_back": "the commit that ran before is applied again, in Git too",
        "pause": "nothing is put back until a person decides",
    }
    closing_hints = {
        "finish_wave": "the default",
        "pause_now": "targets under way are finished by hand",
        "roll_back": "what was updated goes back",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = _places(self.content, self.around.environments)
        self.wave_count = _wave_count(self.content, self.data if self.is_bound else {})
        numbers = [("", "none")] + [(str(one), str(one)) for one in range(1, self.wave_count + 1)]
        for place in self.places:
            self.fields[place.name] = forms.ChoiceField(label=f"Wave of {place.label}", required=False, choices=numbers)
        for number in range(1, self.wave_count + 1):
            self.fields[f"wave_{number}_name"] = forms.CharField(
                label=f"Name of wave {number}", required=False, max_length=120
            )
            self.fields[f"wave_{number}_bake"] = forms.IntegerField(
                label=f"Bake after wave {number}, minutes", required=False, min_value=0, max_value=4320
            )
            self.fields[f"wave_{number}_promotion"] = forms.ChoiceField(
                label=f"What opens the wave after wave {number}",
                required=False,
                choices=[("automatic", "when its indicators pass"), ("manual", "a person promotes")],
            )
        for one in self.around.indicators:
            self.fields[f"watch_{one.key}"] = forms.BooleanField(label=f"Watch “{one.title}”", required=False)
            unit = ", percent" if one.unit == "ratio" else ""
            self.fields[f"threshold_{one.key}"] = forms.FloatField(label=f"Threshold{unit}", required=False)
            self.fields[f"samples_{one.key}"] = forms.IntegerField(
                label="Samples for a pass", required=False, min_value=1, max_value=1000
            )
            self.fields[f"breaches_{one.key}"] = forms.IntegerField(
                label="Breaches in a row", required=False, min_value=1, max_value=100
            )

    def initial_of(self, content: Mapping[str, Any]) -> dict[str, Any]:
        waves = content.get("waves") or ()
        found: dict[str, Any] = {
            "wave_plan": OWN if waves else PROPOSED,
            "planned_start_at": _local(content.get("planned_start_at") or ""),
            "max_unavailable": content.get("max_unavailable", 1),
            "failure_budget": content.get("failure_budget", 0),
            "ready_within_minutes": max(int(content.get("ready_within_seconds") or 600) // 60, 1),
            "on_failure": content.get("on_failure") or "roll_back",
            "on_window_close": content.get("on_window_close") or "finish_wave",
        }
        for place in _places(content, self.around.environments):
            found[place.name] = _wave_of(place, waves)
        for number in range(1, _wave_count(content, {}) + 1):
            wave = waves[number - 1] if number <= len(waves) else {}
            found[f"wave_{number}_name"] = wave.get("name", "")
            found[f"wave_{number}_bake"] = int(wave.get("bake_seconds", DEFAULT_BAKE_SECONDS)) // 60
            found[f"wave_{number}_promotion"] = wave.get("promotion", "automatic")
        watched = {one["indicator"]: one for one in content.get("indicators") or ()}
        for one in self.around.indicators:
            rule = watched.get(one.key, {})
            threshold = float(rule.get("threshold", one.threshold))
            found[f"watch_{one.key}"] = one.key in watched
            found[f"threshold_{one.key}"] = _shown(threshold, one.unit)
            found[f"samples_{one.key}"] = rule.get("minimum_samples", 3)
            found[f"breaches_{one.key}"] = rule.get("consecutive_breaches", 2)
        return found

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("wave_plan") == OWN:
            for sentence in _collisions(self.places, cleaned):
                self.add_error("wave_plan", sentence)
        return cleaned

    def answers(self) -> dict[str, Any]:
        given = self.cleaned_data
        start = given["planned_start_at"]
        return {
            "waves": self._waves() if given["wave_plan"] == OWN else [],
            "planned_start_at": start.isoformat() if start else "",
            "max_unavailable": given["max_unavailable"],
            "failure_budget": given["failure_budget"],
            "ready_within_seconds": given["ready_within_minutes"] * 60,
            "on_failure": given["on_failure"],
            "on_window_close": given["on_window_close"],
            "indicators": [self._indicator(one) for one in self.around.indicators if given[f"watch_{one.key}"]],
        }

    def field_for(self, name: str, sentence: str) -> str | None:
        if name == "indicators" and self.around.indicators:
            return f"watch_{self.around.indicators[0].key}"
        return super().field_for(name, sentence)

    @property
    def place_rows(self) -> list[PlaceRow]:
        return [PlaceRow(place, self[place.name]) for place in self.places]

    @property
    def wave_rows(self) -> list[WaveRow]:
        return [
            WaveRow(n, self[f"wave_{n}_name"], self[f"wave_{n}_bake"], self[f"wave_{n}_promotion"])
            for n in range(1, self.wave_count + 1)
        ]

    @property
    def indicator_rows(self) -> list[IndicatorRow]:
        return [
            IndicatorRow(
                title=one.title,
                rule=f"{one.comparison.value.replace('_', ' ')} the threshold passes",
                is_watched=self[f"watch_{one.key}"],
                threshold=self[f"threshold_{one.key}"],
                samples=self[f"samples_{one.key}"],
                breaches=self[f"breaches_{one.key}"],
            )
            for one in self.around.indicators
        ]

    def _waves(self) -> list[dict[str, Any]]:
        """Return the waves that name something, in order. A wave names a place, or keeps what it named before."""
        given = self.cleaned_data
        found: list[dict[str, Any]] = []
        for number in range(1, self.wave_count + 1):
            places = [one for one in self.places if given.get(one.name) == str(number)]
            if not places:
                continue
            bake = given[f"wave_{number}_bake"]
            found.append(
                {
                    "name": given[f"wave_{number}_name"].strip() or ("Pilot" if not found else f"Wave {len(found)}"),
                    "environments": list(dict.fromkeys(one.environment for one in places)),
                    "cohorts": list(dict.fromkeys(one.cohort for one in places if one.cohort)),
                    "bake_seconds": DEFAULT_BAKE_SECONDS if bake is None else bake * 60,
                    "promotion": given[f"wave_{number}_promotion"] or "automatic",
                }
            )
        return found

    def _indicator(self, one: Any) -> dict[str, Any]:
        given = self.cleaned_data
        threshold = given[f"threshold_{one.key}"]
        if threshold is None:
            threshold = _shown(one.threshold, one.unit)
        return {
            "indicator": one.key,
            "threshold": round(threshold / 100, 8) if one.unit == "ratio" else threshold,
            "minimum_samples": given[f"samples_{one.key}"] or 3,
            "consecutive_breaches": given[f"breaches_{one.key}"] or 2,
        }


def _places(content: Mapping[str, Any], environments: Any) -> tuple[Place, ...]:
    chosen = list(content.get("environments") or ())
    found = []
    for environment in environments:
        if environment.slug not in chosen:
            continue
        cohorts = list(environment.cohorts.all())
        found += [
            Place(
                name=f"place_{environment.slug}_{cohort.slug}",
                environment=environment.slug,
                cohort=cohort.slug,
                label=f"{cohort.name} in {environment.name}",
                note="pilot" if cohort.is_pilot else "",
            )
            for cohort in cohorts
        ]
        if not cohorts:
            name = f"place_{environment.slug}"
            found.append(Place(name, environment.slug, "", environment.name, "serves no cohort"))
    return tuple(found)


def _wave_count(content: Mapping[str, Any], data: Mapping[str, Any]) -> int:
    """Return how many waves the form offers: those there are, those that were sent, and one more."""
    sent = [int(key.split("_")[1]) for key in data if key.startswith("wave_") and key.split("_")[1].isdecimal()]
    return min(max(LEAST_WAVES, len(content.get("waves") or ()) + 1, *sent, 0), MAX_WAVES)


def _wave_of(place: Place, waves: Any) -> str:
    """Return the first wave that updates the place; one that names no cohort takes whatever is left."""
    for number, wave in enumerate(waves, start=1):
        named = wave.get("cohorts") or ()
        if place.environment in (wave.get("environments") or ()) and (not named or place.cohort in named):
            return str(number)
    return ""


def _collisions(places: tuple[Place, ...], given: Mapping[str, Any]) -> list[str]:
    """Say where a wave would reach more than its rows: it names environments and cohorts, not pairs of them."""
    waves: dict[str, list[Place]] = {}
    for place in places:
        if number := given.get(place.name):
            waves.setdefault(number, []).append(place)
    sentences = []
    if not waves:
        return ["Put at least one place in a wave, or let the waves be proposed."]
    for number, rows in sorted(waves.items()):
        cohorts = {one.cohort for one in rows if one.cohort}
        if cohorts and any(not one.cohort for one in rows):
            sentences.append(f"Wave {number}: give environments without cohorts a wave of their own.")
        environments = {one.environment for one in rows}
        stray = [
            one
            for one in places
            if one.environment in environments and one.cohort in cohorts and given.get(one.name) != number
        ]
        sentences.extend(f"Wave {number} would update {one.label} too; put it in the same wave." for one in stray)
    return sentences


def _shown(threshold: float, unit: str) -> float:
    return round(threshold * 100, 6) if unit == "ratio" else threshold


def _local(text: str) -> datetime | None:
    """Read a stored time into the person's zone; None where there is none or it cannot be read."""
    try:
        return timezone.localtime(datetime.fromisoformat(text)) if text else None
    except (ValueError, OverflowError):
        return None
