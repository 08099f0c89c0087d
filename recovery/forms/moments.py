"""A moment as a person gives it: a date, a time and the zone whose clocks showed it, each of them asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from django import forms

from changecontrol.rules.years import on_clock

_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?")


class WallTime(forms.CharField):
    """A time of day, `HH:MM` or to the second, and finer where a backup without WAL leaves no other moment."""

    def __init__(self, **words: Any) -> None:
        # Not the browser's own field: it hides seconds, and in some languages asks for AM and PM.
        widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "placeholder": "HH:MM:SS"})
        super().__init__(**{"max_length": 20, "widget": widget, **words})

    def clean(self, value: object) -> time | None:
        text = str(super().clean(value)).strip()
        if not text:
            return None
        found = _TIME.fullmatch(text)
        sentence = "Write the time as HH:MM or HH:MM:SS, from 00:00 to 23:59:59."
        if found is None:
            raise forms.ValidationError(sentence)
        hours, minutes, seconds, fraction = found.groups()
        try:
            return time(int(hours), int(minutes), int(seconds or 0), int((fraction or "0").ljust(6, "0")))
        except ValueError as refusal:
            raise forms.ValidationError(sentence) from refusal


def zone_choices(zones: Iterable[str]) -> list[tuple[str, str]]:
    """Return what a zone is chosen from. Nothing is chosen beforehand: a wrong zone is a wrong hour, unseen."""
    return [("", "Choose the zone"), *((name, name.replace("_", " ")) for name in zones)]


def moment_in(day: date, clock_time: time, zone: str) -> datetime:
    """Return the moment at which the clocks of a zone showed it. Raises `ValidationError` where none or two did."""
    wall = datetime.combine(day, clock_time)
    place = ZoneInfo(zone)
    first, second = (wall.replace(tzinfo=place, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    if first.astimezone(UTC).astimezone(place).replace(tzinfo=None) != wall:
        raise forms.ValidationError(f"The clocks of {zone} went forward over this time: it never was. Choose another.")
    raise forms.ValidationError(f"The clocks of {zone} showed this time twice. Give it in UTC.")


def wall_words(moment: datetime, zone: str) -> dict[str, str]:
    """Return the answers that give this moment back, to the last digit; in UTC where the zone's clocks tell no date."""
    local = on_clock(moment, ZoneInfo(zone))
    name = "UTC" if local.tzinfo is UTC else zone
    return {"date": local.date().isoformat(), "time": local.time().isoformat(), "zone": name}
