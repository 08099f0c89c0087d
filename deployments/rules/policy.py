"""The deployment policy: shipped CEL rules, the facts they are asked about, and findings. Evaluation is the gate's.

Rules are data of the product; later, administrators alone may write some. They are capped in length and number here,
and the evaluator bounds time and memory besides, because CEL itself has no limit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from changecontrol.ports import ObjectRef
from changecontrol.rules.redaction import is_secret_name
from deployments.rules.dry_run import target_of

MAX_RULES = 200
MAX_EXPRESSION_CHARACTERS = 2000
MAX_SUBJECTS = 20_000
MAX_LIST_ITEMS = 1000
SUBJECTS = frozenset({"object", "workload", "pod", "container"})
WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
SINGLE_REPLICA = "changecontrol.io/single-replica"
RULES_FILE = Path(__file__).with_name("policy_rules.yaml")

_POD_PATHS: Mapping[str, tuple[str, ...]] = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}
_NAMES_NO_VALUE = re.compile(
    r"_(file|path|name|ref|url|length|size|count|ttl|seconds|minutes|hours|days|timeout|lifetime|expiry|enabled|policy)$",
    re.IGNORECASE,
)
"""Where a secret is, or how it is handled: not the secret itself."""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule. `expression` must be true for each subject; anything else, an error too, is a finding."""

    key: str
    each: str
    expression: str
    sentence: str
    stages: tuple[str, ...] = ()
    main_only: bool = False

    def __post_init__(self) -> None:
        if self.each not in SUBJECTS:
            raise ValueError(f"The rule “{self.key}” names an unknown subject.")
        if not self.expression or len(self.expression) > MAX_EXPRESSION_CHARACTERS:
            raise ValueError(
                f"The rule “{self.key}” needs an expression of at most {MAX_EXPRESSION_CHARACTERS} characters."
            )


