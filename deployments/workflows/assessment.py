"""Takes a submitted deployment to its approvers: resolve it into a plan, ask every gate, hand both back.

One short step a tick, kept in `Run.step`; each resolves afresh from the pinned commit, so that any worker can go on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from changecontrol.access import system_actor
from changecontrol.actions.evidence import store_artefact
from changecontrol.actions.gates import Judged, record_gate_result
from changecontrol.actions.plans import (
    SUPERSEDED,
    begin_assessment,
    end_assessment,
    fail_assessment,
    finish_assessment,
    record_authors,
    record_plan,
)
from changecontrol.actions.runs import lock_run, move_run, write_log
from changecontrol.errors import Invalid
from changecontrol.gates import Gate, GateVerdict, gates_for
from changecontrol.lifecycles.change import ChangeState
from changecontrol.lifecycles.run import ACTIVE
from changecontrol.models import ChangeRequest, Plan, Run
from changecontrol.models.change import Contribution
from changecontrol.models.gate import Verdict
from changecontrol.models.run import RunKind
from changecontrol.queries.approvals import policy_for
from changecontrol.queries.gates import current_results
from changecontrol.rules.content import Content
from changecontrol.rules.counting import counted
from changecontrol.workflow.engine import Settlement
from deployments import doors
from deployments.gates.context import KINDS, DeployContext, digest_of_value
from deployments.gates.dry_run import DryRunGate, taken_over
from deployments.plan_document import document_of
from deployments.rendering import stored_form
from deployments.resolution import Resolved, environments_of, resolve, source_of
from deployments.workflows.asking import Unfinished, as_json, could_not, go_on, without_asking
from deployments.workflows.settling import NOW

FIND_LIMIT = 50
FULL_HASH = 40
GATE_STEP = "gate:"


class Assessment:
    """The workflow `assessment`: fetch, resolve, one step for each gate, finish."""

    name = "assessment"
    model = Run

    def due(self) -> Q:
        return Q(kind=RunKind.ASSESSMENT, state__in=sorted(ACTIVE))

    def find(self, at: datetime) -> None:
        waiting = ChangeRequest.objects.filter(state=ChangeState.SUBMITTED, kind__in=sorted(KINDS))
        for pk, kind in waiting.order_by("pk").values_list("pk", "kind")[:FIND_LIMIT]:
            begin_assessment(change_id=pk, kind=kind, actor=system_actor(), at=at)

    def lock(self, pk: int) -> Run:
        run = lock_run(pk)
        assert run is not None, "runs are never deleted"
        return run

    def advance(self, row: Run, at: datetime) -> Settlement[Run]:
        change = ChangeRequest.objects.select_related("tenant", "requester").get(pk=row.change_id)
        if change.state != ChangeState.ASSESS or change.revision_id != row.revision_id:
            return _settled(
                lambda run, actor: end_assessment(run, sentence=SUPERSEDED, actor=actor, at=at), due_in=None
            )
        if not row.step:
            return self._fetch(row, change, at)
        resolved = resolve(change, _content(row), commit=row.data["commit"], kept_commit=row.data.get("kept", ""))
        if row.step == "resolve":
            return self._resolve(row, change, resolved, at)
        if row.step.startswith(GATE_STEP):
            return self._ask_gate(row, change, resolved, at)
        return self._finish(row, change, resolved, at)

    def refused(self, row: Run, reason: str, at: datetime) -> Settlement[Run]:
        """What cannot be resolved goes back to its author; a gate that could not judge is an error."""
        if row.step.startswith(GATE_STEP):
            return self._record_error(row, reason, at)
        return self._back_to_author(reason, at)

    def exhausted(self, row: Run, reason: str, at: datetime) -> Settlement[Run]:
        if row.step.startswith(GATE_STEP):
            return self._record_error(row, reason, at)
        return self._back_to_author(f"This could not be assessed: {reason} Submit it again to have another try.", at)

    def troubled(self, row: Run, reason: str, at: datetime) -> None:
        write_log(row, icon="clock-pause", sentence=f"{reason} It is tried again.", at=at)

    # The steps.

    def _fetch(self, row: Run, change: ChangeRequest, at: datetime) -> Settlement[Run]:
        """Bring the mirror up to date and pin what the requester named to one commit."""
        content = _content(row)
        repository = doors.open_source(source_of(environments_of(change)))
        if len(content.commit) < FULL_HASH:
            repository.ensure_fetched(since=row.created_at)
        # A full hash names the same commit for ever: it is fetched only where the mirror lacks it.
        commit = repository.observe_commit(content.commit or content.revision_name).sha
        before = Plan.objects.filter(revision__change=change).order_by("-pk").first()
        kept = str(before.content.get("commit", "")) if before else ""

        def write(run: Run, actor: Any) -> None:
            for verb, sentence in (
                ("start", f"Pinned {content.revision_name or content.commit[:8]} to commit {commit[:8]}."),
                ("advance", "Resolving the plan."),
            ):
                move_run(run, verb, sentence=sentence, actor=actor, at=at)
            _go_to(run, "resolve", data={**run.data, "commit": commit, "kept": kept})

        return _settled(write, due_in=NOW)

    def _resolve(self, row: Run, change: ChangeRequest, resolved: Resolved, at: datetime) -> Settlement[Run]:
        """Keep what was rendered, and remember whose commits these are."""
        manifests = {
            one.environment.slug: {"new": stored_form(one.manifests.objects), "old": stored_form(one.previous.objects)}
            for one in resolved.environments
        }
        artefact = store_artefact(
            change_id=change.pk,
            name=f"manifests-{resolved.commit.sha[:12]}.json",
            media_type="application/json",
            data=as_json(manifests),
            source="assessment",
            actor=system_actor(),
            at=at,
        )
        emails = [
            pair
            for commit in resolved.commits
            for pair in ((commit.author, Contribution.AUTHORED), (commit.committer, Contribution.COMMITTED))
        ]
        first = gates_for(change.kind)[0].key
        count = sum(len(one.manifests.objects) for one in resolved.environments)

        def write(run: Run, actor: Any) -> None:
            record_authors(run.change, emails=emails, at=at)
            sentence = (
                f"Resolved {counted(count, 'object')} for {counted(len(resolved.environments), 'environment')}: "
                f"{counted(len(resolved.targets), 'target')} in {counted(len(resolved.waves), 'wave')}."
            )
            write_log(run, icon="git-commit", sentence=sentence, at=at)
            _go_to(run, f"{GATE_STEP}{first}", data={**run.data, "manifests": artefact.sha256})

        return _settled(write, due_in=NOW)

    def _ask_gate(self, row: Run, change: ChangeRequest, resolved: Resolved, at: datetime) -> Settlement[Run]:
        gate = _gate_of(row)
        if gate is None:  # taken out of the settings while this waited
            return _settled(lambda run, actor: _go_to(run, "finish"), due_in=NOW)
        context = DeployContext(change=change, resolved=resolved, at=at)
        asked = go_on(gate, context, kept=row.data.get("asking"), attempts=row.attempts)
        if isinstance(asked, Unfinished):
            kept, sentence = asked.kept, f"{gate.name}: {asked.sentence}"
            return _settled(lambda run, actor: _keep_asking(run, kept, sentence), due_in=asked.due_in)
        judged = asked
        return _settled(lambda run, actor: _record(run, judged, actor=actor, at=at), due_in=NOW)

    def _finish(self, row: Run, change: ChangeRequest, resolved: Resolved, at: datetime) -> Settlement[Run]:
        results = current_results(change, revision_id=row.revision_id)
        wanted = gates_for(change.kind)
        problems = [
            f"{gate.name}: {results[gate.key].sentence if gate.key in results else 'it was not judged.'}"
            for gate in wanted
            if gate.key not in results or results[gate.key].verdict not in (Verdict.PASS, Verdict.WAIVED)
        ]
        if problems:
            return self._back_to_author(" ".join(problems), at)
        policy = policy_for(change)
        if policy is None:
            return self._back_to_author("No approval policy fits this change.", at)
        document = document_of(
            change,
            resolved,
            gates=[
                {
                    "gate": gate.key,
                    "verdict": results[gate.key].verdict,
                    "judged": results[gate.key].judged,
                    # What is taken over is part of what is approved.
                    **({"taken_over": row.data["taken_over"]} if gate.key == DryRunGate.key else {}),
                }
                for gate in wanted
            ],
            policy={"slug": policy.slug, "version": policy.version},
        )

        def write(run: Run, actor: Any) -> None:
            try:
                with transaction.atomic():
                    plan = record_plan(
                        run.change,
                        revision=run.revision,
                        document=document,
                        manifests_sha256=run.data.get("manifests", ""),
                        actor=actor,
                        at=at,
                    )
                    finish_assessment(run.change, run=run, plan=plan, actor=actor, at=at)
            except Invalid as refusal:
                run = self.lock(run.pk)  # what the savepoint undid must not linger in memory
                fail_assessment(run.change, run=run, problem=refusal.sentence, actor=actor, at=at)

        return _settled(write, due_in=None)

    def _record_error(self, row: Run, reason: str, at: datetime) -> Settlement[Run]:
        gate = _gate_of(row)

        def write(run: Run, actor: Any) -> None:
            if gate is None:
                _go_to(run, "finish")
                return
            judged = Judged(
                gate.key,
                gate.name,
                gate.tool,
                gate.time_to_live,
                GateVerdict(Verdict.ERROR, could_not(reason), digest_of_value(run.data.get("commit", "")), "commit"),
            )
            _record(run, judged, actor=actor, at=at)

        return _settled(write, due_in=NOW)

    def _back_to_author(self, problem: str, at: datetime) -> Settlement[Run]:
        return _settled(
            lambda run, actor: fail_assessment(run.change, run=run, problem=problem, actor=actor, at=at), due_in=None
        )


def _keep_asking(run: Run, kept: dict[str, Any], sentence: str) -> None:
    run.sentence = sentence
    run.data = {**run.data, "asking": kept}
    run.save(update_fields=["sentence", "data"])


def _record(run: Run, judged: Judged, *, actor: Any, at: datetime) -> None:
    record_gate_result(run.change, revision=run.revision, judged=judged, actor=actor, at=at)
    passed = judged.verdict.verdict == Verdict.PASS
    write_log(
        run,
        icon="circle-check" if passed else "circle-x",
        sentence=f"{judged.name}: {judged.verdict.sentence}",
        at=at,
    )
    keys = [gate.key for gate in gates_for(run.change.kind)]
    following = keys[keys.index(judged.gate) + 1 :]
    data = without_asking(run.data)
    if judged.gate == DryRunGate.key:
        data["taken_over"] = taken_over(judged.verdict)
    _go_to(run, f"{GATE_STEP}{following[0]}" if following else "finish", data=data)


def _gate_of(row: Run) -> Gate[Any] | None:
    key = row.step.removeprefix(GATE_STEP)
    change = row.change
    return next((gate for gate in gates_for(change.kind) if gate.key == key), None)


def _go_to(run: Run, step: str, *, data: dict[str, Any] | None = None) -> None:
    run.step = step
    run.data = run.data if data is None else data
    run.save(update_fields=["step", "data"])


def _settled(write: Callable[[Run, Any], None], *, due_in: timedelta | None) -> Settlement[Run]:
    """Write as the system, unless the run was ended meanwhile."""

    def guarded(run: Run) -> None:
        if run.state in ACTIVE:
            write(run, system_actor(f"run:{run.pk}"))

    return Settlement(write=guarded, due_in=due_in)


def _content(row: Run) -> Content:
    return Content.from_json(row.revision.content)
