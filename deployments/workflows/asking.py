"""Asks one gate, within a tick. What a gate of many environments learns is kept, and the next tick goes on with it.

A cluster that does not answer ends as an error that names it, and holds nobody else: its environments come last, and
one failure a tick is enough to leave the others of the same cluster alone until the next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.actions.evidence import store_artefact
from changecontrol.actions.gates import Judged
from changecontrol.errors import Permanent, Transient
from changecontrol.gates import Gate, GateVerdict
from changecontrol.models.gate import Verdict
from changecontrol.workflow.engine import back_off
from deployments.gates.context import DeployContext, digest_of_value, said
from deployments.gates.parts import EnvironmentGate, Part
from deployments.resolution import Resolved, ResolvedEnvironment

GATE_ATTEMPTS = 4
"""A gate, or a cluster of one, that cannot judge is asked so often; then it is an error, which fails closed."""
ENVIRONMENTS_AT_ONCE = 4
BEGIN_FOR_SECONDS = 2.0
"""How long a tick begins new calls. One may begin 5 s into its task, which is stopped at 20."""
WAIT_FOR_SECONDS = 12.0
FORGOTTEN_AFTER = timedelta(minutes=5)
"""What a run learnt before it was paused is not what its clusters say now."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What the next tick goes on with, when, and how far it is. `kept` is JSON."""

    kept: dict[str, Any]
    due_in: timedelta
    sentence: str


def go_on(
    gate: Gate[Any] | EnvironmentGate, context: DeployContext, *, kept: Any, attempts: int
) -> Judged | Unfinished:
    """Ask a gate as far as one tick reaches. `kept` is what the last tick of this gate kept, if any.

    Raises `Transient` where a gate that judges at once could not, and may be asked again.
    """
    if isinstance(gate, EnvironmentGate):
        return _go_on_by_environment(gate, context, kept)
    started = clock.now()
    try:
        verdict = gate.judge(context)
    except Permanent as refusal:
        return error_of(gate, context.resolved, refusal.reason)
    except Transient as trouble:
        if attempts + 1 < GATE_ATTEMPTS:
            raise
        return error_of(gate, context.resolved, trouble.reason)
    return _judged(gate, context, verdict, started)


