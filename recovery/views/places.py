"""One environment: how far back it can be brought, its points, backups and legal holds."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from changecontrol import clock
from changecontrol.forms.windows import rule_words
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from changecontrol.templatetags.numbers import size as size_words
from changecontrol.templatetags.times import age, short_moment
from changecontrol.views.edge import scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import counted, duration, span
from recovery.forms.holds import HoldForm
from recovery.forms.policies import ENGINES
from recovery.lifecycles.point import ACTIVE_BACKUPS
from recovery.models import BackupPolicy
from recovery.models.policy import Engine
from recovery.queries import catalogue, overview
from recovery.queries.copies import copies_of
from recovery.queries.overview import Standing
from recovery.rules.faults import FaultKind
from recovery.views import standing
from recovery.views.hold_facts import hold_rows
from recovery.views.lookup import environment_or_404, key_of, why_not
from recovery.views.ways import ways_on


@page
@require_GET
def environment(request: HttpRequest, tenant: str, slug: str) -> HttpResponse:
    found = environment_or_404(request, tenant=tenant, slug=slug)
    return show_environment(request, found, form=HoldForm())


def show_environment(
    request: HttpRequest, found: Environment, *, form: HoldForm, refusal: str = "", status: int = 200
) -> HttpResponse:
    """Render the page as it stands now; with what was refused on it, and why."""
    at = clock.now()
    watched = overview.watched_in(scope_for(request), at=at, environment=found)
    stands = overview.standings([found], watched=watched, at=at)[0]
    row = standing.row_of(stands)
    points, has_newer, has_older = catalogue.points_page(
        found, before=key_of(request, "before"), after=key_of(request, "after")
    )
    backups = catalogue.backups_of(found)
    here = reverse("recovery-environment", args=[found.tenant.slug, found.slug])
    context = {
        "environment": found,
        "row": row,
        "lede": _lede(stands),
        "facts": [*_facts(stands, row), *_elsewhere(stands)],
        "axis": standing.axis_words(at),
        "alarms": standing.wrong_rows(watched.values()),
        "policy": stands.watched.policy if stands.watched else None,
        "policy_pairs": _policy_pairs(stands.watched.policy) if stands.watched else [],
        "points": points,
        "backups": backups,
        "active": next((one for one in backups if one.state in ACTIVE_BACKUPS), None),
        "holds": hold_rows(catalogue.holds_on(found)),
        "ways": ways_on(request, found),
        "hold_url": reverse("hold-everything", args=[found.tenant.slug, found.slug]),
        "form": form,
        "refusal": refusal,
        "refusals": {
            "back_up": why_not(request, Ability.RECOVERY_BACK_UP, found),
            "hold": why_not(request, Ability.RECOVERY_HOLD, found),
        },
        "newer_url": f"{here}?after={points[0].pk}" if points and has_newer else "",
        "older_url": f"{here}?before={points[-1].pk}" if points and has_older else "",
        "at": at,
    }
    return render(request, "recovery/environment.html", context, status=status)


def _policy_pairs(policy: BackupPolicy) -> list[dict[str, str]]:
    wal = f"every {span(policy.wal_seconds)}" if policy.wal_seconds else "not archived"
    return [
        {"label": "Engine", "value": dict(ENGINES)[policy.engine]},
        {"label": "Full backup", "value": rule_words(policy.rrule)},
        {"label": "WAL", "value": wal},
        {"label": "Keeps", "value": f"the last {policy.keep_last}"},
        {"label": "Verified", "value": f"every {counted(policy.verify_days, 'day')}"},
    ]


def _lede(stands: Standing) -> str:
    if stands.watched is None:
        return "It has no backup policy: nothing is backed up."
    safe = stands.safe_at
    if safe is None:
        return "Nothing can be restored yet."
    objectives = stands.objectives
    return (
        f"It can be brought back to {short_moment(safe)} at the latest. "
        f"{objectives.rpo_of[0].upper()}{objectives.rpo_of[1:]} allows {duration(objectives.rpo)} to be lost."
    )


def _facts(stands: Standing, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the figures at the top of the page."""
    watched = stands.watched
    last = watched.facts.last_success_at if watched else None
    sizes = watched.facts.sizes if watched else ()
    is_broken = watched is not None and any(one.kind == FaultKind.POINT_BROKEN for one in watched.faults)
    rpo_state = "alarm" if row["is_rpo_missed"] else ""
    return [
        {
            "label": "RPO now",
            "value": row["rpo"] or ("everything" if watched else "unknown"),
            "note": row["rpo_note"],
            "state": rpo_state,
        },
        {
            "label": "Last success",
            "value": f"{age(last, stands.at)} ago" if last else "none yet",
            "note": short_moment(last) if last else "",
        },
        {
            "label": "Verified",
            "value": f"L{row['level']}" if row["is_verified"] else "only copied" if last else "nothing",
            "note": f"{short_moment(row['checked_at'])}"
            if row["is_verified"]
            else "no drill has passed on a point kept",
        },
        {
            "label": "Next drill",
            "value": _in(stands) if watched else "none",
            "note": short_moment(row["drill_due_at"]) if watched else "there is no policy",
            "state": "alarm" if row["is_drill_overdue"] else "",
        },
        {
            "label": "Newest point",
            "value": size_words(sizes[-1]) if sizes else "none",
            "note": "it is broken" if is_broken else "in its own parts",
            "state": "broken" if is_broken else "",
        },
    ]


def _elsewhere(stands: Standing) -> list[dict[str, Any]]:
    """Return how far the other destination is behind, where there is one."""
    policy = stands.watched.policy if stands.watched else None
    if policy is None or not policy.copy_store or policy.engine == Engine.CLOUDNATIVEPG:
        return []
    upkeep = copies_of(stands.environment)
    until, trouble = (upkeep.reached_at, upkeep.trouble) if upkeep else (None, "")
    note = f"covers up to {short_moment(until)}" if until else "no point is whole there"
    return [
        {
            "label": "Other destination",
            "value": f"{duration(stands.at - until)} behind" if until else "nothing yet",
            "note": f"{note}. {trouble}" if trouble else note,
            "state": "alarm" if trouble else "",
        }
    ]


def _in(stands: Standing) -> str:
    assert stands.watched is not None
    left = stands.watched.drill_due_at - stands.at
    return f"overdue {duration(-left)}" if stands.is_drill_overdue else f"in {duration(left)}"
