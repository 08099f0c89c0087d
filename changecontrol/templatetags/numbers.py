"""Numbers as people read them: thousands by comma, a non-breaking space before the unit."""

from __future__ import annotations

from decimal import Decimal

from django import template

register = template.Library()

NBSP = "\N{NO-BREAK SPACE}"
_SIZES = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))
_SMALL = 10


def _trim(value: float, digits: int) -> str:
    """Format with at most that many decimals, without zeros at the end."""
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@register.filter
def number(value: float | Decimal | None) -> str:
    """Return `48,031`."""
    return "" if value is None else _trim(float(value), 2)


@register.filter
def percent(points: float | Decimal | None) -> str:
    """Return percentage points with their sign: `68 %`, `0.4 %`, `2.4 %`."""
    if points is None:
        return ""
    value = float(points)
    return f"{_trim(value, 1 if abs(value) < _SMALL else 0)}{NBSP}%"


@register.filter
def share(fraction: float | Decimal | None) -> str:
    """Return a fraction of one as percent: `0.68` reads `68 %`."""
    return "" if fraction is None else percent(float(fraction) * 100)


@register.filter
def size(byte_count: int | None) -> str:
    """Return bytes in decimal units: `48 kB`, `1.9 MB`."""
    if byte_count is None:
        return ""
    for unit_bytes, unit in _SIZES:
        if byte_count >= unit_bytes:
            value = byte_count / unit_bytes
            return f"{_trim(value, 1 if value < _SMALL else 0)}{NBSP}{unit}"
    return f"{byte_count}{NBSP}B"


@register.filter
def money(amount: float | Decimal | None, currency: str) -> str:
    """Return `1,204.50 EUR`."""
    return "" if amount is None else f"{Decimal(str(amount)):,.2f}{NBSP}{currency}"


@register.filter
def counted(count: int, words: str) -> str:
    """Return the count with its noun: `{{ 1|counted:"store,stores" }}` reads `1 store`."""
    singular, _, plural = words.partition(",")
    return f"{number(count)} {singular if count == 1 else plural or singular + 's'}"
