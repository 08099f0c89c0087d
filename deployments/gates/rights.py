"""Asks each cluster whether the executor holds the rights that this plan needs there."""

from __future__ import annotations

from datetime import timedelta

from changecontrol.gates import GateVerdict
from changecontrol.models.gate import Verdict
from changecontrol.ports import rights_for
from deployments import doors
from deployments.gates.context import KINDS, DeployContext, digest_of_value, said


class RightsGate:
    key = "executor_rights"
    name = "Rights of the executor"
    tool = "SelfSubjectAccessReview"
    kinds = KINDS
    time_to_live = timedelta(hours=12)

    def judge(self, context: DeployContext) -> GateVerdict:
        sentences: list[str] = []
        raw: list[dict[str, object]] = []
        for one in context.resolved.environments:
            objects = [*one.manifests.objects, *one.previous.objects]
            rights = rights_for({(each.ref.api_version, each.ref.kind) for each in objects})
            cluster = doors.open_cluster(one.environment.cluster)
            lacking = cluster.observe_rights(namespace=one.environment.namespace, rights=rights)
            names = [f"{right.verb} {right.resource}" for right in lacking]
            raw.append({"environment": one.environment.slug, "asked": len(rights), "lacking": names})
            if names:
                sentences.append(f"{one.environment.slug}: the executor may not {', '.join(names[:5])}.")
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
            else "The executor holds every right the plan needs.",
            judged=digest_of_value(needed),
            judged_what="kinds to be written",
            raw=raw,
        )
