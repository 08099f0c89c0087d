"""Does the trail of one change hold? Followed event by event in the database, as its evidence pack is offline."""

from __future__ import annotations

from dataclasses import dataclass

from changecontrol.models import AuditHead, ChangeRequest
from changecontrol.offline.verify import Broken, check_chains
from changecontrol.queries.evidence import event_lines


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """`problem` names the first bad event; empty where every chain is whole up to its head."""

    event_count: int
    chain_count: int
    problem: str = ""


def chain_of(change: ChangeRequest) -> ChainVerdict:
    """Follow every chain that the change's events are in, and compare each with where the database says it ends."""
    lines = event_lines(change)
    subjects = {str(line["subject"]) for line in lines}
    try:
        counts = check_chains(lines)
        heads = dict(AuditHead.objects.filter(subject__in=subjects).values_list("subject", "sequence"))
        for subject, count in counts.items():
            # A chain may go on after what was read here, never end before it.
            if heads.get(subject, 0) < count:
                raise Broken(f"{subject} has {count} events, and its head names {heads.get(subject, 0)}")
    except Broken as problem:
        return ChainVerdict(len(lines), len(subjects), str(problem))
    return ChainVerdict(len(lines), len(subjects))
