"""What the page of a run shows, as finished facts: progress, waves and targets, indicators, log."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from changecontrol.lifecycles.run import ACTIVE, ENDED, RunState, TargetState
from changecontrol.models import Run, RunLog, RunTarget
from changecontrol.queries.windows import judge_change
from changecontrol.rules.content import Content
from changecontrol.templatetags.states import LOOKS
from changecontrol.templatetags.times import clock_time, short_moment
from changecontrol.views.plan_facts import CLASS_WORDS
from changecontrol.views.wording import counted, duration, words
from changecontrol.workflow.trouble import trouble_of
from deployments.models import Measurement
from deployments.rules.analysis import AnalysisVerdict, Comparison
from deployments.rules.indicators import CATALOGUE, Health, Indicator
from deployments.rules.progress import PlannedWave, TargetProgress, count_by_state, pace_of, time_left

SHARED = "shared"
GOING = frozenset({RunState.RUNNING, RunState.BAKING, RunState.AWAITING_PROMOTION, RunState.PREFLIGHT})
TONES = {
    "refresh": "info",
    "circle-check": "good",
    "circle-x": "bad",
    "alert-triangle": "bad",
    "player-pause": "hold",
    "clock-pause": "hold",
    "arrow-back-up": "warn",
    "player-play": "info",
    "hourglass": "info",
}
SHIPPED_ICONS = {"upload": "send", "player-stop": "hand-stop"}
"""Icons the log may name that the design system draws by another name."""


@dataclass(frozen=True, slots=True)
class PlanView:
    """The approved plan as a run's page reads it; parts a document lacks are empty."""

    document: Mapping[str, Any]

    @property
    def content(self) -> Content:
        return Content.from_json(self.document.get("content", {}))

    @property
    def waves(self) -> list[PlannedWave]:
        return [
            PlannedWave(one["name"], timedelta(seconds=one["bake_seconds"]), one.get("promotion") == "manual")
            for one in self.document.get("waves", ())
        ]

    def wave_label(self, number: int) -> str:
        names = [one.name for one in self.waves]
        name = names[number] if number < len(names) else ""
        return name if name and name[:4].lower() == "wave" else f"Wave {number}" + (f", {name.lower()}" if name else "")

    @property
    def rollback_class(self) -> str:
        found = str(self.document.get("rollback", {}).get("class", ""))
        return f"{found}, {CLASS_WORDS[found]}" if found in CLASS_WORDS else found

    def served(self) -> dict[tuple[str, str], tuple[int, float]]:
        """Return stores and share of sales, as a fraction, by environment and cohort."""
        return {
            (one["environment"], one["cohort"]): (int(one["stores"]), float(one["sales_share"]) / 100)
            for one in self.document.get("targets", ())
            if one["cohort"]
        }


def plan_of(run: Run) -> PlanView:
    return PlanView(run.plan.content if run.plan else {})


def version_of(run: Run, targets: Sequence[RunTarget], *, log: Sequence[RunLog], samples: int) -> str:
    """Name what the live part shows: while it stays the same there is nothing to draw again."""
    seen = hashlib.sha256()
    seen.update(f"{run.state} {run.wave} {run.bakes_until} {run.sentence} {run.intent} {samples}".encode())
    seen.update(trouble_of(run).encode())
    seen.update(str(log[0].pk if log else 0).encode())
    for one in targets:
        seen.update(f"{one.pk}{one.state}{one.ready_count}{one.desired_count}{trouble_of(one)}".encode())
    return seen.hexdigest()[:16]


def progress_facts(run: Run, targets: Sequence[RunTarget], *, plan: PlanView, at: datetime) -> list[dict[str, Any]]:
    """Return the figures at the top of the page."""
    healthy = sum(1 for one in targets if one.state == TargetState.HEALTHY)
    reverted = sum(1 for one in targets if one.state == TargetState.REVERTED)
    back = f"; {reverted} put back" if reverted else ""
    facts: list[dict[str, Any]] = [
        {"label": "Healthy on the new version", "value": f"{healthy} of {len(targets)}", "note": f"targets{back}"}
    ]
    if run.state in GOING or run.state == RunState.PAUSED:
        facts.append(_left(run, targets, plan=plan, at=at))
    if run.state in ACTIVE:
        facts.extend(_closing(run, plan=plan, at=at))
    in_wave = [one for one in targets if one.wave == run.wave]
    failed = sum(1 for one in in_wave if one.state == TargetState.FAILED)
    deferred = sum(1 for one in in_wave if one.state == TargetState.DEFERRED)
    budget = plan.content.failure_budget
    facts.append(
        {
            "label": f"Failure budget, {_short(plan.wave_label(run.wave))}",
            "value": f"{failed} of {budget}",
            "note": f"targets failed; {deferred} deferred",
            "state": "alarm" if failed > budget else "",
        }
    )
    if run.started_at:
        until = run.finished_at or at
        label = "Took" if run.finished_at else "Under way for"
        facts.append(
            {"label": label, "value": duration(until - run.started_at), "note": f"since {short_moment(run.started_at)}"}
        )
    return facts


