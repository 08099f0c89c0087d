"""Asks each cluster whether the executor holds the rights for exactly what the run and its way back will do there.

A run writes what is planned, and on the way back what ran before. It lists every kind it could prune, as far as the
cluster knows it, and deletes what the plan has no more, or on the way back what the run created.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from changecontrol.gates import GateVerdict
from changecontrol.models.gate import Verdict
from changecontrol.ports import SUPPORTED_KINDS, Kubernetes, NotAllowed, ObjectRef, Right, rights_for
from deployments import doors
from deployments.gates.context import KINDS, DeployContext, digest_of_value, said
from deployments.gates.parts import EnvironmentGate, IsTimeUp, Part
from deployments.resolution import ResolvedEnvironment
from deployments.rules.manifests import identity_of, resource_of

RIGHTS_AT_ONCE = 12
"""Some clusters tell rights one by one only; a tick must not wait for a hundred answers."""
MAX_NAMED = 5


class RightsGate(EnvironmentGate):
    key = "executor_rights"
    name = "Rights of the executor"
    tool = "SelfSubjectAccessReview"
    kinds = KINDS
    time_to_live = timedelta(hours=12)

    def ask(self, one: ResolvedEnvironment, part: Part, *, is_time_up: IsTimeUp) -> bool:
        cluster = doors.open_cluster(one.environment.cluster)
        if "served" not in part:
            part["served"] = sorted(list(pair) for pair in cluster.observe_served(SUPPORTED_KINDS))
        planned = _planned(one, served=[(pair[0], pair[1]) for pair in part["served"]])
        if not _review(cluster, planned, part, namespace=one.environment.namespace, is_time_up=is_time_up):
            return False
        if not _review(cluster, _cluster_wide(one), part, namespace="", is_time_up=is_time_up):
            return False
        if "stray" not in part:
            if is_time_up():
                return False
            part["stray"] = _stray_kinds(cluster, one)
        stray = rights_for(deleted=[(pair[0], pair[1]) for pair in part["stray"]])
        return _review(cluster, stray, part, namespace=one.environment.namespace, is_time_up=is_time_up)

    def conclude(self, context: DeployContext, parts: Mapping[str, Part]) -> GateVerdict:
        sentences: list[str] = []
        raw: list[dict[str, Any]] = []
        for slug, part in parts.items():
            lacking = sorted(name for name, is_held in part["rights"].items() if not is_held)
            raw.append({"environment": slug, "asked": len(part["rights"]), "lacking": lacking})
            if lacking:
                more = f" and {len(lacking) - MAX_NAMED} more" if len(lacking) > MAX_NAMED else ""
                sentences.append(f"{slug}: the executor may not {', '.join(lacking[:MAX_NAMED])}{more}.")
        needed = sorted(
            {
                f"{one.environment.slug} {each.ref.api_version} {each.ref.kind}"
                for one in context.resolved.environments
                for each in one.manifests.objects
            }
        )
        return GateVerdict(
            verdict=Verdict.FAIL if sentences else Verdict.PASS,
            sentence=f"{said(sentences)} Grant it as deploy/rbac.yaml does."
            if sentences
            else "The executor holds every right that the rollout and its way back need.",
            judged=digest_of_value(needed),
            judged_what="kinds to be written",
            raw=raw,
        )


def _planned(one: ResolvedEnvironment, *, served: Iterable[tuple[str, str]]) -> tuple[Right, ...]:
    new, old = ({each.ref for each in group.objects} for group in (one.manifests, one.previous))
    return rights_for(
        written={_kind(ref) for ref in new | old}, deleted={_kind(ref) for ref in new ^ old}, listed=served
    )


def _cluster_wide(one: ResolvedEnvironment) -> tuple[Right, ...]:
    """Return what writing the objects needs that no namespace holds. They are never deleted, nor looked for."""
    kinds = {
        _kind(each.ref) for group in (one.manifests, one.previous) for each in group.objects if not each.ref.namespace
    }
    return tuple(
        Right(verb=verb, group=api_version.rpartition("/")[0], resource=resource_of(kind))
        for api_version, kind in sorted(kinds)
        for verb in ("create", "get", "patch")
    )


def _review(cluster: Kubernetes, rights: Iterable[Right], part: Part, *, namespace: str, is_time_up: IsTimeUp) -> bool:
    """Note of each right whether it is held, in a namespace or for none in the cluster; tell whether all are known."""
    known = part.setdefault("rights", {})
    left = [right for right in rights if _words(right) not in known]
    for start in range(0, len(left), RIGHTS_AT_ONCE):
        if is_time_up():
            return False
        batch = left[start : start + RIGHTS_AT_ONCE]
        lacking = cluster.observe_rights(namespace=namespace, rights=batch)
        known.update({_words(right): right not in lacking for right in batch})
    return True


def _stray_kinds(cluster: Kubernetes, one: ResolvedEnvironment) -> list[list[str]]:
    """Return the kinds of what carries the environment's label and would be pruned, whatever brought it there."""
    kept = {identity_of(each.ref) for each in one.manifests.objects}
    environment = one.environment
    try:
        present = cluster.observe_inventory(
            namespace=environment.namespace, inventory=environment.inventory, kinds=SUPPORTED_KINDS
        )
    except NotAllowed:
        return []  # the rights to list are lacking, and named
    return [list(pair) for pair in sorted({_kind(ref) for ref in present if identity_of(ref) not in kept})]


def _kind(ref: ObjectRef) -> tuple[str, str]:
    return ref.api_version, ref.kind


def _words(right: Right) -> str:
    return f"{right.verb} {right.resource}"
