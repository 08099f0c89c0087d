"""Geometry of charts the server draws: bars, lanes, sparklines. Numbers leave as text, colour stays in classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import template

from changecontrol.templatetags.states import look

register = template.Library()

WIDTH, HEIGHT, MARGIN = 120.0, 28.0, 2.0
COLUMNS = 56
"""Quarter-day columns of the two-week lane."""
WIDEST = 28
HEAVIEST = 12
_FILLS = {"good": "g-good", "warn": "g-warn", "bad": "g-bad", "info": "g-info", "hold": "g-hold"}


def _per_cent(fraction: float) -> str:
    return f"{fraction * 100:.3f}".rstrip("0").rstrip(".") + "%"


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a stacked bar; `x` and `width` are percentages with their sign."""

    x: str
    width: str
    fill: str


@register.simple_tag
def stack(counts: Mapping[str, int] | Iterable[tuple[str, int]], total: int) -> tuple[Piece, ...]:
    """Lay counts by state side by side in a bar of `total`. `pending` is the bar's own ground and takes no piece."""
    pieces, start = [], 0.0
    for state, count in counts.items() if isinstance(counts, Mapping) else counts:
        width = count / total if total else 0.0
        if width and state != "pending":
            fill = "g-mid" if state == "updating" else _FILLS.get(look(state).tone, "g-mid")
            pieces.append(Piece(_per_cent(start), _per_cent(width), fill))
        start += width
    return tuple(pieces)


@register.filter
def bar_width(fraction: float | None) -> str:
    """Return a fraction of one as an SVG width, held between nothing and all."""
    return _per_cent(min(max(float(fraction or 0), 0.0), 1.0))


@register.simple_tag
def weight(part: int, parts: Sequence[Any], key: str = "total") -> int:
    """Return 1 to 12: how broad a part stands beside the largest of its parts."""
    largest = max((_pick(item, key) for item in parts), default=0)
    return max(1, round(part / largest * HEAVIEST)) if largest else 1


def _pick(item: Any, key: str) -> Any:
    return item[key] if isinstance(item, Mapping) else getattr(item, key)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a span lies on an axis: exactly (`x`, `width`), and in columns for the labels of the two-week lane."""

    x: str
    width: str
    column: int
    columns: int
    is_visible: bool


@register.simple_tag
def place(start: datetime, end: datetime, axis: Any) -> Place:
    """Place a span on an axis with `start` and `end`; what sticks out is cut off. A label is at least 7 columns."""
    first, last = _pick(axis, "start"), _pick(axis, "end")
    length = (last - first) / timedelta(seconds=1)
    left = min(max((start - first) / timedelta(seconds=1) / length, 0.0), 1.0)
    right = min(max((end - first) / timedelta(seconds=1) / length, 0.0), 1.0)
    columns = min(max(math.ceil(round((right - left) * COLUMNS, 6)), 7), WIDEST)
    column = min(int(left * COLUMNS) + 1, COLUMNS - columns + 1)
    return Place(_per_cent(left), _per_cent(right - left), column, columns, is_visible=right > left)


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A line chart in a box of 120 × 28. A gap in the samples ends one line and begins the next."""

    lines: tuple[str, ...]
    baseline: tuple[str, ...]
    threshold: str


@register.simple_tag
def sparkline(
    samples: Sequence[float | None], threshold: float | None = None, baseline: Sequence[float | None] | None = None
) -> Sparkline:
    """Compute the points of a sparkline. The scale holds zero, all samples and the threshold; None and NaN are gaps."""
    known = [value for value in (*samples, *(baseline or ()), threshold) if value is not None and math.isfinite(value)]
    top = max(max(known, default=0.0), 0.0) * 1.15
    bottom = min(min(known, default=0.0), 0.0)
    span = (top - bottom) or 1.0

    def height(value: float) -> str:
        return f"{HEIGHT - MARGIN - (value - bottom) / span * (HEIGHT - 2 * MARGIN):.1f}"

    return Sparkline(
        lines=_lines(samples, height),
        baseline=_lines(baseline or (), height),
        threshold="" if threshold is None else height(threshold),
    )


def _lines(samples: Sequence[float | None], height: Callable[[float], str]) -> tuple[str, ...]:
    step = WIDTH / max(len(samples) - 1, 1)
    lines: list[list[str]] = [[]]
    for place_, value in enumerate(samples):
        if value is None or not math.isfinite(value):
            lines.append([])
        else:
            lines[-1].append(f"{place_ * step:.1f},{height(value)}")
    return tuple(" ".join(line) if len(line) > 1 else _dash(line[0]) for line in lines if line)


def _dash(point: str) -> str:
    """Draw a lone sample as a short dash: one point makes no line."""
    x, _, y = point.partition(",")
    left = min(float(x), WIDTH - MARGIN)
    return f"{left:.1f},{y} {left + MARGIN:.1f},{y}"
