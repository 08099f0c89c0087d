"""Asks each target's own API server whether it would accept every object, and keeps the difference it would make.

What the server accepts and would still go wrong is a finding too: an object of somebody else, a fight with an
autoscaler, a Deployment that stands still. What belongs to nobody yet is taken over, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from changecontrol.errors import Permanent, Transient
from changecontrol.gates import GateVerdict
from changecontrol.models.gate import Verdict
from changecontrol.ports import Kubernetes
from deployments import doors
from deployments.gates.context import KINDS, DeployContext, digest_of_manifests, said
from deployments.gates.parts import EnvironmentGate, IsTimeUp, Part, fill
from deployments.rendering import redaction_key, safe
from deployments.resolution import ResolvedEnvironment
from deployments.rules import dry_run, takeover
from deployments.rules.manifest_diff import diff_rendered
from deployments.rules.manifests import RenderedObject

_VOLATILE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")


class DryRunGate(EnvironmentGate):
    key = "dry_run"
    name = "Schema and server-side dry run"
    tool = "Kubernetes API server"
    kinds = KINDS
    time_to_live = timedelta(hours=12)

    def ask(self, one: ResolvedEnvironment, part: Part, *, is_time_up: IsTimeUp) -> bool:
        cluster = doors.open_cluster(one.environment.cluster)
        if "version" not in part:
            part["version"] = cluster.observe_version()
        work: list[tuple[str, Callable[[], Any]]] = [
            (_name(each), partial(_ask, cluster, each)) for each in one.manifests.objects
        ]
        work += [
            (f"pruned {_name(each)}", partial(_ask_pruned, cluster, each))
            for each in one.previous.objects
            if not one.manifests.holds(each.ref)
        ]
        return fill(part.setdefault("objects", {}), work, is_time_up=is_time_up)

    def attachments(self, one: ResolvedEnvironment, part: Part) -> dict[str, bytes]:
        texts = [part["objects"][name].pop("difference") for name in sorted(part["objects"])]
        return {f"difference-{one.environment.slug}.diff": "".join(texts).encode()}

    def conclude(self, context: DeployContext, parts: Mapping[str, Part]) -> GateVerdict:
        findings: list[str] = []
        taken: list[str] = []
        raw: list[dict[str, Any]] = []
        for slug, part in parts.items():
            manifests = [one.manifest for one in context.resolved.of(slug).manifests.objects]
            findings += [f"{slug}: {sentence}" for sentence in dry_run.fights_of(manifests)]
            for answer in part["objects"].values():
                findings += [f"{slug}: {sentence}" for sentence in answer["findings"]]
                taken += [f"{slug}: {answer['object']}"] if answer["taken_over"] else []
                raw.append({"environment": slug, **answer})
        count = sum(len(context.resolved.of(slug).manifests.objects) for slug in parts)
        sentence = f"The clusters accept all {count} objects." if count != 1 else "The cluster accepts the one object."
        if taken:
            are = "is there already, belongs" if len(taken) == 1 else "are there already, belong"
            sentence += f" {len(taken)} of them {are} to no environment and will be taken over: "
            sentence += f"{said([f'{one},' for one in taken]).rstrip(',')}."
        return GateVerdict(
            verdict=Verdict.FAIL if findings else Verdict.PASS,
            sentence=said(findings) if findings else sentence,
            judged=digest_of_manifests(context),
            judged_what="rendered manifests",
            raw=raw,
            tool_version=", ".join(sorted({part["version"] for part in parts.values()})),
        )


def taken_over(verdict: GateVerdict) -> list[str]:
    """Return what a verdict of this gate says is taken over, as `environment: object`: a vote agrees to that."""
    if not isinstance(verdict.raw, list):
        return []
    return sorted(f"{one['environment']}: {one['object']}" for one in verdict.raw if one.get("taken_over"))


def _name(one: RenderedObject) -> str:
    # By kind first, as people read a difference; two groups may have a kind of one name.
    return f"{one.ref} {one.ref.api_version}"


def _ask(cluster: Kubernetes, one: RenderedObject) -> Part:
    before = cluster.observe_object(one.ref)
    foreign = takeover.refusal_of(one.manifest, before) if before is not None else ""
    try:
        after = cluster.ensure_applied(one.manifest, dry_run=True).live
    except Transient:
        raise
    except Permanent as refusal:
        findings = [foreign or dry_run.way_out(one.ref, refusal.reason)]
        return _answer(one, findings=findings, answer=findings[0])
    findings = [foreign] if foreign else dry_run.findings_of(one.manifest, before=before, after=after)
    return _answer(
        one,
        findings=findings,
        answer=" ".join(findings) or ("accepted, new" if before is None else "accepted"),
        taken_over=before is not None and not foreign and takeover.is_unclaimed(before),
        difference=_difference(before, after),
    )


def _ask_pruned(cluster: Kubernetes, one: RenderedObject) -> Part:
    if not one.ref.namespace:
        return _answer(one, answer="in the plan no more; it stays, as everything does that a whole cluster shares")
    return _answer(one, answer="pruned", difference=_difference(cluster.observe_object(one.ref), None))


def _answer(
    one: RenderedObject,
    *,
    answer: str,
    findings: list[str] | None = None,
    taken_over: bool = False,
    difference: str = "",
) -> Part:
    return {
        "object": str(one.ref),
        "answer": answer,
        "findings": findings or [],
        "taken_over": taken_over,
        "difference": difference,
    }


def _difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """Return the unified difference of one object between what is there and what would be."""
    left, right = ([bare(one)] if one is not None else [] for one in (before, after))
    return "".join(pair.text for pair in diff_rendered(left, right, key=redaction_key()))


def bare(live: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person wrote of a live object: no status, nothing that differs with every write."""
    found = {key: value for key, value in live.items() if key != "status"}
    found["metadata"] = {key: value for key, value in (live.get("metadata") or {}).items() if key not in _VOLATILE}
    return safe(found)
