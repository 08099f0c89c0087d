"""Does the commit of a restore put the restored database in place? Its rollout would else change nothing (BCK-4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

from changecontrol.gates import GateVerdict
from changecontrol.lifecycles.change import ChangeKind
from changecontrol.models.gate import Verdict
from deployments.gates.context import MAX_SAID, DeployContext, digest_of_manifests
from deployments.rules.cut_over import naming_of


class CutOverGate:
    key = "cut_over"
    name = "Cut-over in Git"
    tool = "ChangeControl"
    kinds = frozenset({str(ChangeKind.RESTORE)})
    time_to_live = timedelta(days=7)

    def judge(self, context: DeployContext) -> GateVerdict:
        restore = context.resolved.restore
        assert restore is not None, "a change of the kind restore resolves to one"
        manifests = [one.manifest for env in context.resolved.environments for one in env.manifests.objects]
        naming = naming_of(manifests, new=restore.to_database, old=restore.from_database)
        if naming.new:
            still = f" “{restore.from_database}” is still a word in {_listed(naming.old)}." if naming.old else ""
            words = f"“{restore.to_database}” is named by {_listed(naming.new)}.{still}"
        else:
            words = (
                f"No object of the commit names the database “{restore.to_database}”, so nothing would use it. Name it "
                "in a ConfigMap, an argument or a variable, in place of "
                f"“{restore.from_database}”, and submit this change again."
            )
        return GateVerdict(
            verdict=Verdict.PASS if naming.new else Verdict.FAIL,
            sentence=words,
            judged=digest_of_manifests(context),
            judged_what="rendered manifests",
            raw=[{"database": restore.to_database, **asdict(naming)}],
        )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_SAID
    return ", ".join(names[:MAX_SAID]) + (f" and {more} more" if more > 0 else "")
