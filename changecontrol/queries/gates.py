"""Reads of gate results: the newest of each gate, and whether it still counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from changecontrol.gates import PASSING, gates_for
from changecontrol.models import ChangeRequest, GateResult, Run
from changecontrol.models.gate import Verdict


@dataclass(frozen=True, slots=True)
class GateView:
    """One gate as a page shows it: its newest result on the current revision, or that it is still to come.

    `verdict` is `stale` for a result past its time to live and empty where there is none yet.
    """

    key: str
    name: str
    tool: str
    verdict: str
    sentence: str
    result: GateResult | None

    @property
    def is_passing(self) -> bool:
        return self.verdict in PASSING

    @property
    def is_pending(self) -> bool:
        return not self.verdict


def current_results(change: ChangeRequest, *, revision_id: int | None = None) -> dict[str, GateResult]:
    """Return the newest result of each gate for a revision (by default the current one), by the gate's key."""
    rows = (
        GateResult.objects.filter(change=change, revision=revision_id or change.revision_id)
        .order_by("gate", "-id")
        .distinct("gate")
    )
    return {row.gate: row for row in rows}


def gate_views(change: ChangeRequest, *, at: datetime) -> tuple[GateView, ...]:
    """Return every gate the change must pass, in order, judged or not."""
    results = current_results(change) if change.revision_id else {}
    views = []
    for gate in gates_for(change.kind):
        result = results.get(gate.key)
        verdict = "" if result is None else (Verdict.STALE if result.expires_at <= at else Verdict(result.verdict))
        sentence = result.sentence if result else "Not judged yet."
        if verdict == Verdict.STALE and result is not None:
            sentence = f"Judged too long ago; it is judged again before the start. It said: {result.sentence}"
        views.append(
            GateView(
                key=gate.key, name=gate.name, tool=gate.tool, verdict=str(verdict), sentence=sentence, result=result
            )
        )
    return tuple(views)


def run_judging(change: ChangeRequest) -> Run | None:
    """Return the run that asks the gates now: its data tell how far it is, its trouble what keeps it."""
    return Run.objects.active().filter(change=change).order_by("-pk").first()


def gates_not_passing(change: ChangeRequest, *, at: datetime) -> tuple[GateView, ...]:
    """Return the gates that stop the change now: missing, stale, failed or in error."""
    return tuple(view for view in gate_views(change, at=at) if not view.is_passing)
