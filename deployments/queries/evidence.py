"""What a rollout adds to the evidence pack of its change: every target, every sample, the log. Manifests, differences
and gate outputs are artefacts, which the pack takes from the object store by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from changecontrol.models import ChangeRequest, Run, RunTarget
from changecontrol.queries.evidence import moment
from deployments.models import Measurement

TIMES = (
    "created_at",
    "started_at",
    "finished_at",
    "detected_at",
    "rollback_decided_at",
    "rollback_started_at",
    "rollback_serving_at",
    "rollback_verified_at",
)
KEPT = ("ref", "existed", "uid", "generation", "sha256", "at", "reverted_at", "revert_generation", "problem")
"""What of a target's notes is evidence; live objects from before are in the log, as differences."""


def contribute(change: ChangeRequest) -> Iterator[tuple[str, bytes]]:
    """Yield (path, bytes) for each run of a change, oldest first. The same rows are always the same bytes."""
    runs = Run.objects.filter(change=change).select_related("plan", "revision", "intent_by").order_by("pk")
    for number, run in enumerate(runs, start=1):
        folder = f"runs/{number:02d}-{run.kind}"
        yield f"{folder}/run.json", _json(_run(run))
        yield f"{folder}/log.ndjson", b"".join(_json(line, indent=None) for line in _log(run))
        targets = [_target(one) for one in run.targets.select_related("environment", "cohort").order_by("pk")]
        if targets:
            yield f"{folder}/targets.json", _json(targets)
        measurements = [_measurement(one) for one in _measured(run)]
        if measurements:
            yield f"{folder}/measurements.json", _json(measurements)


def _run(run: Run) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "revision": run.revision.number,
        "plan_digest": run.plan.digest if run.plan else None,
        "state": run.state,
        "pause_reason": run.pause_reason or None,
        "sentence": run.sentence,
        "wave": run.wave,
        "times": {name: moment(getattr(run, name)) for name in TIMES},
    }


def _log(run: Run) -> Iterator[dict[str, Any]]:
    for line in run.log.select_related("target__environment").order_by("pk"):
        yield {
            "at": moment(line.at),
            "target": str(line.target) if line.target else None,
            "sentence": line.sentence,
            "detail": line.detail,
        }


def _target(target: RunTarget) -> dict[str, Any]:
    return {
        "environment": target.environment.slug,
        "cohort": target.cohort.slug if target.cohort else None,
        "workload": target.workload or None,
        "wave": target.wave,
        "state": target.state,
        "sentence": target.sentence,
        "started_at": moment(target.started_at),
        "finished_at": moment(target.finished_at),
        "objects": [{key: entry[key] for key in KEPT if key in entry} for entry in target.applied],
    }


def _measured(run: Run) -> Iterator[Measurement]:
    rows = Measurement.objects.filter(run=run).select_related("environment").prefetch_related("samples")
    yield from rows.order_by("pk")


def _measurement(row: Measurement) -> dict[str, Any]:
    return {
        "wave": row.wave,
        "environment": row.environment.slug,
        "cohorts": row.cohorts,
        "indicator": row.indicator,
        "title": row.title,
        "query": row.query,
        "comparison": row.comparison,
        "threshold": row.threshold,
        "minimum_samples": row.minimum_samples,
        "consecutive_breaches": row.breach_count,
        "started_at": moment(row.started_at),
        "ended_at": moment(row.ended_at),
        "verdict": row.verdict,
        "sentence": row.sentence,
        "samples": [
            {"at": moment(one.at), "value": one.value, "error": one.error or None} for one in row.samples.all()
        ],
    }


def _json(value: Any, *, indent: int | None = 2) -> bytes:
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent) + "\n").encode()
