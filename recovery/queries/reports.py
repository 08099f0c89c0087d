"""The report of a drill (BCK-7): what page, PDF and JSON say alike. The same rows are always the same report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet

from changecontrol.models import ChangeRequest, User
from changecontrol.queries.evidence import moment
from recovery.models import Drill, Restore, SignOff
from recovery.rules.levels import NAMES, method_of
from recovery.rules.objectives import RecoveryTimes, measure_rpo, measure_rto
from recovery.rules.times import length


def signed_by(drill: Drill) -> SignOff | None:
    """Return who signed a drill off, where somebody did."""
    return getattr(drill, "sign_off", None)


def rpo_verdict(drill: Drill) -> str:
    """Judge the RPO by the newest sentinel (BCK-6), as a verdict of the vocabulary.

    A drill that went further back than the RPO allows tells nothing of it: the loss was asked for.
    """
    lost = measure_rpo(declared_at=drill.declared_at, newest_sentinel_at=drill.newest_sentinel_at)
    target = drill.rpo_target
    if lost is None:
        return "no_data"
    if lost <= target:
        return "pass"
    return "inconclusive" if drill.declared_at - drill.target_at > target else "fail"


def rto_verdict(drill: Drill) -> str:
    """Judge the RTO, from declared to validated."""
    whole = measure_rto(recovery_times(drill)).whole
    if whole is None:
        return "no_data"
    return "pass" if whole <= drill.rto_target else "fail"


def recovery_times(row: Drill | Restore) -> RecoveryTimes:
    return RecoveryTimes(row.declared_at, row.decided_at, row.provisioned_at, row.restored_at, row.validated_at)


def drill_report(drill: Drill) -> dict[str, Any]:
    """Return everything that is recorded of a drill, as JSON values. Lengths are in seconds, sizes in bytes."""
    rto = measure_rto(recovery_times(drill))
    rpo = measure_rpo(declared_at=drill.declared_at, newest_sentinel_at=drill.newest_sentinel_at)
    signed = signed_by(drill)
    return {
        "drill": drill.pk,
        "key": str(drill.key),
        "tenant": drill.environment.tenant.slug,
        "environment": drill.environment.slug,
        "level": drill.level,
        "scope": drill.scope,
        "method": list(method_of(drill.level)),
        "started_by": _who(drill.asked_by) or "schedule",
        "point": {
            "key": drill.point.key,
            "kind": drill.point.kind,
            "size": drill.point.size,
            "consistent_at": moment(drill.point.consistent_at),
            "git_commit": drill.point.git_commit,
            "image": drill.point.image,
        },
        "target_at": moment(drill.target_at),
        "sabotage": drill.sabotage or None,
        "state": drill.state,
        "verdict": drill.sentence,
        "trouble": drill.trouble_found or None,
        "leftovers": drill.leftovers or None,
        "canceled": {"by": _who(drill.canceled_by), "at": moment(drill.canceled_at), "reason": drill.cancel_reason}
        if drill.canceled_at
        else None,
        "rto": {
            "target": drill.rto_target_seconds,
            "measured": _seconds(rto.whole),
            "parts": {name: _seconds(getattr(rto, name)) for name in ("decide", "provision", "restore", "validate")},
            "verdict": rto_verdict(drill),
        },
        "rpo": {
            "target": drill.rpo_target_seconds,
            "measured": _seconds(rpo),
            "newest_sentinel_at": moment(drill.newest_sentinel_at),
            "verdict": rpo_verdict(drill),
        },
        "times": {
            name: moment(getattr(drill, name))
            for name in (
                "declared_at",
                "decided_at",
                "provisioned_at",
                "restored_at",
                "validated_at",
                "finished_at",
            )
        },
        "checks": [
            {
                "name": one.name,
                "level": one.level,
                "level_name": NAMES[one.level],
                "is_passed": one.is_passed,
                "sentence": one.sentence,
                "at": moment(one.at),
            }
            for one in sorted(drill.checks.all(), key=lambda one: (one.level, one.pk))
        ],
        "gaps": list(gaps_of(drill)),
        "corrective_actions": [
            {
                "title": one.title,
                "owner": _who(one.owner),
                "change": one.change.number if one.change else None,
                "problem": one.problem or None,
                "opened_at": moment(one.opened_at),
                "closed_at": moment(one.closed_at),
                "closed_by": _who(one.closed_by),
                "closing_note": one.closing_note or None,
            }
            for one in drill.corrective_actions.all()
        ],
        "sign_off": {"by": _who(signed.by), "at": moment(signed.at), "note": signed.note} if signed else None,
    }


def gaps_of(drill: Drill) -> Iterator[str]:
    """Yield what a drill leaves open: levels it asked nothing of, objectives that it missed or did not measure.

    What was asked and failed is among its checks.
    """
    if drill.canceled_at is not None:
        yield "It was canceled before it was done: it proves nothing."
    asked = {one.level for one in drill.checks.all()}
    yield from (f"Nothing was asked of L{level}, {name}." for level, name in NAMES.items() if level not in asked)
    if drill.sabotage:
        yield "The copy was broken on purpose: it proves that damage is caught, and no way back."
    rto, rpo = rto_verdict(drill), rpo_verdict(drill)
    if rto == "no_data":
        yield "It was never validated: the time to recover was not measured."
    elif rto == "fail":
        yield f"The time to recover was longer than the RTO of {length(drill.rto_target)}."
    if rpo == "no_data":
        yield "No sentinel row was found: what would be lost was not measured."
    elif rpo == "inconclusive":
        yield f"It went further back than the RPO of {length(drill.rpo_target)} allows: the loss was asked for."
    elif rpo == "fail":
        yield f"More was lost than the RPO of {length(drill.rpo_target)} allows."


def report_json(drill: Drill) -> bytes:
    return (json.dumps(drill_report(drill), ensure_ascii=False, sort_keys=True, indent=2) + "\n").encode()


def report_line(drill: Drill) -> bytes:
    """Return the report as one line among others."""
    return (json.dumps(drill_report(drill), ensure_ascii=False, sort_keys=True) + "\n").encode()


def contribute(change: ChangeRequest) -> Iterator[tuple[str, bytes]]:
    """Yield, for a change's evidence pack, the report of each drill whose findings it mends (AUD-5)."""
    rows = Drill.objects.filter(corrective_actions__change=change).distinct()
    for drill in with_report(rows).order_by("pk"):
        yield f"drills/{drill.pk:06d}-L{drill.level}.json", report_json(drill)


def with_report(rows: QuerySet[Drill]) -> QuerySet[Drill]:
    """Fetch with drills all that their reports say."""
    return rows.select_related(
        "environment__tenant", "point", "asked_by", "canceled_by", "sign_off__by"
    ).prefetch_related(
        "checks", "corrective_actions__owner", "corrective_actions__closed_by", "corrective_actions__change__requester"
    )


def _who(person: User | None) -> str | None:
    return person.username if person else None


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()
