"""The home of recovery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.access import system_actor
from changecontrol.models import Environment, User
from recovery.actions.alarms import ensure_watch, note_database
from recovery.actions.points import record_verification
from recovery.models import RecoveryPoint
from recovery.queries.overview import PAGE_SIZE
from tests.factories import NOW, SmallEstate, add_person
from tests.factories.recovery import (
    DUMP,
    DUMPS,
    HOUR,
    backup_policy,
    canceled_drill,
    copy_attachments,
    finished_drill,
    recorded_point,
    recovery_owner,
    ship_wal,
    started_drill,
)
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NIGHT = datetime(2026, 11, 23, 2, tzinfo=UTC)
"""When the last backup was due."""


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def run_well(place, rio: User) -> RecoveryPoint:
    """Take the points of two nights, ship WAL until now, and let a drill pass."""
    backup_policy(place)
    recorded_point(place, "p1", NIGHT - DAY + HOUR, by=rio)
    point = recorded_point(place, "p2", NIGHT + HOUR, by=rio)
    ship_wal(place, NIGHT - DAY, NOW)
    copy_attachments(place, NOW)
    finished_drill(place, by=rio, target_at=NIGHT + HOUR, level=3, at=NOW - HOUR)
    return point


def text_of(answer) -> str:
    return " ".join(answer.text.replace("\N{NO-BREAK SPACE}", " ").split())


def test_what_runs_well_says_so_in_words(estate, rio, signed_in) -> None:
    run_well(estate.production, rio)

    answer = signed_in(rio).get("/recovery/")

    row = answer.context["rows"][0]
    assert row["state_label"] == "protected"
    assert (row["rpo"], row["rpo_note"], row["is_rpo_missed"]) == (
        "0\N{NO-BREAK SPACE}s",
        "target 1\N{NO-BREAK SPACE}h, met",
        False,
    )
    assert (row["level"], row["is_drill_overdue"], row["gaps"]) == (3, False, [])
    text = text_of(answer)
    assert "The one environment with a policy meets its RPO" in text
    assert "No alarm is open. 2 environments have no backup policy." in text
    assert 'aria-label="Restorable from Sun 22 Nov 03:00 UTC to Mon 23 Nov 10:12 UTC, without a gap"' in text


def test_each_of_the_latest_drills_says_what_is_left_to_do(estate, rio, signed_in) -> None:
    run_well(estate.production, rio)
    canceled_drill(estate.production, by=rio, target_at=NIGHT + HOUR, at=NOW - HOUR / 2)
    started_drill(estate.production, by=rio, target_at=NIGHT + HOUR)

    text = text_of(signed_in(rio).get("/recovery/"))

    latest = text[text.index("Latest drills") :]
    said = [latest.find(words) for words in ("<small>under way", "<small>proves nothing", "<small>sign-off is open")]
    assert -1 not in said
    assert said == sorted(said)


def test_alarms_come_first_and_what_is_missed_is_said(estate, rio, signed_in, frozen_time) -> None:  # BCK-1
    run_well(estate.production, rio)
    backup_policy(estate.staging, at=NOW - 91 * DAY)
    frozen_time.move_to(NOW + 2 * HOUR)

    answer = signed_in(rio).get("/recovery/")

    assert [one["title"] for one in answer.context["alarms"]] == [
        "Northwind staging: no backup in time since Sun 1 Nov 03:00\N{NO-BREAK SPACE}UTC",
        "Northwind production: no WAL archived since Mon 23 Nov 10:12\N{NO-BREAK SPACE}UTC",
        "Northwind production: no attachments copied since Mon 23 Nov 10:17\N{NO-BREAK SPACE}UTC",
        "Northwind staging: drill overdue since Sun 22 Nov 10:12\N{NO-BREAK SPACE}UTC",
    ]
    rows = {row["environment"]: row for row in answer.context["rows"]}
    assert [row["is_hot"] for row in answer.context["rows"]] == [True, True, False]
    production, staging = rows[estate.production], rows[estate.staging]
    assert (production["rpo_note"], production["is_rpo_missed"]) == ("target 1\N{NO-BREAK SPACE}h, missed", True)
    assert [(gap["start"], gap["is_open"]) for gap in production["gaps"]] == [(NOW, True)]
    assert (staging["rpo"], staging["state_label"], staging["is_drill_overdue"]) == ("", "alarm", True)
    text = text_of(answer)
    assert "0 of 2 environments meet their RPO" in text
    assert "Northwind production and Northwind staging do not. 4 alarms are open." in text
    assert "everything" in text
    assert "overdue for 1 d 2 h" in text


def test_a_database_that_is_gone_turns_the_row_though_its_wal_is_archived(estate, rio, signed_in) -> None:  # BCK-1
    run_well(estate.production, rio)
    ensure_watch(estate.production, at=NOW)
    note_database(estate.production, trouble="shop: it does not exist.", at=NOW - HOUR)
    client = signed_in(rio)

    home = client.get("/recovery/")
    place = client.get("/recovery/environments/northwind/production/")

    row = home.context["rows"][0]
    assert (row["state_label"], row["is_hot"], row["is_rpo_missed"]) == ("alarm", True, False)
    for answer in (home, place):
        [alarm] = answer.context["alarms"]
        assert (alarm["title"], alarm["tone"], alarm["icon"]) == (
            "Northwind production: database failing since Mon 23 Nov 09:12\N{NO-BREAK SPACE}UTC",
            "bad",
            "database-off",
        )
        assert "shop: it does not exist. What the store holds is as good as it was" in text_of(answer)
    assert "1 alarm is open." in text_of(home)


def test_a_broken_newest_point_and_a_failed_drill_turn_the_row_and_say_so_first(estate, rio, signed_in) -> None:
    run_well(estate.production, rio)
    broken = recorded_point(estate.production, "p3", NOW - HOUR / 2, by=rio)
    drill = finished_drill(
        estate.production, by=rio, target_at=broken.consistent_at, is_passed=False, at=NOW - HOUR / 3
    )
    client = signed_in(rio)

    home = client.get("/recovery/")
    place = client.get("/recovery/environments/northwind/production/")

    row = home.context["rows"][0]
    assert (row["state"], row["state_label"], row["is_hot"]) == ("warning", "point broken", False)
    assert row["last_success_at"] == NIGHT + HOUR + timedelta(minutes=5)
    for answer in (home, place):
        assert [(one["title"].partition(" since")[0], one["tone"], one["url"]) for one in answer.context["alarms"]] == [
            ("Northwind production: newest point broken", "warn", f"/recovery/points/{broken.pk}/"),
            ("Northwind production: newest drill failed", "warn", f"/recovery/drills/{drill.pk}/"),
        ]
        text = text_of(answer)
        assert "is broken: The newest sentinel. Restores begin on an older one. Back up now, and drill the new" in text
        assert "close its corrective action, and drill again." in text
    assert "No alarm is open. 2 faults that were found are not mended." in text_of(home)
    facts = {one["label"]: one["note"] for one in place.context["facts"]}
    assert facts["Newest point"] == "it is broken"
    assert facts["Last success"] == "Mon 23 Nov 03:05\N{NO-BREAK SPACE}UTC"


def test_where_nothing_verified_is_left_what_was_found_is_bad(estate, rio, signed_in) -> None:
    backup_policy(estate.production, at=NOW - 5 * DAY)
    broken = recorded_point(estate.production, "p1", NOW - HOUR, by=rio)
    base = recorded_point(estate.production, "p0", NOW - DAY, by=rio)
    ship_wal(estate.production, base.consistent_at, NOW)
    copy_attachments(estate.production, NOW)
    record_verification(broken, level=1, is_passed=False, sentence="A part is gone.", actor=system_actor(), at=NOW)

    answer = signed_in(rio).get("/recovery/")

    row = answer.context["rows"][0]
    assert (row["state_label"], row["is_hot"], row["is_rpo_missed"]) == ("point broken", True, False)
    assert [one["tone"] for one in answer.context["alarms"]] == ["bad"]
    assert "No other one is verified. Back up now" in text_of(answer)


def test_a_hole_in_the_wal_is_drawn_and_told(estate, rio, signed_in) -> None:  # BCK-3
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - 2 * DAY, by=rio)
    ship_wal(estate.production, NOW - 2 * DAY, NOW - DAY)
    recorded_point(estate.production, "p2", NOW - HOUR, by=rio)
    ship_wal(estate.production, NOW - HOUR, NOW)

    answer = signed_in(rio).get("/recovery/")

    assert [(gap["start"], gap["end"], gap["length"]) for gap in answer.context["gaps"]] == [
        (NOW - DAY, NOW - HOUR, "23\N{NO-BREAK SPACE}h")
    ]
    assert "with 1 gap: from Sun 22 Nov 10:12 UTC to Mon 23 Nov 09:12 UTC" in text_of(answer)
    assert "g-gap" in answer.text


def test_attachments_that_are_not_copied_any_more_would_be_lost(estate, rio, signed_in, frozen_time) -> None:
    run_well(estate.production, rio)
    ship_wal(estate.production, NOW, NOW + 3 * HOUR)
    frozen_time.move_to(NOW + 3 * HOUR)

    row = signed_in(rio).get("/recovery/").context["rows"][0]

    assert (row["rpo"], row["is_rpo_missed"]) == ("3\N{NO-BREAK SPACE}h", True)
    assert [(gap["start"], gap["is_open"]) for gap in row["gaps"]] == [(NOW, True)]


def test_dumps_are_moments_whose_rpo_is_met_and_nobody_misses_their_wal(estate, rio, signed_in) -> None:
    backup_policy(estate.production, **DUMPS)
    for hours in (2, 1):
        recorded_point(estate.production, f"dump-{hours}", NOW - hours * HOUR, by=rio, **DUMP)
    finished_drill(estate.production, by=rio, target_at=NOW - HOUR, level=3, at=NOW - HOUR / 2)
    client = signed_in(rio)

    home = client.get("/recovery/")
    place = client.get("/recovery/environments/northwind/production/")
    point = client.get(f"/recovery/points/{RecoveryPoint.objects.latest('pk').pk}/")

    row = home.context["rows"][0]
    assert (row["state_label"], row["is_rpo_missed"], row["gaps"]) == ("protected", False, [])
    assert [len(row["bar"][part]) for part in ("spans", "moments", "gaps")] == [0, 2, 0]
    assert "No alarm is open." in text_of(home)
    assert {"label": "Engine", "value": "pg_dump"} in place.context["policy_pairs"]
    assert {"label": "WAL", "value": "not archived"} in place.context["policy_pairs"]
    assert "A dump of Northwind production, consistent at" in text_of(point)
    assert "WAL to" not in text_of(point)


def test_without_wal_points_stand_alone_and_are_no_gaps(estate, rio, signed_in) -> None:
    estate.process.rpo_seconds = 3 * 86_400
    estate.process.save()
    backup_policy(estate.production, engine="cloudnativepg", wal_seconds=None, filestore="", filestore_seconds=None)
    recorded_point(estate.production, "p1", NIGHT - DAY, by=rio)
    recorded_point(estate.production, "p2", NIGHT, by=rio)

    answer = signed_in(rio).get("/recovery/")

    row = answer.context["rows"][0]
    assert [len(row["bar"][part]) for part in ("spans", "moments", "gaps")] == [0, 2, 0]
    assert "Restorable at 2 moments" in text_of(answer)


def test_what_was_only_copied_is_never_called_verified(estate, rio, signed_in) -> None:
    run_well(estate.production, rio)
    newest = RecoveryPoint.objects.get(environment=estate.production, key="p2")
    record_verification(newest, level=3, is_passed=False, sentence="A file is gone.", actor=system_actor(), at=NOW)

    row = signed_in(rio).get("/recovery/").context["rows"][0]

    assert (row["is_verified"], row["level"]) == (False, 0)


def test_strangers_see_nothing_of_another_tenant(estate, eve, rio, signed_in) -> None:
    backup_policy(estate.production)

    answer = signed_in(eve).get("/recovery/")

    assert "Northwind" not in answer.text
    assert answer.context["alarms"] == []
    assert text_of(answer).count("no policy") == 3


def test_nobody_in_sight_is_told_what_to_do(db, signed_in) -> None:
    text = text_of(signed_in(add_person("nobody")).get("/recovery/"))

    assert "No environment is in your sight. Ask a tenant administrator for a role on one." in text


def test_home_costs_the_same_with_one_environment_and_three(estate, rio, signed_in) -> None:
    client = signed_in(rio)
    run_well(estate.production, rio)
    one = statements(client, "/recovery/")

    run_well(estate.staging, rio)
    run_well(estate.development, rio)
    three = statements(client, "/recovery/")

    assert one == three <= 23


def test_environments_are_paged_by_key(estate, rio, signed_in) -> None:
    Environment.objects.bulk_create(
        Environment(
            tenant=estate.tenant,
            slug=f"s{number}",
            name=f"Shop {number}",
            stage="production",
            cluster=estate.cluster,
            namespace=f"s{number}",
            source=estate.source,
        )
        for number in range(PAGE_SIZE)
    )
    client = signed_in(rio)

    first = client.get("/recovery/")
    second = client.get(first.context["later_url"])
    again = client.get(second.context["earlier_url"])

    assert [len(page.context["rows"]) for page in (first, second, again)] == [PAGE_SIZE, 3, PAGE_SIZE]
    assert (first.context["earlier_url"], second.context["later_url"]) == ("", "")
