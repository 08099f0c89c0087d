"""What a gate is, and the one registry of them. Every app adds its own by name in settings; none is known here.

A gate judges a resolved plan and says what it looked at, with which tool and until when that counts (GATE-1). A gate
that cannot judge raises; its caller records an error, and an error never passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.utils.module_loading import import_string

from changecontrol.models.gate import Verdict

PASSING = frozenset({Verdict.PASS, Verdict.WAIVED})
"""All else blocks: missing, stale, errors and the absence of data fail closed."""

Context = TypeVar("Context", contravariant=True)


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate found. `judged` is the SHA-256 of what it looked at; `raw` becomes the artefact, secrets left out.

    `attachments` are further artefacts by name, such as the difference that approvers read.
    """

    verdict: Verdict
    sentence: str
    judged: str
    judged_what: str
    raw: Any = None
    tool_version: str = ""
    database_at: datetime | None = None
    attachments: dict[str, bytes] = field(default_factory=dict)


class Gate(Protocol[Context]):
    """One check behind the registry. `kinds` are the kinds of change it judges."""

    key: str
    name: str
    tool: str
    kinds: frozenset[str]
    time_to_live: timedelta

    def judge(self, context: Context) -> GateVerdict:
        """Judge. May raise `Transient` (asked again) or `Permanent` (recorded as an error, which fails closed)."""


@cache
def registered() -> tuple[Gate[Any], ...]:
    """Return every gate of the project, in the order of the settings."""
    named: str | list[str] = settings.GATES
    found: list[Gate[Any]] = []
    for path in [named] if isinstance(named, str) else named:
        found.extend(import_string(path))
    keys = [gate.key for gate in found]
    if len(keys) != len(set(keys)):
        raise RuntimeError("Two gates have the same key.")
    return tuple(found)


def gates_for(kind: str) -> tuple[Gate[Any], ...]:
    """Return the gates that a change of this kind must pass."""
    return tuple(gate for gate in registered() if kind in gate.kinds)


def blocking(verdicts: Iterable[str]) -> tuple[str, ...]:
    """Return those verdicts that do not let a change go on."""
    return tuple(verdict for verdict in verdicts if verdict not in PASSING)
