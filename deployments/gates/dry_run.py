"""Asks each target's own API server whether it would accept every object, and keeps the difference it would make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from changecontrol.errors import Permanent, Transient
from changecontrol.gates import GateVerdict
from changecontrol.models.gate import Verdict
from changecontrol.ports import Kubernetes, ObjectRef
from deployments import doors
from deployments.gates.context import KINDS, DeployContext, digest_of_manifests, in_parallel, said
from deployments.rendering import redaction_key, safe
from deployments.resolution import ResolvedEnvironment
from deployments.rules.manifest_diff import diff_rendered
from deployments.rules.manifests import RenderedObject

_VOLATILE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One object: what is there now, what would be, or why not."""

    ref: ObjectRef
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    refusal: str = ""


class DryRunGate:
    key = "dry_run"
    name = "Schema and server-side dry run"
    tool = "Kubernetes API server"
    kinds = KINDS
    time_to_live = timedelta(hours=12)

    def judge(self, context: DeployContext) -> GateVerdict:
        findings: list[str] = []
        raw: list[dict[str, str]] = []
        attachments: dict[str, bytes] = {}
        versions: set[str] = set()
        count = 0
        for environment in context.resolved.environments:
            cluster = doors.open_cluster(environment.environment.cluster)
            versions.add(cluster.observe_version())
            asked = in_parallel(lambda one, cluster=cluster: _ask(cluster, one), environment.manifests.objects)  # type: ignore[misc]
            count += len(asked)
            findings.extend(f"{environment.environment.slug}: {one.refusal}" for one in asked if one.refusal)
            raw.extend(
                {
                    "environment": environment.environment.slug,
                    "object": str(one.ref),
                    "answer": one.refusal or ("accepted" if one.before else "accepted, new"),
                }
                for one in asked
            )
            attachments[f"difference-{environment.environment.slug}.diff"] = _difference(environment, cluster, asked)
        return GateVerdict(
            verdict=Verdict.FAIL if findings else Verdict.PASS,
            sentence=said(findings) if findings else f"The clusters accept all {count} objects.",
            judged=digest_of_manifests(context),
            judged_what="rendered manifests",
            raw=raw,
            tool_version=", ".join(sorted(versions)),
            attachments=attachments,
        )


def _ask(cluster: Kubernetes, one: RenderedObject) -> _Asked:
    before = cluster.observe_object(one.ref)
    try:
        applied = cluster.ensure_applied(one.manifest, dry_run=True)
    except Transient:
        raise
    except Permanent as refusal:
        return _Asked(one.ref, before, None, refusal.reason)
    return _Asked(one.ref, before, applied.live)


def _difference(environment: ResolvedEnvironment, cluster: Kubernetes, asked: list[_Asked]) -> bytes:
    """Return the unified difference, object by object: what is applied, and what would be pruned."""
    gone = [
        live
        for one in environment.previous.objects
        if not environment.manifests.holds(one.ref) and (live := cluster.observe_object(one.ref)) is not None
    ]
    before = [*(one.before for one in asked if one.before is not None), *gone]
    after = [one.after for one in asked if one.after is not None]
    kept = {one.ref for one in asked if one.after is None}
    pairs = diff_rendered(
        [bare(one) for one in before if ObjectRef.of(one) not in kept],
        [bare(one) for one in after],
        key=redaction_key(),
    )
    return "".join(pair.text for pair in pairs).encode()


def bare(live: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person wrote of a live object: no status, nothing that differs with every write."""
    found = {key: value for key, value in live.items() if key != "status"}
    found["metadata"] = {key: value for key, value in (live.get("metadata") or {}).items() if key not in _VOLATILE}
    return safe(found)