def _left(run: Run, targets: Sequence[RunTarget], *, plan: PlanView, at: datetime) -> dict[str, Any]:
    content = plan.content
    seen = [
        TargetProgress(
            one.wave,
            TargetState(one.state),
            one.finished_at - one.started_at if one.started_at and one.finished_at else None,
        )
        for one in targets
    ]
    left = time_left(
        plan.waves,
        targets=seen,
        wave=run.wave,
        pace=pace_of(seen, at_most=timedelta(seconds=content.ready_within_seconds)),
        at_once=content.max_unavailable,
        bakes_until=run.bakes_until,
        at=at,
    )
    is_known = any(one.took is not None for one in seen)
    note = f"ends about {clock_time(at + left)}" if is_known else "at most, from the plan"
    if run.state == RunState.PAUSED:
        note = "once it goes on"
    return {"label": "Time left", "value": duration(left), "note": note}


def _closing(run: Run, *, plan: PlanView, at: datetime) -> list[dict[str, Any]]:
    """Say when the window of the open wave closes first, or that it is closed now."""
    if not plan.document.get("waves"):
        return []
    content = plan.content
    verdicts = judge_change(run.change, at=at, content=_with_waves(content, plan.document), wave=run.wave)
    closed = [one for one in verdicts if not one.judgement.is_open]
    if closed:
        place = closed[0].zone.rpartition("/")[2].replace("_", " ")
        opening = closed[0].judgement.next_opening
        note = f"opens {short_moment(opening, closed[0].zone)}" if opening else closed[0].judgement.reason
        return [{"label": f"Window in {place}", "value": "closed", "note": note, "state": "warning"}]
    ends = [(one.judgement.until, one.zone) for one in verdicts if one.judgement.until]
    if not ends:
        return []
    end, zone = min(ends)
    place = zone.rpartition("/")[2].replace("_", " ")
    return [{"label": f"Window closes first in {place}", "value": duration(end - at), "note": clock_time(end, zone)}]


def _with_waves(content: Content, document: Mapping[str, Any]) -> Content:
    environments = [one["name"] for one in document.get("environments", ())]
    return Content.from_json({**content.to_json(), "waves": document["waves"], "environments": environments})


def wave_bars(run: Run, counts: Mapping[tuple[int, str], int], *, plan: PlanView) -> list[dict[str, Any]]:
    """Return the bars of progress, one a wave, from counts by wave and state."""
    found = []
    for number in sorted({wave for wave, _ in counts}):
        states = [state for (wave, state), count in counts.items() if wave == number for _ in range(count)]
        by_state = count_by_state(states)
        healthy = by_state.get("healthy", 0)
        since = f", since {clock_time(run.wave_opened_at)}" if number == run.wave and run.wave_opened_at else ""
        found.append(
            {
                "label": _short(plan.wave_label(number)).capitalize(),
                "total": len(states),
                "counts": dict(by_state),
                "note": f"{healthy} of {len(states)}{since if run.state in ACTIVE else ''}",
                "summary": ", ".join(f"{count} {words(state)}" for state, count in by_state.items()),
            }
        )
    return found


def counts_of(targets: Sequence[RunTarget]) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for one in targets:
        found[(one.wave, one.state)] = found.get((one.wave, one.state), 0) + 1
    return found


def state_pairs(targets: Sequence[RunTarget]) -> list[tuple[str, int]]:
    """Return every state that targets can be in and how many are."""
    counts = count_by_state(one.state for one in targets)
    always = ("healthy", "updated", "updating", "deferred", "pending", "failed")
    aside = tuple(state for state in ("reverted", "skipped") if counts.get(state))
    return [(state, counts.get(state, 0)) for state in (*always, *aside)]


