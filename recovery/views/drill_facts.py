"""What the pages of drills show, as finished facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.urls import reverse

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.lifecycles.change import ENDED as ENDED_CHANGES
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import User
from changecontrol.rules.roles import Ability
from changecontrol.templatetags.numbers import size
from changecontrol.templatetags.times import duration, exact_moment, moment, second_time, short_moment
from changecontrol.views.wording import counted
from recovery.forms.drills import SABOTAGE
from recovery.lifecycles.drill import ENDED, JUDGED, DrillState
from recovery.models import CorrectiveAction, Drill
from recovery.queries.drills import OverdueDrill
from recovery.queries.progress import Progress
from recovery.queries.reports import recovery_times, rpo_verdict, rto_verdict, signed_by
from recovery.rules.levels import ASKS, NAMES
from recovery.rules.objectives import measure_rpo, measure_rto
from recovery.rules.times import length
from recovery.views.step_facts import drawn, steps


def rows_of(drills: Sequence[Drill]) -> list[dict[str, Any]]:
    """Return drills as lines of a list."""
    return [
        {
            "drill": one,
            "environment": one.environment,
            "level": f"L{one.level}, {NAMES[one.level]}",
            "by": str(one.asked_by) if one.asked_by else "by schedule",
            "sabotage": sabotage_words(one),
            "rto": duration(whole) if (whole := measure_rto(recovery_times(one)).whole) is not None else "–",
            "rto_target": duration(one.rto_target),
            "is_late": rto_verdict(one) == "fail",
            "signed_by": str(signed.by) if (signed := signed_by(one)) else "",
            "unsigned": _unsigned(one),
        }
        for one in drills
    ]


def _unsigned(drill: Drill) -> str:
    """Return what stands in place of who signed it off."""
    if drill.state not in ENDED:
        return "under way"
    return "not needed" if drill.state == DrillState.CANCELED else "not yet"


def overdue_alarms(overdue: Sequence[OverdueDrill], *, scope: Scope, at: datetime) -> list[dict[str, Any]]:
    """Return what was not practised in time, longest overdue first, each with the way to do it now."""
    return [
        {
            "title": f"{one.environment.name}: drill overdue for {length(at - one.due_at)}",
            "text": f"Due {moment(one.due_at)}. "
            + (f"The last one passed {short_moment(one.last_at)}." if one.last_at else "None has ever passed."),
            "url": _start_url(one) if Ability.RECOVERY_DRILL in access.abilities_for(scope, one.environment) else "",
            "link": "Hold it now",
        }
        for one in overdue
    ]


def _start_url(overdue: OverdueDrill) -> str:
    return f"{reverse('drill-new')}?environment={overdue.environment.pk}"


def sabotage_words(drill: Drill) -> str:
    return SABOTAGE[drill.sabotage][0].lower() if drill.sabotage else ""


def drill_steps(drill: Drill) -> list[dict[str, Any]]:
    passed = [
        *(
            [("provisioning", drill.provisioned_at is not None), ("restoring", drill.restored_at is not None)]
            if drill.level > 1
            else []
        ),
        ("checking", drill.validated_at is not None),
        ("tearing_down", drill.finished_at is not None),
    ]
    end = DrillState.PASSED if drill.canceled_at is None else DrillState.CANCELED
    return steps(drill.state, passed=passed, good_end=end)


def version_of(drill: Drill, progress: Progress | None, *, check_count: int, at: datetime) -> str:
    """Name what the live part shows: while it stays the same there is nothing to draw again."""
    return drawn(drill.state, drill.sentence, drill.trouble, check_count, progress=progress, at=at)


def result_of(drill: Drill) -> dict[str, str] | None:
    """Return the verdict in words; None while it goes on."""
    if drill.state not in ENDED:
        return None
    if drill.state == DrillState.PASSED:
        return {"tone": "good", "title": "Passed.", "text": drill.sentence}
    if drill.state == DrillState.CANCELED:
        tone = "warn" if drill.leftovers else "info"
        return {"tone": tone, "title": "It was canceled.", "text": drill.sentence}
    return {"tone": "bad", "title": "Failed.", "text": drill.sentence}


def objectives_of(drill: Drill) -> list[dict[str, str]]:
    """Return target against measured, how it was measured, and the verdict (BCK-6)."""
    rto, lost = measure_rto(recovery_times(drill)).whole, _lost(drill)
    declared = f"declared {second_time(drill.declared_at)}"
    return [
        {
            "name": "RTO",
            "target": duration(drill.rto_target),
            "measured": duration(rto) if rto is not None else "none",
            "how": f"{declared}, validated {second_time(drill.validated_at)}"
            if drill.validated_at
            else f"{declared}, never validated",
            "verdict": rto_verdict(drill),
        },
        {
            "name": "RPO",
            "target": duration(drill.rpo_target),
            "measured": duration(lost) if lost is not None else "none",
            "how": _how_lost(drill),
            "verdict": rpo_verdict(drill),
        },
    ]


def _lost(drill: Drill) -> timedelta | None:
    return measure_rpo(declared_at=drill.declared_at, newest_sentinel_at=drill.newest_sentinel_at)


def _how_lost(drill: Drill) -> str:
    if drill.newest_sentinel_at is None:
        return "no sentinel row was found: without one nothing tells what was lost"
    how = (
        f"declared {second_time(drill.declared_at)}, newest sentinel recovered {second_time(drill.newest_sentinel_at)}"
    )
    if rpo_verdict(drill) != "inconclusive":
        return how
    return f"{how}; it went back to {exact_moment(drill.target_at)}, which is further than the RPO allows"


def check_groups(drill: Drill) -> list[dict[str, Any]]:
    """Return the checks by level, each with its answer."""
    rows = sorted(drill.checks.all(), key=lambda one: (one.level, one.pk))
    return [
        {
            "title": f"L{level}, {NAMES[level]}",
            "rows": [
                {
                    "name": one.name,
                    "sentence": one.sentence,
                    "at": one.at,
                    "verdict": "pass" if one.is_passed else "fail",
                }
                for one in found
            ],
        }
        for level, found in groupby(rows, key=lambda one: one.level)
    ]


def checks_aside(drill: Drill) -> str:
    rows = list(drill.checks.all())
    passed = sum(one.is_passed for one in rows)
    return f"{passed} of {counted(len(rows), 'check')} passed" if rows else ""


def clean_up(drill: Drill) -> dict[str, str] | None:
    """Return whether everything it made was taken away, which is part of the verdict (BCK-8); None until then."""
    if drill.state not in ENDED:
        return None
    if drill.leftovers:
        return {"verdict": "fail", "sentence": f"Left behind: {drill.leftovers}"}
    return {"verdict": "pass", "sentence": f"Nothing that carries {drill.key} is left."}


def scope_pairs(drill: Drill) -> list[dict[str, Any]]:
    """Return scope and method."""
    return [
        {"label": "Data of", "value": drill.environment.name, "note": drill.environment.tenant.name},
        {"label": "Level", "value": f"L{drill.level}, {NAMES[drill.level]}", "note": " ".join(_method(drill))},
        *([{"label": "Covers", "value": drill.scope}] if drill.scope else []),
        {
            "label": "Point",
            "value": drill.point.key,
            "url": reverse("point", args=[drill.point_id]),
            # Not how far it is proved: that is of today, and the report is of then.
            "note": f"consistent at {moment(drill.point.consistent_at)} · {size(drill.point.size)}",
        },
        {"label": "Back to", "value": exact_moment(drill.target_at)},
        {"label": "Sabotage", "value": sabotage_words(drill) or "none"},
        {
            "label": "Run by",
            "value": str(drill.asked_by) if drill.asked_by else "schedule",
            "note": f"declared {short_moment(drill.declared_at)}",
        },
        {"label": "Run id", "value": str(drill.key), "is_code": True},
    ]


def _method(drill: Drill) -> list[str]:
    before = f"All that L1 to L{drill.level - 1} ask, and:" if drill.level > 2 else "All that L1 asks, and:"
    return [*([before] if drill.level > 1 else []), ASKS[drill.level]]


def action_rows(drill: Drill, *, may_close: bool) -> list[dict[str, Any]]:
    """Return what must be done about what was found, with how to say that it is done."""
    return [_action(one, may_close=may_close) for one in drill.corrective_actions.all()]


def _action(one: CorrectiveAction, *, may_close: bool) -> dict[str, Any]:
    return {
        "action": one,
        "owner": str(one.owner) if one.owner else "nobody yet",
        "change": _change_words(one),
        "state": "complete" if not one.is_open else "warning",
        "label": "closed" if not one.is_open else "open",
        "closed": f"{one.closed_by}, {short_moment(one.closed_at)}" if not one.is_open else "",
        "close_url": reverse("corrective-action-close", args=[one.pk]) if may_close and one.is_open else "",
        "link_url": reverse("corrective-action-link", args=[one.pk]) if may_close and one.is_open else "",
        "dialog": f"close-{one.pk}",
    }


def _change_words(one: CorrectiveAction) -> str:
    """Say where the change that is to mend it stands, and what a person does next; nothing once all is closed."""
    change = one.change
    if change is None or not one.is_open:
        return ""
    if one.is_mended:
        return "closed as successful: say here what was done"
    if change.state in ENDED_CHANGES:
        return f"{change.get_state_display().lower()} without mending it: name another change"
    if change.state == ChangeState.DRAFT:
        return f"a draft of {change.requester}: nothing is submitted by itself"
    return str(change.get_state_display()).lower()


def sign_off_facts(drill: Drill, *, scope: Scope, person: User) -> dict[str, Any] | None:
    """Return who signed off, or whether this person may and why not; None while it goes on, and once canceled."""
    if drill.state not in JUDGED:
        return None
    if signed := signed_by(drill):
        return {"signed": signed, "may": False, "refusal": "", "reasons": []}
    refusal = ""
    if Ability.RECOVERY_SIGN_OFF not in access.abilities_for(scope, drill.environment):
        refusal = access.why_not(scope, Ability.RECOVERY_SIGN_OFF)
    elif drill.asked_by_id == person.pk:
        refusal = "You ran it: somebody else signs it off."
    runner = f"{drill.asked_by} ran it; you did not" if drill.asked_by else "It ran by schedule"
    still = sum(one.is_open for one in drill.corrective_actions.all())
    reasons = [{"is_good": True, "text": f"{runner}, so you may sign it off."}]
    if still:
        words = counted(still, "corrective action is", "corrective actions are")
        reasons.append({"is_good": False, "text": f"{words} still open."})
    return {"signed": None, "may": not refusal, "refusal": refusal, "reasons": reasons}
