"""What CloudNativePG's webhook refuses, as far as recovery meets it. Shapes are the definitions' part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from deployments.practice.cloudnativepg.schedule import Unreadable, parse_schedule

Body = dict[str, Any]
Cause = tuple[str, str, str]

GROUP = "postgresql.cnpg.io"
LONGEST_NAME = 50

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def refusals(kind: str, new: Body, old: Body | None) -> Iterator[Cause]:
    """Yield why one of the operator's objects is refused; `old` is the live one, None at creation."""
    if kind == "Cluster":
        yield from _cluster(new)
    elif kind == "Backup":
        yield from _method(new)
    elif kind == "ScheduledBackup":
        yield from _method(new)
        yield from _schedule(new, old)


def _wrong(where: str, value: Any, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else value
    return "FieldValueInvalid", where, f"Invalid value: {shown}: {why}"


def _cluster(new: Body) -> Iterator[Cause]:
    name, spec = str(new["metadata"].get("name", "")), new.get("spec") or {}
    if not _NAME.fullmatch(name):
        yield _wrong("metadata.name", name, "cluster name must be a valid DNS label")
    if len(name) > LONGEST_NAME:
        yield _wrong("metadata.name", name, f"the maximum length of a cluster name is {LONGEST_NAME} characters")
    recovery = (spec.get("bootstrap") or {}).get("recovery") or {}
    source = recovery.get("source")
    if source and source not in {one.get("name") for one in spec.get("externalClusters") or ()}:
        yield _wrong("spec.bootstrap.recovery.source", source, f"External cluster {source} not found")
    archivers = [one for one in spec.get("plugins") or () if one.get("isWALArchiver") and one.get("enabled", True)]
    if archivers and (spec.get("backup") or {}).get("barmanObjectStore"):
        why = "Cannot enable a WAL archiver plugin when barmanObjectStore is configured"
        yield _wrong("spec.plugins", archivers[0].get("name", ""), why)


def _method(new: Body) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    if spec.get("method") == "plugin" and not (spec.get("pluginConfiguration") or {}).get("name"):
        yield _wrong("spec.pluginConfiguration", "null", "cannot be empty when the backup method is plugin")
    if spec.get("method") == "barmanObjectStore" and spec.get("online") is not None:
        why = "Online parameter can be specified only if the backup method is volumeSnapshot"
        yield _wrong("spec.online", str(spec["online"]).lower(), why)


def _schedule(new: Body, old: Body | None) -> Iterator[Cause]:
    spec, before = new.get("spec") or {}, (old or {}).get("spec") or {}
    try:
        parse_schedule(str(spec.get("schedule", "")))
    except Unreadable as problem:
        yield _wrong("spec.schedule", str(spec.get("schedule", "")), str(problem))
    if old is not None and spec.get("cluster") != before.get("cluster"):
        yield _wrong("spec.cluster", "object", "cluster reference is immutable after creation")
