"""Does the trail of one change hold? Followed event by event in the database, as its evidence pack is offline."""

from __future__ import annotations

from dataclasses import dataclass

from changecontrol.audit import subject_of
from changecontrol.models import AuditHead, ChangeRequest
from changecontrol.offline.verify import Broken, check_chains
from changecontrol.queries.evidence import event_lines


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """`problem` names the first bad event; empty where every chain is whole, the change's own up to its head."""

    event_count: int
    chain_count: int
    problem: str = ""


def chain_of(change: ChangeRequest) -> ChainVerdict:
    """Follow every chain that the change's events are in, and its own to where the database says it ends."""
    own = subject_of(change)
    # The head is read first: an event recorded in between makes the chain longer than it, never shorter.
    head = AuditHead.objects.filter(subject=own).values_list("sequence", flat=True).first() or 0
    lines = event_lines(change)
    subjects = {str(line["subject"]) for line in lines}
    try:
        counts = check_chains(lines)
        if counts.get(own, 0) < head:
            raise Broken(f"{own} ends at event {counts.get(own, 0)}, and it had {head}")
    except Broken as problem:
        return ChainVerdict(len(lines), len(subjects), str(problem))
    return ChainVerdict(len(lines), len(subjects))
