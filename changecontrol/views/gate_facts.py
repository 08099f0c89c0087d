"""Gates as a person reads them: verdict, what was judged, how old that is, and whether judging still goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse

from changecontrol.gates import PASSING
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, GateResult
from changecontrol.models.gate import Verdict
from changecontrol.queries.gates import GateView, gate_views, run_judging
from changecontrol.views.wording import counted, duration
from changecontrol.workflow.trouble import trouble_of

JUDGING = frozenset({ChangeState.SUBMITTED, ChangeState.ASSESS})
"""Where gates are still being judged, so the page asks again."""


@dataclass(frozen=True, slots=True)
class Gates:
    rows: tuple[dict[str, Any], ...]
    passing: int
    total: int
    summary: str
    is_judging: bool
    problem: str = ""
    trouble: str = ""

    @property
    def count(self) -> int:
        return self.total


def gates_of(change: ChangeRequest, *, at: datetime) -> Gates:
    views = gate_views(change, at=at)
    passing = sum(one.is_passing for one in views)
    judged = [one for one in views if not one.is_pending]
    is_judging = change.state in JUDGING
    run = run_judging(change) if is_judging else None
    asking = run.data.get("asking") if run else None
    under_way = (asking["gate"], asking["sentence"]) if asking else None
    return Gates(
        rows=tuple(_row(change, one, under_way=under_way, at=at) for one in views),
        passing=passing,
        total=len(views),
        summary=_summary(views, judged_count=len(judged), is_judging=is_judging, at=at),
        is_judging=is_judging,
        problem=change.problem,
        trouble=trouble_of(run) if run else "",
    )


def _row(change: ChangeRequest, one: GateView, *, under_way: tuple[str, str] | None, at: datetime) -> dict[str, Any]:
    result = one.result
    if result is None:
        note = under_way[1] if under_way is not None and under_way[0] == one.key else one.sentence
        return {"title": one.name, "note": note, "verdict": "pending", "tool": one.tool}
    sha256 = result.artefact_sha256
    return {
        "title": one.name,
        "note": one.sentence,
        "verdict": one.verdict,
        "judged": result.judged,
        "judged_kind": result.judged_what,
        "tool": f"{result.tool} {result.tool_version}".strip(),
        "age": at - result.at,
        "fresh_for": result.expires_at - at if result.expires_at > at else None,
        "artefact": "raw output" if sha256 else "",
        "artefact_url": reverse("artefact", args=[change.number, sha256]) if sha256 else "",
    }


def _summary(views: Sequence[GateView], *, judged_count: int, is_judging: bool, at: datetime) -> str:
    if is_judging:
        return f"{judged_count} of {counted(len(views), 'gate')} judged"
    words = [f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts_of(one.verdict for one in views)]
    ends = [one.result.expires_at for one in views if one.result is not None and one.result.expires_at > at]
    stale = [f"first goes stale in {duration(min(ends) - at)}"] if ends else []
    return " · ".join([", ".join(words), *stale]) if judged_count else "Judged after submission"


def counts_of(verdicts: Iterable[str]) -> list[tuple[str, int]]:
    """Count verdicts, those that pass first."""
    counts: dict[str, int] = {}
    for one in verdicts:
        counts[one or "pending"] = counts.get(one or "pending", 0) + 1
    return sorted(counts.items(), key=lambda item: (item[0] not in PASSING, item[0]))


def gate_counts(results: Iterable[GateResult], *, at: datetime) -> tuple[list[dict[str, Any]], str]:
    """Return the counts by verdict of the newest results, and their ages in words, for lists."""
    rows = list(results)
    verdicts = [str(Verdict.STALE) if row.expires_at <= at else str(row.verdict) for row in rows]
    counts = [{"verdict": verdict, "count": count} for verdict, count in counts_of(verdicts)]
    if not rows:
        return [], "not judged yet"
    oldest = duration(at - min(row.at for row in rows))
    ends = [row.expires_at for row in rows if row.expires_at > at]
    note = f"oldest {oldest}" + (f"; first goes stale in {duration(min(ends) - at)}" if ends else "; all are stale")
    return counts, note
