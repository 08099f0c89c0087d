"""The years that people and tools may name. Beyond them a moment is none on some clock, and no page could show it."""

from __future__ import annotations

from datetime import UTC, date, datetime, tzinfo

YEARS = range(1970, 2201)
OUTSIDE = f"Give a time between the years {YEARS.start} and {YEARS.stop - 1}."


def is_within_years(at: date) -> bool:
    """Tell whether a day or a moment, on its own clock, lies in a year that may be named."""
    return at.year in YEARS


def on_clock(at: datetime, zone: tzinfo) -> datetime:
    """Return a moment as the clocks of a zone show it; in UTC where they show none, which an old row may ask for."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at.astimezone(UTC)
