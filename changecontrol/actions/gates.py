"""Writing down what gates found. Results are only ever added; the newest of each gate counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.gates import GateVerdict
from changecontrol.models import ChangeRequest, GateResult, Revision


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with the gate it came from; `artefact_sha256` names the raw output in the object store."""

    gate: str
    name: str
    tool: str
    time_to_live: timedelta
    verdict: GateVerdict
    artefact_sha256: str = ""
    duration_seconds: float = 0.0


def record_gate_result(
    change: ChangeRequest, *, revision: Revision, judged: Judged, actor: Actor, at: datetime
) -> GateResult:
    """Add one result to a change that the caller has locked (GATE-1)."""
    found = judged.verdict
    result = GateResult.objects.create(
        change=change,
        revision=revision,
        gate=judged.gate,
        name=judged.name,
        verdict=found.verdict,
        sentence=found.sentence,
        judged=found.judged,
        judged_what=found.judged_what,
        tool=judged.tool,
        tool_version=found.tool_version,
        database_at=found.database_at,
        at=at,
        expires_at=at + judged.time_to_live,
        artefact_sha256=judged.artefact_sha256,
        duration_seconds=round(judged.duration_seconds, 3),
    )
    audit.record(
        Tag.GATE_JUDGED,
        subject=change,
        actor=actor,
        at=at,
        data={
            "gate": judged.gate,
            "verdict": str(found.verdict),
            "judged": found.judged,
            "tool": f"{judged.tool} {found.tool_version}".strip(),
            "expires_at": result.expires_at.isoformat(),
            "artefact": judged.artefact_sha256,
            "sentence": found.sentence,
        },
    )
    return result
