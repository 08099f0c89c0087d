"""Bringing back and practising it, in Chromium: every page in both themes and three widths, and the way by keyboard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction
from playwright.sync_api import Page, expect

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.models import User
from changecontrol.rules.roles import Role
from recovery.actions.drills import cancel_drill, move_drill, record_check, sign_off_drill
from recovery.models import Drill, Restore
from tests.browser.conftest import Complaints, Visit
from tests.browser.scene import Scene
from tests.browser.sweep import faults
from tests.factories import actor, grant
from tests.factories.recovery import (
    HOUR,
    asked_restore,
    backup_policy,
    canceled_drill,
    finished_drill,
    recorded_point,
    recovery_owner,
    restored,
    ship_wal,
    started_drill,
)

pytestmark = pytest.mark.browser

NEW = "/recovery/restores/new/"


@dataclass(frozen=True)
class Recovered:
    """Production with points and a gap, restores in several states, drills with every kind of end."""

    rio: User
    at: datetime
    going: Restore
    done: Restore
    urgent: Restore
    drilling: Drill
    failed: Drill
    read: Drill
    canceled: Drill
    canceling: Drill


@pytest.fixture(scope="module")
def recovered(scene: Scene) -> Recovered:
    with transaction.atomic():
        return _recovered(scene)


def _recovered(scene: Scene) -> Recovered:
    at = clock.now().replace(second=0, microsecond=0)
    production = scene.estate.production
    rio = recovery_owner(scene.estate)
    backup_policy(production, at=at - timedelta(days=100))
    for number, hours in enumerate((60, 36, 8)):
        taken = at - hours * HOUR
        recorded_point(production, f"p{number}", taken, by=rio, image="sha256:" + "d" * 64)
        ship_wal(production, taken - HOUR, taken + (20 if hours > 8 else 7) * HOUR)
    backup_policy(scene.estate.staging, at=at - timedelta(days=1))
    for number in range(3):
        recorded_point(scene.estate.staging, f"dump{number}", at - (number + 2) * HOUR, by=rio)
    earlier = asked_restore(production, by=rio, target_at=at - 30 * HOUR, at=at - HOUR, target_database="tuesday")
    going = asked_restore(production, by=rio, target_at=at - 2 * HOUR, at=at - timedelta(minutes=14))
    urgent = asked_restore(production, by=rio, target_at=at - 2 * HOUR, at=at, target_database="northwind_back")
    Restore.objects.filter(pk=urgent.pk).update(purpose="incident", is_neutralised=False)
    return Recovered(
        rio=rio,
        at=at,
        going=restored(going, up_to="restore"),
        done=restored(earlier),
        urgent=urgent,
        **_drills(scene, rio, at),
    )


def _drills(scene: Scene, rio: User, at: datetime) -> dict[str, Drill]:
    """Return one that found something, one that was signed off, two that were canceled, and one under way."""
    production = scene.estate.production
    grant(scene.estate.ben, Role.PROCESS_OWNER, scene.estate.tenant)
    words: dict[str, Any] = {"by": rio, "is_passed": False}
    read = finished_drill(production, target_at=at - 2 * HOUR, at=at - 4 * HOUR, sabotage="flip", **words)
    sign_off_drill(actor=actor(scene.estate.ben), drill_id=read.pk, note="Read, and understood.", at=at)
    # What it finds breaks the point of the day before, and not the one that the restores begin on.
    failed = finished_drill(production, target_at=at - 30 * HOUR, at=at - HOUR, level=3, **words)
    Drill.objects.filter(pk=failed.pk).update(newest_sentinel_at=at - 2 * HOUR, scope="All shops of the north.")
    canceled = canceled_drill(
        production, by=rio, target_at=at - 2 * HOUR, at=at - 6 * HOUR, leftovers=f"/var/tmp/{64 * 'd'} is there."
    )
    canceling = started_drill(scene.estate.staging, by=rio, target_at=at - 2 * HOUR, at=at - HOUR)
    cancel_drill(actor=actor(rio), drill_id=canceling.pk, reason="The wrong level.", at=at)
    drilling = started_drill(production, by=rio, target_at=at - 50 * HOUR, at=at - timedelta(minutes=9))
    for minutes, verb, sentence in ((8, "provision", "A sandbox is made."), (7, "restore", "Point p0 is unpacked.")):
        move_drill(drilling, verb, sentence=sentence, actor=system_actor(), at=at - timedelta(minutes=minutes))
    # What a workload of another cluster is answered has a digest, which no line can be broken before or behind.
    runs = (
        f"Deployment rehearsal-{drilling.key}/odoo-web: 2 of 2 replicas run the new version. It runs sha256:{64 * 'd'}."
    )
    move_drill(drilling, "check", sentence="It is questioned.", actor=system_actor(), at=at)
    said: dict[str, Any] = {"name": "Deployment odoo-web elsewhere", "level": 5, "is_passed": True, "sentence": runs}
    record_check(drilling, **said, actor=system_actor(), at=at)
    found = {"read": read, "failed": failed, "drilling": drilling}
    return {**found, "canceled": canceled, "canceling": canceling}


def paths(scene: Scene, recovered: Recovered) -> dict[str, str]:
    at = recovered.at - 3 * HOUR
    chosen = {"when": "time", "date": f"{at:%Y-%m-%d}", "time": f"{at:%H:%M}", "zone": "UTC"}
    here = {"environment": scene.estate.production.pk}
    gap = recovered.at - 9 * HOUR
    return {
        "restores": "/recovery/restores/",
        "restore-where": NEW,
        "restore-when": f"{NEW}?{urlencode(here)}",
        "restore-moments": f"{NEW}?{urlencode({'environment': scene.estate.staging.pk})}",
        "restore-review": f"{NEW}?{urlencode({**here, **chosen, 'purpose': 'copy'})}",
        "restore-incident": f"{NEW}?{urlencode({**here, **chosen, 'purpose': 'incident'})}",
        "restore-refused": f"{NEW}?{urlencode({**here, **chosen, 'purpose': 'copy', 'time': f'{gap:%H:%M}'})}",
        "restore-wrong": f"{NEW}?{urlencode({**here, **chosen, 'purpose': 'copy', 'time': 'noon', 'zone': ''})}",
        "restore-going": f"/recovery/restores/{recovered.going.pk}/",
        "restore-done": f"/recovery/restores/{recovered.done.pk}/",
        "restore-urgent": f"/recovery/restores/{recovered.urgent.pk}/",
        "drills": "/recovery/drills/",
        "drill-new": f"/recovery/drills/new/?{urlencode(here)}",
        "drill-going": f"/recovery/drills/{recovered.drilling.pk}/",
        "drill-failed": f"/recovery/drills/{recovered.failed.pk}/",
        "drill-read": f"/recovery/drills/{recovered.read.pk}/",
        "drill-canceled": f"/recovery/drills/{recovered.canceled.pk}/",
        "drill-canceling": f"/recovery/drills/{recovered.canceling.pk}/",
    }


PAGES = [
    "restores",
    "restore-where",
    "restore-when",
    "restore-moments",
    "restore-review",
    "restore-incident",
    "restore-refused",
    "restore-wrong",
    "restore-going",
    "restore-done",
    "restore-urgent",
    "drills",
    "drill-new",
    "drill-going",
    "drill-failed",
    "drill-read",
    "drill-canceled",
    "drill-canceling",
]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_fits_and_is_silent(
    scene: Scene, recovered: Recovered, visit: Visit, complaints: Complaints, name: str
) -> None:
    page = visit(paths(scene, recovered)[name], recovered.rio)

    assert faults(page, name) == {}
    assert complaints == []


def _tab_to(page: Page, selector: str, *, presses: int = 80) -> None:
    for _ in range(presses):
        page.keyboard.press("Tab")
        if page.evaluate("(wanted) => document.activeElement?.matches(wanted)", selector):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def test_a_copy_is_asked_for_by_keyboard_alone(
    scene: Scene, recovered: Recovered, visit: Visit, complaints: Complaints
) -> None:
    at = recovered.at - 3 * HOUR
    page = visit(f"{NEW}?{urlencode({'environment': scene.estate.production.pk})}", recovered.rio)

    _tab_to(page, "#date")
    page.keyboard.type(f"{at:%m%d%Y}")
    _tab_to(page, "#time")
    page.keyboard.type(f"{at:%H:%M}")
    _tab_to(page, "#zone")
    page.keyboard.type("UTC")
    _tab_to(page, "button[type=submit]")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The copy will not hold the last")).to_be_visible()
    _tab_to(page, "#reason")
    page.keyboard.type("What was sold?")
    _tab_to(page, "button[type=submit]")
    page.keyboard.press("Enter")

    expect(page.get_by_text("Asked for. It begins within 10 s.")).to_be_visible()
    made = Restore.objects.order_by("pk").last()
    assert made is not None
    assert (made.target_at, made.reason) == (at, "What was sold?")
    assert complaints == []


def test_a_restore_moves_without_reload_and_loads_anew_once_it_ended(
    recovered: Recovered, visit: Visit, complaints: Complaints
) -> None:
    page = visit(f"/recovery/restores/{recovered.going.pk}/", recovered.rio)
    page.evaluate("window.sameDocument = true")

    Restore.objects.filter(pk=recovered.going.pk).update(sentence="Segment 7 of 9.")
    expect(page.get_by_text("Segment 7 of 9.")).to_be_visible()
    assert page.evaluate("window.sameDocument") is True
    Restore.objects.filter(pk=recovered.going.pk).update(
        state="failed", sentence="The disk is full.", finished_at=clock.now(), next_due_at=None
    )

    expect(page.get_by_text("It failed.")).to_be_visible()
    expect(page.get_by_text("The disk is full.")).to_be_visible()
    expect(page.get_by_text("Cancel this restore")).to_have_count(0)
    Restore.objects.filter(pk=recovered.going.pk).update(state="restoring", finished_at=None)
    assert complaints == []


def test_a_finding_is_closed_in_a_dialog(recovered: Recovered, visit: Visit, complaints: Complaints) -> None:
    page = visit(f"/recovery/drills/{recovered.failed.pk}/", recovered.rio)

    page.get_by_role("button", name="Close", exact=True).press("Enter")
    page.keyboard.type("A new disk.")
    page.get_by_role("button", name="Close this action").press("Enter")

    expect(page.get_by_text("“A new disk.”")).to_be_visible()
    assert complaints == []


def test_a_drill_is_canceled_in_a_dialog(recovered: Recovered, visit: Visit, complaints: Complaints) -> None:
    page = visit(f"/recovery/drills/{recovered.drilling.pk}/", recovered.rio)

    page.get_by_role("button", name="Cancel this drill").press("Enter")
    expect(page.get_by_role("heading", name="Cancel this drill?")).to_be_visible()
    page.keyboard.type("The disk is needed.")
    page.get_by_role("dialog").get_by_role("button", name="Cancel this drill").press("Enter")

    expect(page.get_by_text("Canceled. What it made is cleared away.")).to_be_visible()
    expect(page.get_by_text("It is being canceled.")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel this drill")).to_have_count(0)
    going = Drill.objects.filter(pk=recovered.drilling.pk)
    assert going.get().sentence == "Rio canceled it: The disk is needed."
    going.update(state="checking", canceled_at=None, canceled_by=None, cancel_reason="")
    assert complaints == []
