"""The guide of the demo: a good change, a bad one, the evidence. It exists in the demo only."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from changecontrol import clock
from changecontrol.access import Scope
from changecontrol.errors import NotFound
from changecontrol.lifecycles.change import ENDED, ChangeState
from changecontrol.models import ChangeRequest
from changecontrol.queries import estate
from changecontrol.queries.changes import changes_of
from changecontrol.queries.windows import freezes_of, windows_of
from changecontrol.views.edge import scope_for
from changecontrol.views.lifecycle import way_on
from changecontrol.views.pages import page
from changecontrol.views.wording import and_list, counted

GOOD = "Odoo 19.0 of 20 November: POS session close fix"
BROKEN = "Odoo 19.0 of 21 November: an image nobody can pull"
LEAKING = "Odoo 19.0 of 22 November: starts well, then loses POS orders"
PEOPLE = (
    ("Ada", "files changes"),
    ("Ben", "approves them"),
    ("Cy", "reviews, and operates rollouts"),
    ("Dee", "audits, read-only"),
)
IN_TURN = "Submit it once the one before has ended: each plan is made against what runs at that moment."
WAY = {
    "draft": "As Ada, open it, read what it asks for, and press “Submit for assessment”.",
    "submitted": "The gates judge it now.",
    "assess": "The gates judge it now.",
    "authorize": "It waits for approval: sign in as Cy and approve it, then as Ben.",
    "scheduled": "Approved. It starts as soon as its window allows.",
    "implementing": "It runs: watch the waves.",
    "validating": "It ran; the result is watched.",
    "review": "It is ready for review: Ben closes it.",
}


@page
@require_safe
def first_run(request: HttpRequest) -> HttpResponseBase:
    """Lead a newcomer through the prepared changes, each found by its title."""
    if not settings.DEMO:
        raise NotFound("There is no guide here: this is not the demo.")
    scope = scope_for(request)
    prepared = _prepared(scope)
    steps = _steps(prepared)
    is_next = next((index for index, one in enumerate(steps) if not one["is_done"]), None)
    context = {
        "steps": [{**one, "is_next": index == is_next} for index, one in enumerate(steps)],
        "title": "Nothing has changed yet" if not any(one["is_done"] for one in steps) else "Go on where you were",
        "loaded": _loaded(scope, at=clock.now()),
        "people": [{"name": name, "initial": name[0], "what": what} for name, what in PEOPLE],
    }
    return render(request, "changecontrol/first_run.html", context)


def _prepared(scope: Scope) -> dict[str, ChangeRequest]:
    """Return the newest change in sight of each title."""
    rows = changes_of(scope).filter(title__in=[GOOD, BROKEN, LEAKING]).order_by("pk")
    return {one.title: one for one in rows}


def _steps(prepared: dict[str, ChangeRequest]) -> list[dict[str, Any]]:
    good, broken, leaking = (prepared.get(title) for title in (GOOD, BROKEN, LEAKING))
    proof = next((one for one in (good, leaking, broken) if one and one.state in ENDED), good)
    return [
        _step(
            1,
            good,
            "Try a good change",
            "Roll out a new Odoo image to a pilot, then wave by wave. It is filled in for you as a draft.",
            [
                ("traffic-lights", "Gates judge it, each verdict with its age and its raw output"),
                ("progress", "Watch the targets turn healthy, wave by wave"),
            ],
            label="Open the good change",
        ),
        _step(
            2,
            good,
            "Try to approve your own",
            "Ada asked for it, so Ada cannot approve it: the reason stands where the button would be.",
            [
                ("user-off", "Whoever asked, edited or wrote part of it is refused, superusers too"),
                ("user-check", "Sign in as Cy, then as Ben, and approve exactly the plan you see"),
            ],
            label="See who may decide",
            anchor="#approvals",
            done=bool(good and good.authorized_at),
        ),
        _step(
            3,
            broken,
            "Try a bad image",
            "Nobody can pull this image. The run notices at the pilot and rolls itself back. " + IN_TURN,
            [
                ("arrow-back-up", "The commit that ran before is applied again, and Git moves back with it"),
                ("building-store", "The pilot's stores are touched, and no others"),
            ],
            label="Open the bad image",
        ),
        _step(
            4,
            leaking,
            "Try one that starts well",
            "Pods turn healthy, nothing errs. Then the tills stop sending orders. " + IN_TURN,
            [
                ("activity", "A business indicator is breached while the technical ones stay green"),
                ("hand-stop", "The run stops during the bake and goes back"),
            ],
            label="Open the slow leak",
        ),
        {
            "number": 5,
            "title": "Check the evidence",
            "text": "Sign in as Dee, download the pack of an ended change and verify it on your own computer.",
            "points": [
                {"icon": "shield-check", "text": "verify.py is one file and needs no network"},
                {"icon": "fingerprint", "text": "Change one byte and run it again: it names what is wrong"},
            ],
            "url": f"{proof.get_absolute_url()}#evidence" if proof else reverse("changes"),
            "label": "Open the evidence",
            "is_done": False,
        },
    ]


def _step(
    number: int,
    change: ChangeRequest | None,
    title: str,
    text: str,
    points: list[tuple[str, str]],
    *,
    label: str,
    anchor: str = "",
    done: bool | None = None,
) -> dict[str, Any]:
    where = f" {way_on(change) or WAY.get(change.state, '')}" if change else " It is not among the changes you may see."
    return {
        "number": number,
        "title": title,
        "text": (text + where).rstrip(),
        "points": [{"icon": icon, "text": words} for icon, words in points],
        "url": f"{change.get_absolute_url()}{anchor}" if change else reverse("changes"),
        "label": label if change else "All changes",
        "is_done": done if done is not None else bool(change and _has_run(change)),
    }


def _has_run(change: ChangeRequest) -> bool:
    return change.state in ENDED or change.state == ChangeState.REVIEW


def _loaded(scope: Scope, *, at: Any) -> list[dict[str, str]]:
    tenants = list(estate.tenants_of(scope))
    stages = dict(estate.environments_of(scope).order_by().values_list("stage").annotate(count=Count("pk")))
    cohorts = estate.cohorts_of(scope)
    windows = windows_of(scope).filter(is_active=True).count()
    freezes = freezes_of(scope).filter(lifted_at__isnull=True, ends_at__gt=at).count()
    return [
        {"label": "Tenants", "value": and_list([f"{one.name} ({one.tenancy})" for one in tenants]) or "none in sight"},
        {"label": "Stores", "value": f"{estate.stores_of(scope).count()}"},
        {"label": "Cohorts", "value": f"{cohorts.count()}, {cohorts.filter(is_pilot=True).count()} of them pilots"},
        {
            "label": "Environments",
            "value": ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items())) or "none in sight",
        },
        {
            "label": "Calendar",
            "value": f"{counted(windows, 'window')}, {counted(freezes, 'freeze')}",
        },
    ]
