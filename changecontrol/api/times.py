"""Times as the API reads and tells them: moments in UTC, and wall-clock time, which has no offset."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError as FormError
from django_filters.fields import IsoDateTimeField
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from changecontrol.rules.years import OUTSIDE, is_within_years

_WALL_CLOCK = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}"
_TIME_OF_DAY = r"^\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?$"


class _MomentField(IsoDateTimeField):  # type: ignore[misc]  # the library has no types
    def to_python(self, value: Any) -> datetime | None:
        found: datetime | None = super().to_python(value)
        try:
            # PostgreSQL knows no offset of 16 hours or more, and neither side a time beyond its first and last year.
            return None if found is None else found.astimezone(UTC)
        except OverflowError:
            raise FormError("There is no such time.") from None


class MomentFilter(django_filters.IsoDateTimeFilter):  # type: ignore[misc]  # the library has no types
    """ISO 8601 with any offset, as a moment in UTC."""

    field_class = _MomentField


class Moment(serializers.DateTimeField):
    """ISO 8601 with an offset. One without is refused: whose midnight it is would be a guess."""

    default_error_messages = {
        "naive": "Write the time with its offset, such as 2026-11-24T02:00:00+01:00.",
        "outside": OUTSIDE,
    }

    def enforce_timezone(self, value: Any) -> Any:
        if value.tzinfo is None:
            self.fail("naive")
        if not is_within_years(value):
            self.fail("outside")
        return value.astimezone(UTC)


# RFC 3339, and so the formats of JSON Schema, know neither without an offset.
@extend_schema_field({"type": "string", "pattern": _TIME_OF_DAY, "example": "09:00:00"})
class TimeOfDay(serializers.TimeField):
    """The time on a store's own clock."""


@extend_schema_field({"type": "string", "pattern": _WALL_CLOCK, "example": "2026-11-24T02:00:00"})
class LocalTime(serializers.DateTimeField):
    """Wall-clock time, without an offset: the zone stands beside it. Stored times come as if in UTC."""

    def __init__(self, **options: Any) -> None:
        super().__init__(default_timezone=None, format="%Y-%m-%dT%H:%M:%S", **options)

    def enforce_timezone(self, value: Any) -> Any:
        if value.tzinfo is not None:
            raise serializers.ValidationError("Write local time, without an offset.")
        return value

    def to_representation(self, value: Any) -> Any:
        return value if isinstance(value, str) else value.replace(tzinfo=None).isoformat()
