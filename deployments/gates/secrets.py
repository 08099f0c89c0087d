"""Looks for secrets in what the commits add. The finding names file, line and rule; the secret is never kept."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from changecontrol.gates import GateVerdict
from changecontrol.models.gate import Verdict
from deployments import doors
from deployments.gates.context import KINDS, DeployContext, digest_of_text, digest_of_value, said
from deployments.rules.secrets_scan import RULES, scan_diff

CUT_SHORT = "… the difference is longer than can be shown here."


class SecretGate:
    key = "secret_scan"
    name = "Secret scan of the difference"
    tool = "ChangeControl secret scan"
    kinds = KINDS
    time_to_live = timedelta(days=7)

    def judge(self, context: DeployContext) -> GateVerdict:
        repository = doors.open_source(context.resolved.source)
        digests: dict[str, str] = {}
        sentences: list[str] = []
        raw: list[dict[str, object]] = []
        is_whole = True
        for one in context.resolved.environments:
            diff = repository.observe_diff(
                old=one.commit_from, new=context.resolved.commit.sha, path=one.environment.path
            )
            is_whole = is_whole and not diff.rstrip().endswith(CUT_SHORT)
            digests[one.environment.slug] = digest_of_text(diff)
            for finding in scan_diff(diff):
                sentences.append(f"{one.environment.slug}: {finding.sentence}")
                raw.append({"environment": one.environment.slug, **asdict(finding)})
        judged = digest_of_value(digests)
        tool_version = f"{len(RULES)} rules"
        if sentences:
            words = f"{said(sentences)} Take it out of the history, and renew what it opens."
            return GateVerdict(Verdict.FAIL, words, judged, "Git difference", raw, tool_version)
        if not is_whole:
            words = "The difference is too long to be looked through whole. Deploy it in smaller steps."
            return GateVerdict(Verdict.INCONCLUSIVE, words, judged, "Git difference", raw, tool_version)
        return GateVerdict(
            Verdict.PASS, "Nothing that is added looks like a secret.", judged, "Git difference", raw, tool_version
        )