@dataclass(frozen=True, slots=True)
class RuleSet:
    version: int
    rules: tuple[PolicyRule, ...]

    @property
    def digest(self) -> str:
        """Tells one set of rules from another, whatever their version says."""
        return hashlib.sha256(json.dumps([asdict(rule) for rule in self.rules], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Subject:
    """What one rule is asked about. `words` are the variables of the expression."""

    rule: str
    name: str
    expression: str
    words: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    subject: str
    sentence: str


class TooMuch(ValueError):
    """The manifests are more than the evaluator takes; the gate says so instead of judging a part."""


def shipped_rules() -> RuleSet:
    return load_rules(RULES_FILE.read_text(encoding="utf-8"))


def load_rules(text: str) -> RuleSet:
    """Read a set of rules. Raises `ValueError` for one that is malformed."""
    data = yaml.safe_load(text)
    rules = tuple(
        PolicyRule(
            key=entry["key"],
            each=entry["each"],
            expression=" ".join(entry["expression"].split()),
            sentence=" ".join(entry["sentence"].split()),
            stages=tuple(entry.get("stages", ())),
            main_only=bool(entry.get("main_only", False)),
        )
        for entry in data["rules"]
    )
    if len(rules) > MAX_RULES or len({rule.key for rule in rules}) != len(rules):
        raise ValueError(f"A policy has at most {MAX_RULES} rules, each with a key of its own.")
    return RuleSet(int(data["version"]), rules)


def subjects_of(
    rules: RuleSet, manifests: Sequence[Mapping[str, Any]], *, environment: str, stage: str
) -> list[Subject]:
    """Pair each rule with each thing it is about. Raises `TooMuch` beyond the caps."""
    budgets = [one for one in manifests if one.get("kind") == "PodDisruptionBudget"]
    least = {
        target: int((one.get("spec") or {}).get("minReplicas") or 1) for one in manifests if (target := target_of(one))
    }
    facts = {"environment": environment, "stage": stage}
    applicable = [rule for rule in rules.rules if not rule.stages or stage in rule.stages]
    found: list[Subject] = []
    for manifest in manifests:
        _check_lists(manifest)
        name = f"{environment}: {manifest.get('kind')} {(manifest.get('metadata') or {}).get('name', '')}"
        for each, label, is_main, words in _things(manifest, budgets, least):
            for rule in applicable:
                if rule.each == each and (is_main or not rule.main_only):
                    merged = {**words, "facts": {**facts, **words.get("facts", {})}}
                    found.append(Subject(rule.key, f"{name}{label}", rule.expression, merged))
        if len(found) > MAX_SUBJECTS:
            raise TooMuch(f"There is more than the policy judges at once ({MAX_SUBJECTS} questions).")
    return found


def findings_of(rules: RuleSet, subjects: Sequence[Subject], *, answers: Iterable[bool | str]) -> tuple[Finding, ...]:
    """Turn answers, in the order of the subjects, into findings. A text is an error of the rule and fails closed."""
    sentences = {rule.key: rule.sentence for rule in rules.rules}
    found: list[Finding] = []
    for subject, answer in zip(subjects, answers, strict=True):
        if answer is True:
            continue
        why = sentences[subject.rule]
        if isinstance(answer, str):
            why = f"{why} (The rule could not be asked: {answer[:200]})"
        found.append(Finding(subject.rule, subject.name, why))
    return tuple(found)


def plain_secret_variables(container: Mapping[str, Any]) -> list[str]:
    """Name the variables that look like secrets and hold a value instead of a reference."""
    return [
        str(entry.get("name", ""))
        for entry in container.get("env") or ()
        if isinstance(entry, Mapping) and entry.get("value") and is_secret_variable(str(entry.get("name", "")))
    ]


def is_secret_variable(name: str) -> bool:
    return is_secret_name(name) and not _NAMES_NO_VALUE.search(name)


def pod_spec_of(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the pod spec of a workload or job; None where the kind has none."""
    spec: Any = manifest
    path = _POD_PATHS.get(str(manifest.get("kind")))
    if path is None:
        return None
    for step in path:
        spec = spec.get(step) if isinstance(spec, Mapping) else None
    return spec if isinstance(spec, Mapping) else {}


def _things(
    manifest: Mapping[str, Any], budgets: Sequence[Mapping[str, Any]], least: Mapping[tuple[str, str], int]
) -> Iterable[tuple[str, str, bool, dict[str, Any]]]:
    kind = str(manifest.get("kind"))
    yield "object", "", True, {"object": {"kind": kind, "apiVersion": manifest.get("apiVersion", "")}}
    pod = pod_spec_of(manifest)
    if pod is None:
        return
    bare = {key: value for key, value in pod.items() if key not in ("containers", "initContainers")}
    yield "pod", "", True, {"pod": bare}
    if kind in WORKLOADS:
        yield "workload", "", True, {"workload": _workload(manifest, budgets, least)}
    for group, is_main in (("initContainers", False), ("containers", kind in WORKLOADS)):
        for container in pod.get(group) or ():
            if not isinstance(container, Mapping):
                continue
            words = {
                "container": {"image": "", **container},
                "pod": bare,
                "facts": {"plain_secret_variables": plain_secret_variables(container)},
            }
            yield "container", f", container {container.get('name', '')}", is_main, words


def _workload(
    manifest: Mapping[str, Any], budgets: Sequence[Mapping[str, Any]], least: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    """Return the facts of a workload. Left to an autoscaler, it has at least as many replicas as that one keeps."""
    ref = ObjectRef.of(manifest)
    spec = manifest.get("spec") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    replicas = spec.get("replicas")
    return {
        "ref": str(ref),
        "kind": ref.kind,
        "replicas": least.get((ref.kind, ref.name), 1) if replicas is None else int(replicas),
        "annotations": dict((manifest.get("metadata") or {}).get("annotations") or {}),
        "disruption_budget_count": sum(_selects(budget, labels) for budget in budgets),
    }


def _selects(budget: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    wanted = (((budget.get("spec") or {}).get("selector")) or {}).get("matchLabels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def _check_lists(value: Any, depth: int = 0) -> None:
    if isinstance(value, Mapping):
        items: Iterable[Any] = value.values()
        size = len(value)
    elif isinstance(value, list):
        items, size = value, len(value)
    else:
        return
    if size > MAX_LIST_ITEMS or depth > 60:
        raise TooMuch(f"A list or mapping of more than {MAX_LIST_ITEMS} entries is not judged.")
    for item in items:
        _check_lists(item, depth + 1)
