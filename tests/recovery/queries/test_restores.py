"""Where a restore may be asked for, what it would mean, and how far a drill can go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from changecontrol import access
from changecontrol.models import User
from changecontrol.rules.roles import Ability, Role
from recovery.models import Restore
from recovery.queries.drills import levels_of
from recovery.queries.paging import page_by_key
from recovery.queries.points import coverage_of
from recovery.queries.restores import environments_to, preview_of
from tests.factories import NOW, SmallEstate, actor, add_person, grant, small_estate, stranger_estate
from tests.factories.recovery import HOUR, asked_restore, backup_policy, recorded_point, recovery_owner, restored

pytestmark = pytest.mark.django_db


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