def grid(run: Run, targets: Sequence[RunTarget], *, plan: PlanView) -> dict[str, Any]:
    """Return waves × targets: a row for each cohort of an environment, a column for each workload."""
    names = {one.pk: workload_name(one) for one in targets}
    strip = _common_prefix([name for name in names.values() if name != SHARED])
    short = {pk: name if name == SHARED else name.removeprefix(strip) for pk, name in names.items()}
    columns = list(dict.fromkeys(short[one.pk] for one in targets if short[one.pk] != SHARED))
    if SHARED in short.values():
        columns.append(SHARED)
    served = plan.served()
    waves = []
    for number in sorted({one.wave for one in targets}):
        mine = [one for one in targets if one.wave == number]
        rows: dict[tuple[str, str], list[RunTarget]] = {}
        for one in mine:
            rows.setdefault((one.environment.slug, one.cohort.slug if one.cohort else ""), []).append(one)
        healthy = sum(1 for one in mine if one.state == TargetState.HEALTHY)
        state, label = _wave_state(run, number, mine)
        waves.append(
            {
                "label": plan.wave_label(number),
                "state": state,
                "state_label": label,
                "count": f"{healthy} of {len(mine)} healthy",
                "note": _wave_note(run, number, [served[key] for key in rows if key in served], plan=plan),
                "rows": [
                    _row(run, found, short=short, columns=columns, served=served.get(key))
                    for key, found in rows.items()
                ],
            }
        )
    cohorts = {(one.environment_id, one.cohort_id) for one in targets if one.cohort_id}
    return {
        "columns": columns,
        "waves": waves,
        "aside": f"{counted(len(targets), 'target')}: {counted(len(cohorts), 'cohort')} × "
        f"{counted(sum(1 for one in columns if one != SHARED), 'workload')}",
    }


def _row(
    run: Run,
    found: Sequence[RunTarget],
    *,
    short: Mapping[int, str],
    columns: Sequence[str],
    served: tuple[int, float] | None,
) -> dict[str, Any]:
    first = found[0]
    by_column = {short[one.pk]: one for one in found}
    note = ""
    if served:
        note = f"{counted(served[0], 'store')}, {round(served[1] * 100)}\N{NO-BREAK SPACE}%"
    return {
        "label": first.cohort.name if first.cohort else first.environment.name,
        "note": note,
        "place": first.environment.name if first.cohort else "what its workloads share",
        "cells": [_cell(by_column.get(column), column) for column in columns],
    }


def _cell(target: RunTarget | None, column: str) -> dict[str, Any] | None:
    if target is None:
        return None
    count = f"{target.ready_count}/{target.desired_count}" if target.desired_count and target.state != "pending" else ""
    return {"column": column, "state": target.state, "count": count}


def workload_name(target: RunTarget) -> str:
    """Return a workload without its kind and its cohort: `Deployment/odoo-web-lis-a` is `odoo-web`."""
    if not target.workload:
        return SHARED
    name = target.workload.rpartition("/")[2]
    return name.removesuffix(f"-{target.cohort.slug}") if target.cohort else name


def _common_prefix(names: Sequence[str]) -> str:
    """Return what all names begin with, up to a hyphen; nothing where that would leave a name empty."""
    heads = {name.partition("-")[0] for name in names if "-" in name}
    return f"{heads.pop()}-" if len(heads) == 1 and all("-" in name for name in names) else ""


def _wave_state(run: Run, number: int, targets: Sequence[RunTarget]) -> tuple[str, str]:
    states = {one.state for one in targets}
    if states <= {TargetState.REVERTED, TargetState.SKIPPED}:
        return "reverted", "put back"
    if number < run.wave or run.state == RunState.SUCCEEDED:
        return (
            ("complete", "done") if states <= {TargetState.HEALTHY, TargetState.SKIPPED} else ("warning", "incomplete")
        )
    if number > run.wave or run.wave_opened_at is None:
        return "pending", ""
    return run.state, ""


def _wave_note(run: Run, number: int, served: Sequence[tuple[int, float]], *, plan: PlanView) -> str:
    parts = []
    if served:
        share = round(sum(part for _, part in served) * 100)
        parts.append(f"{counted(sum(count for count, _ in served), 'store')} · {share}\N{NO-BREAK SPACE}% of sales")
    if number == run.wave and run.wave_opened_at and run.state not in ENDED:
        baking = f", bakes until {clock_time(run.bakes_until)}" if run.bakes_until else ""
        parts.append(f"since {clock_time(run.wave_opened_at)}{baking}")
    waves = plan.waves
    if number < len(waves) and number >= run.wave and run.state not in ENDED and not run.bakes_until:
        promotion = ", then a person promotes" if waves[number].needs_promotion else ""
        parts.append(f"bakes {duration(waves[number].bake_for)}{promotion}")
    return " · ".join(parts)