def without_asking(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run remembers without what was kept of a gate that is judged now."""
    return {key: value for key, value in data.items() if key != "asking"}


def error_of(gate: Any, resolved: Resolved, reason: str) -> Judged:
    """A gate that cannot judge has not passed."""
    judged = digest_of_value(resolved.manifests_hash)
    verdict = GateVerdict(Verdict.ERROR, could_not(reason), judged, "rendered manifests")
    return Judged(gate.key, gate.name, gate.tool, gate.time_to_live, verdict)


def could_not(reason: str) -> str:
    return f"It could not be judged, so it does not pass. {reason}"


def _go_on_by_environment(gate: Any, context: DeployContext, kept: Any) -> Judged | Unfinished:
    state = _state(gate, context, kept)
    done, parts, failures, errors = state["done"], state["parts"], state["failures"], state["errors"]
    environments = {one.environment.slug: one for one in context.resolved.environments}
    left = [one for slug, one in environments.items() if slug not in done and slug not in errors]
    # Those that answer first: what is down is asked when the others are through.
    left.sort(key=lambda one: failures.get(one.environment.cluster.slug, 0))

    asked = _ask(gate, left, parts)

    after: list[float] = []
    for cluster, ones in _by_cluster(left).items():
        outcomes = {one.environment.slug: asked[one.environment.slug] for one in ones}
        for slug, outcome in outcomes.items():
            if outcome.is_complete:
                done[slug] = _keep_attachments(gate, context, environments[slug], parts.pop(slug))
            elif isinstance(outcome.trouble, Permanent):
                errors[slug] = outcome.trouble.reason
        transient = next((one.trouble for one in outcomes.values() if isinstance(one.trouble, Transient)), None)
        if any(one.has_learnt for one in outcomes.values()):
            failures.pop(cluster, None)
        elif transient is not None:
            failures[cluster] = failures.get(cluster, 0) + 1
        if transient is not None and failures.get(cluster, 0) >= GATE_ATTEMPTS:
            errors |= {slug: transient.reason for slug in outcomes if slug not in done}
        elif transient is not None:
            after.append(back_off(failures.get(cluster, 0), after=transient.after).total_seconds())
    open_ones = [one for one in left if one.environment.slug not in done and one.environment.slug not in errors]
    if open_ones:
        is_all_failing = all(one.environment.cluster.slug in failures for one in open_ones)
        due_in = timedelta(seconds=min(after)) if is_all_failing and after else timedelta()
        # From when it is due again: a cluster that asks for a long wait must not have its failures forgotten by then.
        state["at"] = (context.at + due_in).isoformat()
        sentence = f"{len(done) + len(errors)} of {len(environments)} environments asked."
        return Unfinished({**state, "sentence": sentence}, due_in, sentence)
    return _concluded(gate, context, done, errors, started=datetime.fromisoformat(state["since"]))


@dataclass(frozen=True, slots=True)
class _Outcome:
    is_complete: bool = False
    has_learnt: bool = False
    trouble: Transient | Permanent | None = None


def _ask(gate: EnvironmentGate, left: Iterable[ResolvedEnvironment], parts: dict[str, Part]) -> dict[str, _Outcome]:
    """Ask several environments at once, and stop in time. A part that a call still works on is left as it was."""
    begun = time.monotonic()
    down: set[str] = set()

    def is_time_up() -> bool:
        return time.monotonic() >= begun + BEGIN_FOR_SECONDS

    def one(environment: ResolvedEnvironment, part: Part) -> tuple[_Outcome, Part]:
        cluster = environment.environment.cluster.slug
        before = _size(part)
        if cluster in down or is_time_up():
            return _Outcome(), part
        try:
            is_complete = gate.ask(environment, part, is_time_up=is_time_up)
        except (Transient, Permanent) as trouble:
            if isinstance(trouble, Transient):
                down.add(cluster)
            return _Outcome(has_learnt=_size(part) > before, trouble=trouble), part
        return _Outcome(is_complete, has_learnt=_size(part) > before), part

    pool = ThreadPoolExecutor(max_workers=ENVIRONMENTS_AT_ONCE)
    try:
        calls: dict[str, Future[tuple[_Outcome, Part]]] = {}
        clusters: dict[str, str] = {}
        for each in left:
            slug = each.environment.slug
            clusters[slug] = each.environment.cluster.name
            # A copy: a call that outlasts the tick writes into its own.
            calls[slug] = pool.submit(one, each, json.loads(json.dumps(parts.get(slug, {}))))
        wait(calls.values(), timeout=WAIT_FOR_SECONDS)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    found: dict[str, _Outcome] = {}
    for slug, call in calls.items():
        if not call.done() or call.cancelled():
            found[slug] = _Outcome(trouble=Transient(f"The cluster {clusters[slug]} did not answer in time."))
            continue
        found[slug], parts[slug] = call.result()
    return found


def _state(gate: Any, context: DeployContext, kept: Any) -> dict[str, Any]:
    """Return what was kept for this gate on these manifests, or a fresh start."""
    state = kept if isinstance(kept, dict) else {}
    judged = digest_of_value([context.resolved.commit.sha, context.resolved.manifests_hash])
    is_ours = (state.get("gate"), state.get("judged"), state.get("run")) == (gate.key, judged, context.run_id)
    if is_ours and context.at < datetime.fromisoformat(state["at"]) + FORGOTTEN_AFTER:
        return dict(state)
    at = context.at.isoformat()
    empty: dict[str, Any] = {name: {} for name in ("done", "parts", "failures", "errors")}
    return {"gate": gate.key, "judged": judged, "run": context.run_id, "since": at, "at": at, **empty}


def _concluded(
    gate: Any, context: DeployContext, done: Mapping[str, Part], errors: Mapping[str, str], *, started: datetime
) -> Judged:
    # In the order of the plan, whichever answered first.
    slugs = [one.environment.slug for one in context.resolved.environments]
    verdict: GateVerdict = gate.conclude(context, {slug: done[slug] for slug in slugs if slug in done})
    if errors:
        clusters = {one.environment.slug: one.environment.cluster.name for one in context.resolved.environments}
        said_by: dict[str, list[str]] = {}
        for slug in slugs:
            if slug in errors:
                said_by.setdefault(f"{clusters[slug]}: {errors[slug]}", []).append(slug)
        reasons = [f"{why} ({', '.join(names)})" for why, names in said_by.items()]
        also = f" {verdict.sentence}" if verdict.verdict == Verdict.FAIL else ""
        raw = {"not_asked": dict(errors), "answers": verdict.raw} if verdict.raw is not None else None
        verdict = replace(verdict, verdict=Verdict.ERROR, sentence=could_not(said(reasons)) + also, raw=raw)
    return _judged(gate, context, verdict, started)


def _judged(gate: Any, context: DeployContext, verdict: GateVerdict, started: datetime) -> Judged:
    """Keep what the gate wrote, and return its verdict with it."""
    sha256 = ""
    if verdict.raw is not None:
        record = {
            "gate": gate.key,
            "tool": gate.tool,
            "tool_version": verdict.tool_version,
            "verdict": str(verdict.verdict),
            "judged": {"what": verdict.judged_what, "digest": verdict.judged},
            "sentence": verdict.sentence,
            "raw": verdict.raw,
        }
        sha256 = _keep(context, f"gate-{gate.key}.json", "application/json", as_json(record))
    for name, data in verdict.attachments.items():
        _keep(context, name, "text/x-diff; charset=utf-8", data)
    seconds = (clock.now() - started).total_seconds()
    return Judged(gate.key, gate.name, gate.tool, gate.time_to_live, verdict, sha256, seconds)


def _keep_attachments(gate: EnvironmentGate, context: DeployContext, one: ResolvedEnvironment, part: Part) -> Part:
    for name, data in gate.attachments(one, part).items():
        _keep(context, name, "text/x-diff; charset=utf-8", data)
    return part


def _keep(context: DeployContext, name: str, media_type: str, data: bytes) -> str:
    return store_artefact(
        change_id=context.change.pk,
        name=name,
        media_type=media_type,
        data=data,
        source="gate",
        actor=system_actor(),
        at=context.at,
    ).sha256


def _by_cluster(environments: Iterable[ResolvedEnvironment]) -> dict[str, list[ResolvedEnvironment]]:
    found: dict[str, list[ResolvedEnvironment]] = {}
    for one in environments:
        found.setdefault(one.environment.cluster.slug, []).append(one)
    return found


def _size(part: Part) -> int:
    """Count what is known, so that a part which grew is told from one that did not."""
    return sum(len(value) if isinstance(value, dict) else 1 for value in part.values())


def as_json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1, default=str) + "\n").encode()
