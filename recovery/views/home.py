"""The home of recovery: every environment in sight, how far back it can be brought, and what is wrong first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from changecontrol import clock
from changecontrol.views.edge import scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import and_list, counted
from recovery.queries import overview
from recovery.queries.drills import drills_of
from recovery.queries.overview import Standing, Watched
from recovery.views import drill_facts, standing
from recovery.views.lookup import key_of

DRILLS_SHOWN = 5
NAMED = 3
"""How many environments a sentence names before it counts the others."""


@page
@require_GET
def recovery(request: HttpRequest) -> HttpResponse:
    scope, at = scope_for(request), clock.now()
    environments, has_earlier, has_later = overview.environments_page(
        scope, before=key_of(request, "before"), after=key_of(request, "after")
    )
    watched = overview.watched_in(scope, at=at)
    found = sorted(overview.standings(environments, watched=watched, at=at), key=_urgency)
    rows = [standing.row_of(one) for one in found]
    context = {
        "heading": _heading(found, is_page=has_earlier or has_later),
        "lede": _lede(found, watched=watched.values()),
        "alarms": standing.wrong_rows(watched.values()),
        "rows": rows,
        "gaps": [{"environment": row["environment"], **gap} for row in rows for gap in reversed(row["gaps"])],
        "drills": drill_facts.rows_of(list(drills_of(scope)[:DRILLS_SHOWN])),
        "axis": standing.axis_words(at),
        "earlier_url": f"{reverse('recovery')}?before={environments[0].pk}" if environments and has_earlier else "",
        "later_url": f"{reverse('recovery')}?after={environments[-1].pk}" if environments and has_later else "",
        "at": at,
    }
    return render(request, "recovery/home.html", context)


def _urgency(one: Standing) -> tuple[bool, bool, bool, str, str]:
    """Sort what is wrong first, and what has no policy last."""
    state, _, is_bad = standing.state_of(one)
    return (not is_bad, one.watched is None, state != "warning", one.environment.tenant.name, one.environment.slug)


def _heading(found: Sequence[Standing], *, is_page: bool) -> str:
    known = [one for one in found if one.watched is not None]
    if not known:
        return "No environment is backed up" if found else "Recovery"
    met = sum(one.is_rpo_met for one in known)
    every = f"{'Every environment' if len(known) > 1 else 'The one environment'} with a policy meets its RPO"
    words = every if met == len(known) else f"{met} of {counted(len(known), 'environment')} meet their RPO"
    return f"{words}, of those on this page" if is_page else words


def _lede(found: Sequence[Standing], *, watched: Iterable[Watched]) -> str:
    if not found:
        return "No environment is in your sight."
    missed = [one.environment.name for one in found if one.watched is not None and not one.is_rpo_met]
    bare = sum(one.watched is None for one in found)
    known = list(watched)
    alarm_count, fault_count = sum(len(one.alarms) for one in known), sum(len(one.faults) for one in known)
    sentences = []
    if missed:
        rest = f" and {counted(len(missed) - NAMED, 'other')}" if len(missed) > NAMED else ""
        verb = "does" if len(missed) == 1 else "do"
        sentences.append(f"{and_list(missed[:NAMED]) if not rest else ', '.join(missed[:NAMED]) + rest} {verb} not.")
    sentences.append(f"{counted(alarm_count, 'alarm is', 'alarms are')} open." if alarm_count else "No alarm is open.")
    if fault_count:
        words = counted(fault_count, "fault that was found is", "faults that were found are")
        sentences.append(f"{words} not mended.")
    if bare:
        sentences.append(f"{counted(bare, 'environment has', 'environments have')} no backup policy.")
    return " ".join(sentences)
