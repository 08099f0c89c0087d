"""What a backup says of itself in the store: JSON with a digest of its own, written last.

The digest tells facts that were written from facts that changed since; who could forge it is met elsewhere: the
catalogue keeps the digests of what the facts name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar, get_type_hints

from recovery.ports.postgres import BaseBackup, DatabaseDump

FACTS = "facts.json"
TIMES = ("started_at", "finished_at")

Backup = TypeVar("Backup", BaseBackup, DatabaseDump)


def facts_of(backup: BaseBackup | DatabaseDump) -> bytes:
    """Write down what a backup is."""
    facts = asdict(backup) | {name: getattr(backup, name).isoformat() for name in TIMES}
    return json.dumps(facts | {"digest": _digest_of(facts)}, indent=1, sort_keys=True).encode()


def backup_from(data: bytes, kind: type[Backup]) -> Backup | None:
    """Return what was written down; None where it was changed since, or has values that no backup writes."""
    try:
        facts = json.loads(data)
        is_whole = facts.pop("digest") == _digest_of(facts)
        times = {name: datetime.fromisoformat(facts[name]) for name in TIMES}
        backup = kind(**facts | times)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return backup if is_whole and _is_typed(backup) else None


def _is_typed(backup: BaseBackup | DatabaseDump) -> bool:
    """Tell whether every value is of its own type: a major version in words would name a folder of programs."""
    values = [(getattr(backup, name), kind) for name, kind in get_type_hints(type(backup)).items()]
    return all(type(value) is kind for value, kind in values) and all(
        value.utcoffset() is not None if isinstance(value, datetime) else value >= 0
        for value, _ in values
        if not isinstance(value, str)
    )


def _digest_of(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
