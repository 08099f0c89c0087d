"""The pages of recovery in Chromium."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.models import Job, User
from recovery.actions.backups import ask_backup, move_backup
from recovery.actions.holds import place_hold
from recovery.models import Disagreement, Upkeep
from tests.browser.conftest import Complaints, Visit, violations
from tests.browser.scene import Scene
from tests.browser.sweep import faults
from tests.factories import actor
from tests.factories.recovery import (
    POLICY,
    backup_policy,
    copy_attachments,
    finished_drill,
    recorded_point,
    recovery_owner,
    ship_wal,
)

pytestmark = pytest.mark.browser

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
PAGES = {
    "home": "/recovery/",
    "environment": "/recovery/environments/northwind/production/",
    "policy": "/recovery/environments/northwind/production/policy/",
    "policy-form": "/recovery/environments/northwind/production/policy/edit/",
    "back-up": "/recovery/environments/northwind/staging/back-up/",
    "backup": "/recovery/backups/{backup}/",
    "backup-ended": "/recovery/backups/{ended}/",
    "usage": "/recovery/usage/",
    "retention": "/recovery/environments/northwind/production/retention/",
    "retention-of-staging": "/recovery/environments/northwind/staging/retention/",
    "point": "/recovery/points/{point}/",
}


@dataclass(frozen=True)
class Kept:
    """Who looks after recovery, and the keys of what the pages show."""

    rio: User
    keys: dict[str, Any]


@pytest.fixture(scope="module")
def kept(scene: Scene) -> Kept:
    """Let production run well but for a hole six days ago, and staging fall silent."""
    estate, at = scene.estate, clock.now()
    rio = recovery_owner(estate)
    production, staging = estate.production, estate.staging
    with transaction.atomic():
        for place in (production, staging):
            backup_policy(place, at=at - 100 * DAY, keep_last=1 if place == staging else 7)
        for days in (12, 9, 5, 2):
            base = recorded_point(production, f"20261101T0{days}", at - days * DAY, by=rio)
        ship_wal(production, at - 12 * DAY, at - 7 * DAY)
        ship_wal(production, at - 5 * DAY, at + HOUR)
        copy_attachments(production, at)
        more = recorded_point(production, "20261128T1410", at - DAY, by=rio, kind="incremental", parent_id=base.pk)
        recorded_point(production, "20261128T1500", at - HOUR, by=rio)
        finished_drill(production, by=rio, target_at=at - DAY, level=3, at=at - HOUR / 2)
        for days in (13, 6):
            recorded_point(staging, f"20261101T{days:02}", at - days * DAY, by=rio)
        for point in (None, more.pk):
            place_hold(
                actor=actor(rio, at=at),
                environment_id=production.pk,
                point_id=point,
                name="Till fraud of October",
                reason="The court asked for it.",
                at=at,
            )
        run = ask_backup(actor=actor(rio, at=at), environment_id=production.pk, reason="Before the stocktake.", at=at)
        move_backup(run, "start", sentence="Its job is ordered.", actor=system_actor(), at=at)
    Job.objects.create(
        key=f"backup/{run.pk}",
        kind="backup",
        order={},
        progress={
            "phase": "database",
            "sentence": "The database is read and written, encrypted.",
            "done_bytes": 31_000_000_000,
            "total_bytes": 188_000_000_000,
            "phases": {"database": (at - HOUR / 4).isoformat()},
        },
        created_at=at,
        started_at=at,
    )
    words = {
        "environment": production,
        "store": POLICY.store,
        "found_at": at,
        "stored_at": at - DAY,
        "object_count": 12,
    }
    sentence = "A whole recovery point that the catalogue does not name. It stays until somebody decides."
    for name, more_words in (
        ("20261127T0200", {}),
        ("20261127T0800", {"refusal": "It is of the server 7012, and nothing here proves that it ran on that."}),
        ("20261127T1400", {"adoption_asked_at": at, "adoption_asked_by": rio}),
        ("20261127T2000", {"asked_at": at, "asked_by": rio}),
    ):
        Disagreement.objects.create(kind="unknown_set", name=name, sentence=sentence, size=3e9, **words, **more_words)
    Upkeep.objects.create(environment=production, kind="comparison", done_at=at)
    return Kept(rio, {"point": more.pk, "backup": run.pk, "ended": more.run_id, "other": base.pk})


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_fits_and_is_silent(kept: Kept, visit: Visit, complaints: Complaints, name: str) -> None:
    page = visit(PAGES[name].format(**kept.keys), kept.rio)

    assert faults(page, f"recovery-{name}") == {}
    assert complaints == []


def test_a_hold_is_placed_with_the_keyboard_alone(kept: Kept, visit: Visit, complaints: Complaints) -> None:
    page = visit(f"/recovery/points/{kept.keys['other']}/", kept.rio)

    page.get_by_text("Place a legal hold…").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("Recall of batch 7")
    page.keyboard.press("Tab")
    page.keyboard.type("The producer asked for it.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    page.get_by_text("“Recall of batch 7” keeps").wait_for()
    assert page.get_by_text("Legal hold “Recall of batch 7” names it.").is_visible()
    assert complaints == []


def test_a_point_that_the_catalogue_does_not_name_is_taken_in_with_the_keyboard_alone(
    kept: Kept, visit: Visit, complaints: Complaints
) -> None:
    page = visit(PAGES["retention"], kept.rio)
    row = page.get_by_role("row").filter(has_text="20261127T0200")

    row.get_by_role("button", name="Take it in…").focus()
    page.keyboard.press("Enter")
    assert violations(page) == []
    page.keyboard.type("Our database was lost.")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    row.get_by_text("is being read, to be taken in").wait_for()
    assert Disagreement.objects.get(name="20261127T0200").adoption_asked_by == kept.rio
    assert row.get_by_role("button").count() == 0
    assert complaints == []


def test_a_running_backup_is_followed_without_a_reload(kept: Kept, visit: Visit, complaints: Complaints) -> None:
    page = visit(f"/recovery/backups/{kept.keys['backup']}/", kept.rio)
    job = Job.objects.get(key=f"backup/{kept.keys['backup']}")
    page.get_by_text("The database is read and written, encrypted.").wait_for()

    job.progress = {**job.progress, "sentence": "The attachments are copied.", "done_bytes": 120_000_000_000}
    job.save()

    page.get_by_text("The attachments are copied.").wait_for()
    assert page.get_by_role("img", name="64").is_visible()
    assert complaints == []


def test_a_refused_policy_keeps_what_was_typed_and_says_why(kept: Kept, visit: Visit, complaints: Complaints) -> None:
    page = visit("/recovery/environments/northwind/production/policy/edit/", kept.rio)

    page.get_by_label("Attachments every, in seconds").fill("7200")
    page.get_by_label("Last points").fill("21")
    page.get_by_label("Why it changes").fill("It costs less.")
    page.get_by_role("button", name="Publish version 2").click()

    assert page.title().startswith("Error: ")
    refusal = page.get_by_role("alert")
    assert "Up to 2 hours would be lost" in refusal.inner_text()
    assert page.get_by_label("Last points").input_value() == "21"
    assert violations(page) == []
    assert complaints == []
