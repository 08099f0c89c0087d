"""Label and field selectors, in the query string's words and in an object's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from deployments.practice.status import bad_request

Test = Callable[[Mapping[str, Any]], bool]

_SETS = re.compile(r"^\s*([A-Za-z0-9./_-]+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
_EQUALS = re.compile(r"^\s*([A-Za-z0-9./_-]+)\s*(==|=|!=)\s*([A-Za-z0-9._-]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([A-Za-z0-9./_-]+)\s*$")
_FIELD = re.compile(r"^\s*([A-Za-z0-9.]+)\s*(==|=|!=)\s*(.*?)\s*$")


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def label_test(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Compile a label selector. Raises the 400 for one that does not parse."""
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    for part in _split(text):
        if match := _SETS.match(part):
            key, verb, values = match[1], match[2], frozenset(value.strip() for value in match[3].split(","))
            tests.append(_in(key, values) if verb == "in" else _not_in(key, values))
        elif match := _EQUALS.match(part):
            key, verb, value = match[1], match[2], match[3]
            tests.append(_not_in(key, frozenset([value])) if verb == "!=" else _in(key, frozenset([value])))
        elif match := _EXISTS.match(part):
            tests.append(_missing(match[2]) if match[1] else _present(match[2]))
        else:
            raise bad_request(f"unable to parse requirement: found '{part.strip()}', expected: an operator")
    return lambda labels: all(test(labels) for test in tests)


def _in(key: str, values: frozenset[str]) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: labels.get(key) in values


def _not_in(key: str, values: frozenset[str]) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: labels.get(key) not in values


def _present(key: str) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: key in labels


def _missing(key: str) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: key not in labels


def field_test(text: str, *, plural: str, allowed: frozenset[str]) -> Test:
    """Compile a field selector. Raises the 400 for a field that cannot be selected by."""
    wanted: list[tuple[tuple[str, ...], bool, str]] = []
    for part in _split(text):
        match = _FIELD.match(part)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        name, verb, value = match[1], match[2], match[3]
        if name not in allowed:
            raise bad_request(f"field label not supported: {name}")
        wanted.append((tuple(name.split(".")), verb != "!=", value))

    def holds(obj: Mapping[str, Any]) -> bool:
        for path, is_equal, value in wanted:
            found: Any = obj
            for key in path:
                found = found.get(key) if isinstance(found, Mapping) else None
            if (_shown(found) == value) is not is_equal:
                return False
        return True

    return holds


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


_BASIC = frozenset({"metadata.name", "metadata.namespace"})
_MORE: dict[str, frozenset[str]] = {
    "pods": frozenset(
        {
            "status.phase", "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.podIP",
            "spec.schedulerName",
        }
    ),
    "events": frozenset(
        {
            "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
            "reason", "type",
            "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "source",
            "reportingComponent",
        }
    ),
    "namespaces": frozenset({"status.phase"}),
    "secrets": frozenset({"type"}),
    "jobs": frozenset({"status.successful"}),
    "nodes": frozenset({"spec.unschedulable"}),
    "replicasets": frozenset({"status.replicas"}),
}  # fmt: skip


def selectable_fields(plural: str) -> frozenset[str]:
    return _BASIC | _MORE.get(plural, frozenset())


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Apply a `LabelSelector` object. None selects nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for wanted in selector.get("matchExpressions") or ():
        key, verb, values = wanted.get("key"), wanted.get("operator"), wanted.get("values") or ()
        if verb == "In" and labels.get(key) not in values:
            return False
        if verb == "NotIn" and key in labels and labels[key] in values:
            return False
        if (verb == "Exists" and key not in labels) or (verb == "DoesNotExist" and key in labels):
            return False
    return True


def shown(selector: Mapping[str, Any] | None) -> str:
    """Write a `LabelSelector` object in the query string's words, as `scale` shows it."""
    selector = selector or {}
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for wanted in selector.get("matchExpressions") or ():
        values = ",".join(sorted(wanted.get("values") or ()))
        verb = wanted["operator"]
        if verb in ("In", "NotIn"):
            parts.append(f"{wanted['key']} {verb.lower()} ({values})")
        else:
            parts.append(wanted["key"] if verb == "Exists" else f"!{wanted['key']}")
    return ",".join(parts)
