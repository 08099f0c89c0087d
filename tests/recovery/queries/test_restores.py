"""Where a restore may be asked for, what it would mean, and how far a drill can go."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from changecontrol import access
from changecontrol.errors import Conflict
from changecontrol.models import User
from changecontrol.rules.roles import Ability, Role
from recovery.actions.points import NewPart
from recovery.models import BackupPolicy, Restore
from recovery.models.policy import Engine
from recovery.models.restore import RestorePurpose
from recovery.queries.cut_overs import restore_plan_of
from recovery.queries.drills import levels_of
from recovery.queries.paging import page_by_key
from recovery.queries.points import coverage_of, expected_restore, size_to_restore
from recovery.queries.restores import environments_to, preview_of
from recovery.rules.coverage import Span
from recovery.rules.objectives import Expectation
from recovery.views.restore_facts import preview_facts
from tests.factories import NOW, SmallEstate, actor, add_person, grant, small_estate, stranger_estate
from tests.factories.recovery import (
    HOUR,
    POLICY,
    asked_restore,
    backup_policy,
    copy_attachments,
    put_in_force,
    recorded_point,
    recovery_owner,
    registered_point,
    restored,
    ship_wal,
)

pytestmark = pytest.mark.django_db

GB = 10**9


@pytest.fixture
def estate() -> SmallEstate:
    found = small_estate()
    backup_policy(found.production)
    return found


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    person = recovery_owner(estate)
    recorded_point(estate.production, "p1", NOW - 2 * HOUR, by=person)
    return person


def test_only_what_is_backed_up_and_allowed_is_offered(estate: SmallEstate, rio: User) -> None:
    kite, eve = stranger_estate()
    backup_policy(kite.staging)
    commander = add_person("cora")
    grant(commander, Role.INCIDENT_COMMANDER, estate.production)

    def offered(person: User, *abilities: Ability) -> list[Any]:
        return list(environments_to(access.scope_of(actor(person)), *abilities))

    assert offered(rio, Ability.RECOVERY_RESTORE) == [estate.production]
    assert offered(commander, Ability.RECOVERY_RESTORE) == []
    assert offered(commander, Ability.RECOVERY_RESTORE, Ability.RECOVERY_RESTORE_INCIDENT) == [estate.production]
    assert offered(eve, *Ability) == [kite.staging]
    assert offered(estate.ada, Ability.RECOVERY_RESTORE) == []
    assert offered(rio) == []


def test_a_preview_says_what_is_lost_and_how_long_it_takes(estate: SmallEstate, rio: User) -> None:
    restored(asked_restore(estate.production, by=rio, target_at=NOW - 2 * HOUR))
    coverage = coverage_of(estate.production)

    preview = preview_of(estate.production, coverage=coverage, target_at=NOW - 2 * HOUR, at=NOW)

    assert preview is not None
    assert (preview.point.key, preview.lost, preview.is_within_rpo) == ("p1", 2 * HOUR, False)
    assert preview.expected is not None
    assert preview.expected.takes == timedelta(minutes=10)
    assert preview_of(estate.production, coverage=coverage, target_at=NOW, at=NOW) is None


def sized(key: str, size: int, at: datetime) -> tuple[NewPart, ...]:
    return (NewPart("database", f"{key}/base", size, "a" * 64, at, at),)


def test_an_increment_is_foretold_with_all_that_it_builds_upon(
    estate: SmallEstate, rio: User, django_assert_num_queries: Any
) -> None:
    place, at = estate.production, NOW - 20 * HOUR
    full = recorded_point(place, "full", at, by=rio, parts=sized("full", 100 * GB, at))
    last, increments = full, []
    for number in range(1, 4):
        at += HOUR
        words = {"kind": "incremental", "parent_id": last.pk, "parts": sized(f"i{number}", GB, at)}
        last = recorded_point(place, f"i{number}", at, by=rio, **words)
        increments.append(last)
    copy_attachments(place, NOW)
    restored(asked_restore(place, by=rio, target_at=increments[0].consistent_at, target_database="a"))
    # As it was recorded while the last increment alone was counted.
    Restore.objects.update(size=GB)

    preview = preview_of(place, coverage=coverage_of(place), target_at=increments[2].consistent_at, at=NOW)

    assert preview is not None
    assert (preview.point.key, preview.size) == ("i3", 103 * GB)
    # 101 GB took ten minutes.
    assert preview.expected == Expectation(timedelta(seconds=612), None)
    with django_assert_num_queries(1):
        assert size_to_restore(increments[1]) == 102 * GB
    with django_assert_num_queries(0):
        assert size_to_restore(full) == 100 * GB


def test_what_one_increment_took_says_nothing_wrong_of_a_full_one(estate: SmallEstate, rio: User) -> None:
    place, at = estate.production, NOW - 20 * HOUR
    full = recorded_point(place, "full", at, by=rio, parts=sized("full", 100 * GB, at))
    words = {"kind": "incremental", "parent_id": full.pk, "parts": sized("i1", GB, at + HOUR)}
    increment = recorded_point(place, "i1", at + HOUR, by=rio, **words)
    copy_attachments(place, NOW)
    for number, point in enumerate((full, increment)):
        name = f"a{number}"
        restored(asked_restore(place, by=rio, target_at=point.consistent_at, target_database=name))

    expected = expected_restore(place, size=size_to_restore(full))

    assert [one.size for one in Restore.objects.order_by("pk")] == [100 * GB, 101 * GB]
    assert expected is not None
    assert abs(expected.takes - timedelta(minutes=10)) < timedelta(seconds=5)


def test_how_far_a_drill_goes_is_said_by_policy_and_settings(estate: SmallEstate, settings: Any) -> None:
    settings.ODOO_COMMAND = ""
    assert [one.level for one in levels_of(estate.production) if not one.refusal] == [1, 2, 3]
    assert [one.level for one in levels_of(estate.staging) if not one.refusal] == [1, 2]

    settings.ODOO_COMMAND = "odoo"

    assert [one.level for one in levels_of(estate.production) if not one.refusal] == [1, 2, 3, 4]


def test_keys_lead_from_page_to_page(
    estate: SmallEstate, rio: User, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr("recovery.queries.paging.PAGE_SIZE", 2)
    for number in range(5):
        asked_restore(estate.production, by=rio, target_at=NOW - 2 * HOUR, target_database=f"copy_{number}")
    keys = list(Restore.objects.order_by("-pk").values_list("pk", flat=True))

    with django_assert_num_queries(3):
        first = page_by_key(Restore.objects.all(), before=None, after=None)
        second = page_by_key(Restore.objects.all(), before=first.older, after=None)
        back = page_by_key(Restore.objects.all(), before=None, after=second.newer)

    assert ([one.pk for one in first.rows], first.newer, first.older) == (keys[:2], None, keys[1])
    assert ([one.pk for one in second.rows], second.newer, second.older) == (keys[2:4], keys[2], keys[3])
    assert ([one.pk for one in back.rows], back.newer, back.older) == (keys[:2], None, keys[1])


def test_wal_of_ours_leads_nothing_on_that_another_tool_made(estate: SmallEstate, rio: User) -> None:
    place = estate.production
    copy_attachments(place, NOW - HOUR)
    theirs = registered_point(place, "theirs", NOW - HOUR, by=rio)
    ship_wal(place, NOW - 3 * HOUR, NOW)

    coverage = coverage_of(place)

    # The same server, by what it says: and its moment is after the last copy of attachments, which go with ours alone.
    assert theirs.system_identifier == "7012"
    assert coverage.reaches == {
        "p1": Span(NOW - 2 * HOUR, NOW - HOUR),
        "theirs": Span(NOW - HOUR, NOW - HOUR),
    }
    assert coverage.backup_for(NOW - HOUR - timedelta(minutes=1)) == "p1"
    later = registered_point(place, "later", NOW - HOUR / 2, by=rio)
    assert coverage_of(place).reaches["later"] == Span(later.consistent_at, later.consistent_at)


def test_what_another_tool_made_does_not_shadow_a_point_of_our_own(estate: SmallEstate, rio: User) -> None:
    place = estate.production
    ship_wal(place, NOW - 3 * HOUR, NOW)
    theirs = registered_point(place, "theirs", NOW - HOUR, by=rio)

    coverage = coverage_of(place)

    assert coverage.backup_for(NOW - HOUR / 2) == "p1"
    assert coverage.backup_for(theirs.consistent_at) == "theirs"
    assert coverage.holds(NOW - HOUR / 2)


def test_without_its_attachments_nothing_goes_into_production(estate: SmallEstate, rio: User) -> None:
    place = estate.production
    theirs = registered_point(place, "theirs", NOW - 90 * HOUR, by=rio)
    put_in_force(place, engine=Engine.POSTGRES, filestore=POLICY.filestore)
    place.database = "shop"

    def planned(to: datetime) -> str:
        return restore_plan_of(place, to=to, database="shop_back", keep_hours=24).point

    assert planned(NOW - 2 * HOUR) == "p1"
    with pytest.raises(Conflict, match="Another tool made the point theirs, and no attachments come with it"):
        planned(theirs.consistent_at)
    BackupPolicy.objects.active().update(filestore="", restore_filestore="")
    assert planned(theirs.consistent_at) == "theirs"


def test_a_copy_of_what_another_tool_made_is_said_to_come_without_attachments(estate: SmallEstate, rio: User) -> None:
    place = estate.production
    theirs = registered_point(place, "theirs", NOW - 90 * HOUR, by=rio)

    def said(to: datetime) -> Any:
        preview = preview_of(place, coverage=coverage_of(place), target_at=to, at=NOW)
        assert preview is not None
        pairs = preview_facts(preview, purpose=RestorePurpose.INCIDENT)["pairs"]
        return next((one for one in pairs if one["label"] == "Attachments"), None)

    assert said(NOW - 2 * HOUR) is None
    assert said(theirs.consistent_at) == {
        "label": "Attachments", "value": "none come with it", "note": "another tool made the point",
    }  # fmt: skip
