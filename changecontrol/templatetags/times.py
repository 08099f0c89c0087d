"""Times with their zone and counted durations. Relative words never stand alone: pages show the absolute time too.

`zone` is an IANA name or a `tzinfo`; without it the viewer's zone (Django's current one) is used. A space that must not
break a line is U+00A0.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from changecontrol.rules.years import on_clock

register = template.Library()

NBSP = "\N{NO-BREAK SPACE}"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def _local(value: datetime, zone: str | tzinfo | None) -> datetime:
    if timezone.is_naive(value):
        raise ValueError("A time shown to people needs its zone.")
    if isinstance(zone, str) and zone:
        return on_clock(value, ZoneInfo(zone))
    return on_clock(value, zone if isinstance(zone, tzinfo) else timezone.get_current_timezone())


def _zone_name(local: datetime) -> str:
    """Return the abbreviation, or the offset where the zone has none."""
    name = local.tzname() or ""
    return f"UTC{name}" if name[:1] in "+-" else name


def _date(local: datetime) -> str:
    return f"{_DAYS[local.weekday()]} {local.day} {_MONTHS[local.month - 1]}"


@register.filter
def moment(value: datetime | None, zone: str | tzinfo | None = None) -> str:
    """Return `Mon 23 Nov 2026, 10:12 WET`."""
    if value is None:
        return ""
    local = _local(value, zone)
    return f"{_date(local)} {local.year}, {local:%H:%M}{NBSP}{_zone_name(local)}"


@register.filter
def exact_moment(value: datetime | None, zone: str | tzinfo | None = None) -> str:
    """Return `Mon 23 Nov 2026, 10:12:48 WET`: for a time that somebody gives, or may give."""
    if value is None:
        return ""
    local = _local(value, zone)
    return f"{_date(local)} {local.year}, {local:%H:%M:%S}{NBSP}{_zone_name(local)}"


@register.filter
def short_moment(value: datetime | None, zone: str | tzinfo | None = None) -> str:
    """Return `Mon 23 Nov 10:12 WET`: where the year is plain."""
    if value is None:
        return ""
    local = _local(value, zone)
    return f"{_date(local)} {local:%H:%M}{NBSP}{_zone_name(local)}"


@register.filter
def clock_time(value: datetime | None, zone: str | tzinfo | None = None) -> str:
    """Return `10:12 WET`: where the day is plain."""
    if value is None:
        return ""
    local = _local(value, zone)
    return f"{local:%H:%M}{NBSP}{_zone_name(local)}"


@register.filter
def second_time(value: datetime | None, zone: str | tzinfo | None = None) -> str:
    """Return `10:12:48 WET`: for logs."""
    if value is None:
        return ""
    local = _local(value, zone)
    return f"{local:%H:%M:%S}{NBSP}{_zone_name(local)}"


@register.filter
def day(value: datetime | None, zone: str | tzinfo | None = None) -> str:
    """Return `Mon 23 Nov`."""
    return "" if value is None else _date(_local(value, zone))


@register.filter
def duration(value: timedelta | float | None) -> str:
    """Return the two largest units: `8 s`, `48 min`, `1 h 26 min`, `1 d 11 h`. Numbers are seconds."""
    if value is None:
        return ""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        return f"\N{MINUS SIGN}{duration(-seconds)}"
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole}{NBSP}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}{NBSP}min"
    if whole < _DAY:
        return _pair(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "min")
    return _pair(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    first = f"{large}{NBSP}{large_unit}"
    return f"{first} {small}{NBSP}{small_unit}" if small else first


@register.filter
def age(value: datetime | None, at: datetime | None = None) -> str:
    """Return how long before `at` it was; a time to come counts as no age."""
    if value is None or at is None:
        return ""
    return duration(max(at - value, timedelta()))


@register.filter
def until(value: datetime | None, at: datetime | None = None) -> str:
    """Return how long after `at` it will be; a time gone by is negative."""
    return "" if value is None or at is None else duration(value - at)


_STYLES = {
    "full": moment,
    "exact": exact_moment,
    "short": short_moment,
    "clock": clock_time,
    "second": second_time,
    "day": day,
}


@register.simple_tag(name="time")
def time_element(value: datetime | None, style: str = "short", zone: str | tzinfo | None = None) -> SafeString | str:
    """Write a `<time>` element; hovering shows the full time. `style`: full, exact, short, clock, second or day."""
    if value is None:
        return ""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        value.isoformat(timespec="seconds"),
        moment(value, zone),
        _STYLES[style](value, zone),
    )


@register.simple_tag
def relative(value: datetime | None, at: datetime) -> SafeString | str:
    """Write the age at `at`, kept current by the page's script. Put the absolute time beside it."""
    if value is None:
        return ""
    return format_html(
        '<span data-age-of="{}" data-age-at="{}">{}</span>',
        value.isoformat(timespec="seconds"),
        at.isoformat(timespec="seconds"),
        age(value, at),
    )


@register.simple_tag
def remaining(value: datetime | None, at: datetime) -> SafeString | str:
    """Write the time left at `at`, kept current by the page's script. Put the absolute time beside it."""
    if value is None:
        return ""
    return format_html(
        '<span data-left-until="{}" data-age-at="{}">{}</span>',
        value.isoformat(timespec="seconds"),
        at.isoformat(timespec="seconds"),
        duration(max(value - at, timedelta())),
    )
