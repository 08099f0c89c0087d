"""Carries out an approved deployment: opens waves, waits for them to bake, and ends the run one way or another.

A tick looks, decides by `deployments.rules` and settles; the targets of a wave advance on their own (`target`). Every
tick asks for window and freeze, every wave for approval, gates and digest besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from django.db.models import Q

from changecontrol.access import Actor, system_actor
from changecontrol.actions.approvals import recheck_approval
from changecontrol.actions.gates import record_gate_result
from changecontrol.actions.runs import POLL, lock_run, move_run, write_log
from changecontrol.errors import Conflict, Permanent, Transient
from changecontrol.gates import Gate
from changecontrol.lifecycles.change import ChangeKind, ChangeState
from changecontrol.lifecycles.run import ACTIVE, PauseReason, RunState, TargetState
from changecontrol.models import ChangeRequest, Run, RunTarget
from changecontrol.models.run import RunKind
from changecontrol.ports import NotAllowed
from changecontrol.queries.runs import changes_ready
from changecontrol.rules.windows import ClosingDecision
from changecontrol.workflow.engine import Settlement, confirm_lease
from changecontrol.workflow.locks import acquire_locks, renew_locks
from deployments.actions import rollouts
from deployments.approved import Approved
from deployments.gates.context import KINDS, DeployContext
from deployments.rules.analysis import AnalysisMove
from deployments.rules.waves import WaveDecision, WaveMove
from deployments.workflows import analysis, checks, ending, verifying, waves
from deployments.workflows.asking import Unfinished, go_on, without_asking
from deployments.workflows.checks import Calendar, Hindrance
from deployments.workflows.obeying import obey
from deployments.workflows.settling import LOOK_AGAIN, NOW, Write, moved, paused, rolled_back, settled_run
from deployments.workflows.steps import problem_of
from recovery.queries import PREPARING_STEP, Standing, preparation_of

log = structlog.get_logger(__name__)
FIND_LIMIT = 50
STARTED_AT_ONCE = 100
"""How many targets of a wave one tick starts: workers are at the first while the run starts the next."""
UNDER_WAY = frozenset({RunState.RUNNING, RunState.BAKING, RunState.AWAITING_PROMOTION})
SELF_RESUMING = frozenset({PauseReason.WINDOW_CLOSED, PauseReason.FREEZE})
"""What passes by itself: the run goes on in the next opening, after its checks have passed again (WIN-7)."""


class RolloutRun:
    """The workflow `rollout`."""

    name = "rollout"
    model = Run

    def due(self) -> Q:
        return Q(kind=RunKind.ROLLOUT)

    def find(self, at: datetime) -> None:
        for kind in sorted(KINDS):
            for pk in changes_ready(at, kind=kind).values_list("pk", flat=True)[:FIND_LIMIT]:
                try:
                    rollouts.open_rollout(change_id=pk, actor=system_actor(), at=at)
                except Exception as trouble:
                    log.error("rollout.not_opened", change=pk, exc_info=trouble)

    def lock(self, pk: int) -> Run:
        run = lock_run(pk)
        assert run is not None, "runs are never deleted"
        return run

    def advance(self, row: Run, at: datetime) -> Settlement[Run]:
        try:
            return self._advance(row, at)
        except NotAllowed as refusal:
            # A right may come back: the run asks again, and then stands still as one whose cluster is out of reach.
            raise Transient(refusal.reason) from None

    def _advance(self, row: Run, at: datetime) -> Settlement[Run]:
        change = ChangeRequest.objects.select_related("tenant", "plan").get(pk=row.change_id)
        approved = Approved.of(row.plan)  # type: ignore[arg-type]
        if row.intent:
            return obey(row, at)
        if row.state in ACTIVE:
            self._hold_locks(row, at)
        match RunState(row.state):
            case RunState.QUEUED | RunState.WAITING_FOR_WINDOW:
                return self._wait(row, change, approved, at)
            case RunState.PREFLIGHT:
                return self._preflight(row, change, approved, at)
            case RunState.RUNNING | RunState.BAKING | RunState.AWAITING_PROMOTION:
                return self._carry_on(row, change, approved, at)
            case RunState.PAUSED:
                return self._rest(row, change, approved, at)
            case RunState.ABORTING:
                return ending.abort(row, at)
            case RunState.ROLLING_BACK:
                return ending.roll_back(row, approved, at)
        return Settlement(write=None, due_in=None)

    def refused(self, row: Run, reason: str, at: datetime) -> Settlement[Run]:
        if row.state == RunState.ROLLING_BACK:
            return ending.give_up(reason, at)
        word = PauseReason.PLAN_DRIFT if row.state == RunState.PREFLIGHT else PauseReason.NEEDS_ATTENTION
        return paused(word, reason, at)

    def exhausted(self, row: Run, reason: str, at: datetime) -> Settlement[Run]:
        """Nobody answered for long: stand still and say so. Success is never guessed (RUN-8)."""
        if row.state == RunState.ROLLING_BACK:
            return ending.give_up(reason, at)
        return paused(PauseReason.CLUSTER_UNREACHABLE, reason, at)

    def troubled(self, row: Run, reason: str, at: datetime) -> None:
        write_log(row, icon="clock-pause", sentence=f"{reason} It is tried again.", at=at)

    # The states.

    def _wait(self, row: Run, change: ChangeRequest, approved: Approved, at: datetime) -> Settlement[Run]:
        if ended := self._superseded(row, change, at):
            return ended
        calendar = checks.calendar_of(change, approved, wave=0, at=at)
        hindrance = calendar.frozen or calendar.closed
        if hindrance is None:
            return settled_run(moved("start", "Checking everything once more before the start.", at), due_in=NOW)
        return self._waiting(row, hindrance, at)

    def _preflight(self, row: Run, change: ChangeRequest, approved: Approved, at: datetime) -> Settlement[Run]:
        if ended := self._superseded(row, change, at):
            return ended
        # What takes hours is waited for without asking everything each time; all of it is asked once that is there.
        if row.step == PREPARING_STEP and (waiting := self._await_restore(row, at)):
            return waiting
        if stopped := self._hindered(row, change, approved, wave=waves.next_wave(row, approved), at=at):
            return stopped
        if change.kind == ChangeKind.RESTORE and row.wave_opened_at is None and row.step != PREPARING_STEP:
            return self._begin_restore(at)

        def write(run: Run, actor: Actor) -> None:
            if run.change.state == ChangeState.SCHEDULED and not recheck_approval(run.change, actor=actor, at=at):
                sentence = "The approval no longer holds, so nothing was started."
                rollouts.end_before_start(run, sentence=sentence, actor=actor, at=at)
                return
            rollouts.open_wave(run, run.wave, actor=actor, at=at)

        return settled_run(write, due_in=NOW)

    def _begin_restore(self, at: datetime) -> Settlement[Run]:
        """Wait at a step by which recovery finds the run; what runs is not touched."""
        sentence = "Everything is checked. The safety backup and the restore come before the first wave."

        def begin(run: Run, actor: Actor) -> None:
            rollouts.await_restore(run, step=PREPARING_STEP, sentence=sentence, at=at)

        return settled_run(begin, due_in=POLL)

    def _await_restore(self, row: Run, at: datetime) -> Settlement[Run] | None:
        """Wait until what is brought back is there; None once it is."""
        preparation = preparation_of(row, at=at)
        if preparation.standing is Standing.READY:
            return None
        if preparation.standing is Standing.FAILED:
            return paused(PauseReason.NEEDS_ATTENTION, preparation.sentence, at)

        def say(run: Run, actor: Actor) -> None:
            rollouts.say(run, preparation.sentence)

        return settled_run(say, due_in=POLL)

    def _carry_on(self, row: Run, change: ChangeRequest, approved: Approved, at: datetime) -> Settlement[Run]:
        if row.data.get("finishing"):
            return ending.finish(row, approved, at)
        targets = waves.open_targets(row)
        calendar = checks.calendar_of(change, approved, wave=row.wave, at=at)
        if stopped := self._closing(row, approved, calendar, targets, at):
            return stopped
        broken = next((one for one in targets if problem_of(one) == PauseReason.APPLY_CONFLICT), None)
        if broken is not None and broken.state == TargetState.FAILED:
            return paused(PauseReason.APPLY_CONFLICT, broken.sentence, at)
        opened = sorted({*row.data.get("opened", []), *calendar.open_keys})
        decision = waves.decide(row, approved, targets, at)
        if decision.move in (WaveMove.WAIT, WaveMove.UPDATE):
            return self._update(row, targets, decision, opened, calendar, at)
        if decision.move in (WaveMove.PAUSE, WaveMove.ROLL_BACK):
            return self._failed(row, targets, decision, at)
        return self._baked(row, change, approved, targets, decision, at)

    def _rest(self, row: Run, change: ChangeRequest, approved: Approved, at: datetime) -> Settlement[Run]:
        if ended := self._superseded(row, change, at):
            return ended
        if row.pause_reason not in SELF_RESUMING:
            return Settlement(write=None, due_in=LOOK_AGAIN)
        calendar = checks.calendar_of(change, approved, wave=waves.next_wave(row, approved), at=at)
        if calendar.frozen or calendar.closed:
            return Settlement(write=None, due_in=LOOK_AGAIN)
        sentence = "The window is open again; everything is checked before the run goes on."
        return settled_run(lambda run, actor: rollouts.resume(run, sentence, actor=actor, at=at), due_in=NOW)

    # Steps within a wave.

    def _update(
        self,
        row: Run,
        targets: Sequence[RunTarget],
        decision: WaveDecision,
        opened: Sequence[str],
        calendar: Calendar,
        at: datetime,
    ) -> Settlement[Run]:
        """Start as many targets as may be on their way, those first whose turn it is."""
        turn = waves.turn(targets, opened, calendar)[: len(decision.targets)]
        chosen = turn[:STARTED_AT_ONCE]
        sentence = waves.progress(targets, decision, is_waiting=bool(decision.targets) and not chosen)

        def write(run: Run, actor: Actor) -> None:
            run.data = {**run.data, "opened": list(opened)}
            run.sentence = sentence
            run.save(update_fields=["data", "sentence"])
            if chosen:
                rollouts.update_targets(run, chosen, actor=actor, at=at)

        return settled_run(write, due_in=NOW if len(turn) > len(chosen) else POLL)

    def _failed(self, row: Run, targets: Sequence[RunTarget], decision: WaveDecision, at: datetime) -> Settlement[Run]:
        why = [one.sentence for one in targets if one.state == TargetState.FAILED]
        sentence = f"{decision.sentence} {' '.join(why[:2])}".strip()
        if decision.move is WaveMove.ROLL_BACK:
            return rolled_back(sentence, at)
        is_health = any(problem_of(one) == PauseReason.HEALTH for one in targets if one.state == TargetState.FAILED)
        reason = decision.reason or PauseReason.NEEDS_ATTENTION
        if reason is PauseReason.FAILURE_BUDGET and is_health:
            reason = PauseReason.HEALTH
        return paused(reason, sentence, at)

    def _baked(
        self,
        row: Run,
        change: ChangeRequest,
        approved: Approved,
        targets: Sequence[RunTarget],
        decision: WaveDecision,
        at: datetime,
    ) -> Settlement[Run]:
        """Watch a wave that is healthy, and go on once it has baked: only on what is seen now (RUN-2)."""
        sick = verifying.sick_targets(row, approved, targets, at=at)
        if sick:
            return settled_run(lambda run, actor: rollouts.fail_targets(run, sick, actor=actor, at=at), due_in=NOW)
        is_settled = row.wave in (*row.data.get("skipped", []), *row.data.get("promoted", []))
        if not is_settled and approved.content.indicators:
            if row.state == RunState.RUNNING:
                return settled_run(_begin_bake(approved, decision, at), due_in=NOW)
            return self._analyse(row, change, approved, decision, at)
        if decision.move is WaveMove.BAKE and row.state == RunState.RUNNING:
            return settled_run(_begin_bake(approved, decision, at), due_in=POLL)
        return self._proceed(row, change, approved, decision, at)

    def _analyse(
        self, row: Run, change: ChangeRequest, approved: Approved, decision: WaveDecision, at: datetime
    ) -> Settlement[Run]:
        wave = approved.wave(row.wave)
        environments = list(change.environments.select_related("cluster").filter(slug__in=wave.environments))
        asked = analysis.ask(row, approved, environments, at=at)

        def write(run: Run, actor: Actor) -> None:
            if run.state not in UNDER_WAY or run.wave != row.wave:
                return
            outcome = analysis.keep(run, asked, approved, at=at)
            run.sentence = outcome.sentence or run.sentence
            run.data = {**run.data, "analysis": str(outcome.move), "analysis_at": at.isoformat()}
            run.save(update_fields=["sentence", "data"])
            if outcome.move is AnalysisMove.ROLL_BACK:
                run.detected_at = at
                run.data = {**run.data, "cause": outcome.sentence}
                run.save(update_fields=["detected_at", "data"])
                rollouts.begin_rollback(run, why=outcome.sentence, actor=actor, at=at)
            elif outcome.move is AnalysisMove.PAUSE:
                run.detected_at = at
                run.save(update_fields=["detected_at"])
                rollouts.pause(run, PauseReason.ANALYSIS, outcome.sentence, actor=actor, at=at)

        has_passed = row.data.get("analysis") == AnalysisMove.GO_ON and row.bakes_until and at >= row.bakes_until
        if has_passed and decision.move is not WaveMove.BAKE:
            if decision.move is WaveMove.AWAIT_PROMOTION and row.state == RunState.AWAITING_PROMOTION:
                return settled_run(write, due_in=analysis.sample_every(approved, row.wave))
            return self._proceed(row, change, approved, decision, at)
        return settled_run(write, due_in=analysis.sample_every(approved, row.wave))

    def _proceed(
        self, row: Run, change: ChangeRequest, approved: Approved, decision: WaveDecision, at: datetime
    ) -> Settlement[Run]:
        """Go where the decision says: wait, ask a person, open the next wave, or finish."""
        if decision.move is WaveMove.BAKE:
            return Settlement(write=None, due_in=POLL)
        if decision.move is WaveMove.AWAIT_PROMOTION:
            if row.state == RunState.AWAITING_PROMOTION:
                return Settlement(write=None, due_in=POLL)
            sentence = f"Wave {row.wave} is done. {decision.sentence}"
            return settled_run(moved("await_promotion", sentence, at), due_in=POLL)
        if decision.move is WaveMove.FINISH:

            def write(run: Run, actor: Actor) -> None:
                analysis.end(run, at=at)
                run.data = {**run.data, "finishing": True}
                run.save(update_fields=["data"])

            return settled_run(write, due_in=NOW)
        if stopped := self._hindered(row, change, approved, wave=row.wave + 1, at=at):
            return stopped

        def open_next(run: Run, actor: Actor) -> None:
            analysis.end(run, at=at)
            run.data = {key: value for key, value in run.data.items() if not key.startswith("analysis")}
            rollouts.open_wave(run, run.wave + 1, actor=actor, at=at)

        return settled_run(open_next, due_in=NOW)

    # What stops a run.

    def _hindered(
        self, row: Run, change: ChangeRequest, approved: Approved, *, wave: int, at: datetime
    ) -> Settlement[Run] | None:
        """Ask everything that must hold before a wave opens; the first thing that does not is settled."""
        if row.data.get("finishing"):
            return None
        calendar = checks.calendar_of(change, approved, wave=wave, at=at)
        hindrance = calendar.frozen or calendar.closed or checks.approval_hindrance(change, row)
        if hindrance is None:
            gate = checks.stale_gate(change, row, at=at)
            if gate is not None:
                return self._ask_gate(row, change, approved, gate, at)
            hindrance = checks.gate_hindrance(change, row) or checks.drift_hindrance(change, row, approved)
        if hindrance is None:
            return None
        is_waiting = hindrance.reason in SELF_RESUMING and row.wave_opened_at is None
        if is_waiting:
            return self._waiting(row, hindrance, at)
        return paused(hindrance.reason, hindrance.sentence, at)

    def _ask_gate(
        self, row: Run, change: ChangeRequest, approved: Approved, gate: Gate[DeployContext], at: datetime
    ) -> Settlement[Run]:
        resolved = checks.resolved_again(change, row, approved)
        context = DeployContext(change=change, resolved=resolved, at=at, run_id=row.pk)
        asked = go_on(gate, context, kept=row.data.get("asking"), attempts=row.attempts)
        if isinstance(asked, Unfinished):
            kept, sentence = asked.kept, f"{gate.name}: {asked.sentence}"

            def go_on_later(run: Run, actor: Actor) -> None:
                run.data, run.sentence = {**run.data, "asking": kept}, sentence
                run.save(update_fields=["data", "sentence"])

            return settled_run(go_on_later, due_in=asked.due_in)
        judged = asked

        def write(run: Run, actor: Actor) -> None:
            record_gate_result(run.change, revision=run.revision, judged=judged, actor=actor, at=at)
            write_log(run, icon="refresh", sentence=f"{judged.name}, asked again: {judged.verdict.sentence}", at=at)
            run.data = without_asking(run.data)
            run.save(update_fields=["data"])

        return settled_run(write, due_in=NOW)

    def _closing(
        self, row: Run, approved: Approved, calendar: Calendar, targets: Sequence[RunTarget], at: datetime
    ) -> Settlement[Run] | None:
        if calendar.frozen:
            return paused(calendar.frozen.reason, calendar.frozen.sentence, at)
        if calendar.closed is None:
            return None
        is_wave_open = any(one.state not in (TargetState.HEALTHY, TargetState.SKIPPED) for one in targets)
        # A bake belongs to its wave: it is finished too, and the next wave waits for the next opening.
        decision = checks.decide_closing(
            approved, is_wave_open=is_wave_open or row.state != RunState.AWAITING_PROMOTION
        )
        if decision is ClosingDecision.GO_ON:
            return None
        if decision is ClosingDecision.ROLL_BACK:
            return rolled_back(f"The window closed. {calendar.closed.sentence}", at)
        return paused(calendar.closed.reason, calendar.closed.sentence, at)

    def _waiting(self, row: Run, hindrance: Hindrance, at: datetime) -> Settlement[Run]:
        if row.state == RunState.WAITING_FOR_WINDOW:
            return Settlement(write=None, due_in=LOOK_AGAIN)
        return settled_run(moved("wait", hindrance.sentence, at), due_in=LOOK_AGAIN)

    def _superseded(self, row: Run, change: ChangeRequest, at: datetime) -> Settlement[Run] | None:
        """End a run whose change was revised, held or canceled before anything was touched."""
        is_ours = change.state == ChangeState.SCHEDULED and change.plan_id == row.plan_id
        if is_ours or row.wave_opened_at is not None:
            return None
        sentence = f"{change.number} moved on to “{ChangeState(change.state).label.lower()}” before this run began."
        return settled_run(
            lambda run, actor: rollouts.end_before_start(run, sentence=sentence, actor=actor, at=at), due_in=None
        )

    def _hold_locks(self, row: Run, at: datetime) -> None:
        """Keep the environments. Where one is lost to another run, nothing may go on."""
        # Before anything goes on the locks may be taken anew: a lost one is free again, or somebody else's.
        hold = acquire_locks if row.state == RunState.PREFLIGHT else renew_locks
        try:
            hold(row, waves.environment_ids(row), at=at)
        except Conflict as lost:
            if row.state in (RunState.PAUSED, RunState.ABORTING):
                return
            raise Permanent(lost.sentence) from None
        confirm_lease(row)


def _begin_bake(approved: Approved, decision: WaveDecision, at: datetime) -> Write:
    def write(run: Run, actor: Actor) -> None:
        if run.state != RunState.RUNNING:
            return
        until = decision.until or at
        sentence = f"Wave {run.wave} is healthy and bakes until {until:%H:%M:%S} UTC."
        move_run(run, "bake", sentence=sentence, actor=actor, at=at, bakes_until=until)

    return write