def troubles(targets: Sequence[RunTarget]) -> list[dict[str, Any]]:
    """Return the targets that need somebody, and those that are tried again, with what is wrong."""
    stopped = {TargetState.FAILED, TargetState.DEFERRED}
    said = [(one, trouble_of(one) or (one.sentence if one.state in stopped else "")) for one in targets]
    return [{"target": str(one), "state": one.state, "sentence": sentence} for one, sentence in said if sentence]


def indicator_groups(measurements: Sequence[Measurement], *, plan: PlanView) -> list[dict[str, Any]]:
    """Return the indicators, what the business feels after what machines feel, each with its line."""
    several = len({one.environment_id for one in measurements}) > 1
    groups = []
    for health, title in ((Health.TECHNICAL, "Technical indicators"), (Health.BUSINESS, "Business indicators")):
        rows = [
            _indicator(one, several=several)
            for one in measurements
            if (CATALOGUE[one.indicator].health if one.indicator in CATALOGUE else Health.TECHNICAL) is health
        ]
        if rows:
            groups.append({"title": title, "anchor": health.value, "rows": rows})
    return groups


def _indicator(one: Measurement, *, several: bool) -> dict[str, Any]:
    known = CATALOGUE.get(one.indicator)
    samples = list(one.samples.all())
    values = [sample.value if not sample.error else None for sample in samples]
    valid = [value for value in values if value is not None]
    last = samples[-1].at if samples else one.started_at
    return {
        "title": one.title + (f", {one.environment.name}" if several else ""),
        "rule": _rule(one, known),
        "period": f"since {clock_time(one.started_at)}",
        "samples": values if valid else [],
        "threshold": one.threshold,
        "baseline": [],
        "value": _value(valid[-1], known) if valid else "none",
        "samples_note": f"{len(valid)} of {one.minimum_samples}",
        "verdict": one.verdict,
        "silence": f"no sample since {clock_time(one.started_at if not samples else last)}",
    }


def _value(value: float, known: Indicator | None) -> str:
    return known.words(value).replace(" ", "\N{NO-BREAK SPACE}") if known else f"{value:g}"


def _rule(one: Measurement, known: Indicator | None) -> str:
    comparison = Comparison(one.comparison).value.replace("_", " ")
    return f"{comparison} {_value(one.threshold, known)}"


def silences(measurements: Sequence[Measurement]) -> list[dict[str, str]]:
    """Say which open analyses have nothing to go by: no data never passes."""
    unclear = {AnalysisVerdict.NO_DATA, AnalysisVerdict.ERROR}
    return [
        {
            "title": f"{words(one.verdict).capitalize()} for {one.title.lower()} in {one.environment.name}.",
            "text": f"{one.sentence} No data never passes and never rolls back by itself.",
        }
        for one in measurements
        if one.ended_at is None and one.verdict in unclear
    ]


def log_entries(log: Sequence[RunLog]) -> list[dict[str, Any]]:
    """Return the lines of the log; a detail of several lines (what an apply changed) is folded away."""
    return [
        {
            "at": one.at,
            "text": one.sentence,
            "icon": SHIPPED_ICONS.get(one.icon, one.icon),
            "tone": TONES.get(one.icon, ""),
            **_detail(one),
        }
        for one in log
    ]


def _detail(one: RunLog) -> dict[str, str]:
    lines = one.detail.splitlines()
    if len(lines) < 2:
        return {"note": one.detail}
    added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    label = f"What it changed: {counted(added, 'line')} added, {removed} removed"
    return {"fold": one.detail, "fold_id": f"log-{one.pk}", "fold_label": label}


def announcement(run: Run, *, plan: PlanView) -> str:
    """Return what a screen reader is told: once for each state and wave, not for each target."""
    wave = f", {_short(plan.wave_label(run.wave))}" if run.state in GOING else ""
    return f"The run is {words(run.state)}{wave}."


def tone_of(state: str) -> str:
    look = LOOKS.get(state)
    return look.tone if look else ""


def _short(label: str) -> str:
    head, _, name = label.partition(", ")
    return name if name == "pilot" else head.lower()
