"""Leave to go on: window, freeze, approval, gates and digest, asked before the start and before every wave (WIN-5).

Leave to start is not leave to go on. Each check answers a hindrance or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from changecontrol.errors import Permanent
from changecontrol.gates import PASSING, Gate, gates_for
from changecontrol.lifecycles.approval import RoundState
from changecontrol.lifecycles.change import ChangeState
from changecontrol.lifecycles.run import PauseReason, TargetState
from changecontrol.models import ChangeRequest, Run, RunTarget
from changecontrol.queries import windows
from changecontrol.queries.approvals import live_round
from changecontrol.queries.gates import current_results
from changecontrol.queries.windows import TargetVerdict
from changecontrol.rules.content import Content
from changecontrol.rules.plan import canonical
from changecontrol.rules.windows import ClosingDecision, OnClosing, WindowVerdict, decide_on_closing
from deployments.approved import CLOSING, Approved
from deployments.gates.context import DeployContext
from deployments.plan_document import document_of, drifted
from deployments.resolution import Resolved, resolve


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a run may not go on now."""

    reason: PauseReason
    sentence: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """The windows of one wave at one moment. `open_keys` are its groups of targets, `environment/cohort`."""

    verdicts: tuple[TargetVerdict, ...]

    @property
    def frozen(self) -> Hindrance | None:
        for one in self.verdicts:
            if one.judgement.verdict is WindowVerdict.FROZEN:
                return Hindrance(PauseReason.FREEZE, one.sentence)
        return None

    @property
    def closed(self) -> Hindrance | None:
        """Say that nothing of the wave is open."""
        if any(one.judgement.is_open for one in self.verdicts):
            return None
        sentence = self.verdicts[0].sentence if self.verdicts else "The wave has no target that a window could judge."
        return Hindrance(PauseReason.WINDOW_CLOSED, sentence)

    @property
    def open_keys(self) -> frozenset[str]:
        return frozenset(_key(one) for one in self.verdicts) - {
            _key(one) for one in self.verdicts if not one.judgement.is_open
        }


def calendar_of(change: ChangeRequest, approved: Approved, *, wave: int, at: datetime) -> Calendar:
    return Calendar(windows.judge_change(change, at=at, content=approved.content, wave=wave))


def is_eligible(target: RunTarget, opened: Iterable[str], calendar: Calendar) -> bool:
    """Tell whether a target's own window has been open since its wave opened (WIN-2).

    What serves one cohort waits for that cohort; what serves all of an environment waits for all of them, except for
    the shared objects, which go first.
    """
    seen = set(opened)
    keys = {_key(one) for one in calendar.verdicts if one.environment == target.environment.slug}
    if target.cohort is not None:
        own = f"{target.environment.slug}/{target.cohort.slug}"
        return own in seen or own not in keys
    return bool(keys & seen) if not target.workload else keys <= seen


def decide_closing(approved: Approved, *, is_wave_open: bool) -> ClosingDecision:
    """Decide what a run does whose window closed under it, as the approved plan says (WIN-7)."""
    return decide_on_closing(
        OnClosing(CLOSING[approved.content.on_window_close]),
        closed_for=timedelta(),
        overrun_for=timedelta(),
        open_wave_count=1 if is_wave_open else 0,
    )


def approval_hindrance(change: ChangeRequest, run: Run) -> Hindrance | None:
    """Ask whether exactly this plan is still the approved one. Before the start the action asks the people again."""
    if change.plan_id != run.plan_id:
        return Hindrance(PauseReason.PLAN_DRIFT, "Another plan has replaced the one this run carries out.")
    if change.state in (ChangeState.SCHEDULED, ChangeState.IMPLEMENTING):
        round_ = live_round(change)
        if round_ is None or round_.state != RoundState.GRANTED:
            return Hindrance(PauseReason.NEEDS_ATTENTION, "The approval of this plan no longer holds.")
    return None


def stale_gate(change: ChangeRequest, run: Run, *, at: datetime) -> Gate[DeployContext] | None:
    """Return a gate that must be asked again: stale, missing, or failed before this preflight began (GATE-1)."""
    results = current_results(change, revision_id=run.revision_id)
    since = datetime.fromisoformat(run.data["preflight_at"])
    for gate in gates_for(change.kind):
        result = results.get(gate.key)
        if result is None or result.expires_at <= at or (result.verdict not in PASSING and result.at < since):
            return gate
    return None


def gate_hindrance(change: ChangeRequest, run: Run) -> Hindrance | None:
    results = current_results(change, revision_id=run.revision_id)
    failing = [
        results[gate.key]
        for gate in gates_for(change.kind)
        if gate.key in results and results[gate.key].verdict not in PASSING
    ]
    if not failing:
        return None
    return Hindrance(PauseReason.NEEDS_ATTENTION, " ".join(f"{one.name}: {one.sentence}" for one in failing))


def resolved_again(change: ChangeRequest, run: Run, approved: Approved) -> Resolved:
    """Resolve the revision once more, at the approved commit. Raises `Permanent` where that is no longer possible."""
    return resolve(change, Content.from_json(run.revision.content), commit=approved.commit)


def drift_hindrance(change: ChangeRequest, run: Run, approved: Approved) -> Hindrance | None:
    """Compare what the revision resolves to now with what was approved (APR-9)."""
    try:
        now = document_of(
            change,
            resolved_again(change, run, approved),
            gates=approved.document["gates"],
            policy=approved.document["policy"],
        )
    except Permanent as refusal:
        return Hindrance(PauseReason.PLAN_DRIFT, f"The plan no longer resolves. {refusal.reason}")
    # Written and read back: what was approved is JSON, which knows no tuples.
    parts = drifted(approved.document, json.loads(canonical(now)))
    if not parts:
        return None
    return Hindrance(
        PauseReason.PLAN_DRIFT,
        f"The plan no longer resolves to what was approved: {', '.join(parts)}. Revise the change, or put it back.",
    )


def is_moving(state: str) -> bool:
    return state in (TargetState.UPDATING, TargetState.UPDATED)


def _key(verdict: TargetVerdict) -> str:
    return f"{verdict.environment}/{verdict.cohort}"
