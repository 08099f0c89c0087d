"""When a change may run, and whether each wave's run, bake and worst way back fit the time that is open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from changecontrol.models import ChangeRequest
from changecontrol.queries.windows import TargetVerdict, is_start_allowed, judge_change
from changecontrol.rules.content import Content
from changecontrol.templatetags.times import clock_time, short_moment
from changecontrol.views.wording import duration, span

SHOWN_REASONS = 6
OPEN_END = timedelta(hours=6)
"""How much of a time that never closes the chart shows after the last wave."""


@dataclass(frozen=True, slots=True)
class WindowFit:
    rows: tuple[dict[str, Any], ...]
    axis: dict[str, Any] | None
    starts_at: datetime
    is_open: bool
    summary: str
    least_spare: timedelta | None
    reasons: tuple[dict[str, str], ...]
    zone: str = field(default_factory=timezone.get_current_timezone_name)


def window_fit(change: ChangeRequest, content: Content, *, at: datetime) -> WindowFit:
    """Judge every wave from the planned start, or from now; from the next opening where that is closed."""
    start = max(change.planned_start_at or at, at)
    verdicts = judge_change(change, at=start, content=content)
    is_open = is_start_allowed(verdicts)
    reasons = tuple(
        {"text": text, "tone": "warn"}
        for text in dict.fromkeys(one.sentence for one in verdicts if not one.judgement.is_open)
    )[:SHOWN_REASONS]
    if not is_open:
        openings = [one.judgement.next_opening for one in verdicts if one.wave == 0 and one.judgement.next_opening]
        if not openings:
            return WindowFit((), None, start, False, "No opening is in sight.", None, reasons)
        start = min(openings)
        verdicts = judge_change(change, at=start, content=content)
    rows = tuple(_rows(content, verdicts, start=start))
    spare = min((row["spare"] for row in rows if row["spare"] is not None), default=None)
    return WindowFit(
        rows=rows,
        axis=_axis(rows, start) if rows else None,
        starts_at=start,
        is_open=is_open,
        summary=_summary(rows, spare),
        least_spare=spare,
        reasons=reasons,
    )


def _rows(content: Content, verdicts: Iterable[TargetVerdict], *, start: datetime) -> list[dict[str, Any]]:
    judged = list(verdicts)
    run_for = timedelta(seconds=content.ready_within_seconds)
    begins, rows = start, []
    for number, wave in enumerate(content.waves):
        mine = [one.judgement for one in judged if one.wave == number]
        closed = [one.next_opening for one in mine if not one.is_open and one.next_opening]
        run_start = max([begins, *closed])
        ends = [one.until for one in mine if one.is_open and one.until]
        run_end = run_start + run_for
        bake_end = run_end + timedelta(seconds=wave.bake_seconds)
        back_end = bake_end + run_for
        window_end = min(ends) if ends else back_end + OPEN_END
        window_start = max([start, *closed])
        is_bounded = bool(ends) and not closed
        rows.append(
            {
                "label": f"{number} {wave.name}",
                "window": _window_words(window_start, window_end if is_bounded else None),
                "window_start": window_start,
                "window_end": max(window_end, window_start),
                "run_start": run_start,
                "run_end": run_end,
                "bake_end": bake_end,
                "back_end": back_end,
                "spare": window_end - back_end if is_bounded else None,
                "sum": " + ".join(
                    (span(content.ready_within_seconds), span(wave.bake_seconds), span(content.ready_within_seconds))
                ),
                "summary": f"run at most {duration(run_for)}, then bake {span(wave.bake_seconds)}, "
                f"and at worst {duration(run_for)} back",
            }
        )
        begins = bake_end
    return rows


def _window_words(start: datetime, end: datetime | None) -> str:
    if end is None:
        return f"from {short_moment(start)}"
    is_one_day = timezone.localtime(start).date() == timezone.localtime(end).date()
    return f"{short_moment(start)} to {clock_time(end) if is_one_day else short_moment(end)}"


def _axis(rows: Iterable[dict[str, Any]], start: datetime) -> dict[str, Any]:
    found = list(rows)
    last = max(row["back_end"] for row in found)
    bounded = [row["window_end"] for row in found if row["spare"] is not None]
    end = max([last, *(one for one in bounded if one - start <= (last - start) * 3)])
    # Ticks are written as minutes: more of them than minutes would say the same twice.
    count = min(5, max(1, int((end - start) / timedelta(minutes=1))))
    return {"start": start, "end": end, "ticks": [start + (end - start) / count * index for index in range(count + 1)]}


def _summary(rows: tuple[dict[str, Any], ...], spare: timedelta | None) -> str:
    if not rows:
        return "Waves are proposed when the change is submitted."
    if spare is None:
        return "Fits: nothing closes while it runs."
    if spare < timedelta():
        return f"Does not fit: {duration(-spare)} too long."
    return f"Fits: least spare {duration(spare)}."
