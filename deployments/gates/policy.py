"""Asks the shipped deployment policy about every object."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from changecontrol.gates import GateVerdict
from changecontrol.models.gate import Verdict
from deployments.gates import evaluation
from deployments.gates.context import KINDS, DeployContext, digest_of_manifests, digest_of_value, said
from deployments.rules.policy import Subject, TooMuch, findings_of, shipped_rules, subjects_of


class PolicyGate:
    key = "policy"
    name = "Deployment policy"
    tool = "CEL"
    kinds = KINDS
    time_to_live = timedelta(hours=24)

    def judge(self, context: DeployContext) -> GateVerdict:
        rules = shipped_rules()
        judged = digest_of_value({"manifests": digest_of_manifests(context), "rules": rules.digest})
        subjects: list[Subject] = []
        try:
            for one in context.resolved.environments:
                manifests = [each.manifest for each in one.manifests.objects]
                subjects += subjects_of(rules, manifests, environment=one.environment.slug, stage=one.environment.stage)
        except TooMuch as refusal:
            return GateVerdict(Verdict.ERROR, str(refusal), judged, "manifests and rules")
        findings = findings_of(rules, subjects, answers=evaluation.answer(subjects))
        sentences = [f"{finding.subject}: {finding.sentence}" for finding in findings]
        return GateVerdict(
            verdict=Verdict.FAIL if findings else Verdict.PASS,
            sentence=said(sentences)
            if findings
            else f"{len(rules.rules)} rules hold for every object ({len(subjects)} questions).",
            judged=judged,
            judged_what="manifests and rules",
            raw={
                "rules": [asdict(rule) for rule in rules.rules],
                "rules_version": rules.version,
                "questions": len(subjects),
                "findings": [asdict(finding) for finding in findings],
            },
            tool_version=evaluation.tool_version(),
        )
