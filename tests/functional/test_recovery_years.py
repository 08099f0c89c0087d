"""Times that no clock of a zone shows: refused where they are given, and told in UTC where an old row has one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from changecontrol.models import User
from recovery.actions.points import NewPart
from recovery.models import BackupPolicy, RecoveryPoint, Restore
from tests.factories import NOW, SmallEstate
from tests.factories.recovery import (
    HOUR,
    asked_restore,
    backup_policy,
    copy_attachments,
    finished_drill,
    recorded_point,
    recovery_owner,
)

pytestmark = pytest.mark.django_db

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
TOLD = {FIRST: "Mon 1 Jan", LAST: "Fri 31 Dec"}
ZONES = ("America/New_York", "Asia/Tokyo")


@pytest.fixture(params=ZONES)
def rio(request: Any, estate: SmallEstate) -> User:
    """Rio reads times on the clocks of a place far from Greenwich."""
    person = recovery_owner(estate)
    person.zone = request.param
    person.save()
    return person


def pages_of(estate: SmallEstate) -> list[str]:
    place = f"/recovery/environments/{estate.tenant.slug}/{estate.production.slug}/"
    query = f"?environment={estate.production.pk}"
    rows = [f"/recovery/points/{one.pk}/" for one in RecoveryPoint.objects.all()]
    rows += [f"/recovery/restores/{one.pk}/" for one in Restore.objects.all()]
    asking = [f"/recovery/restores/new/{query}", f"/recovery/drills/new/{query}"]
    lists = ["/", "/recovery/", "/recovery/restores/", "/recovery/drills/", place, f"{place}retention/"]
    return [*lists, *asking, *rows]


def broken(estate: SmallEstate, client: Any) -> dict[str, int]:
    client.raise_request_exception = False
    answers = {page: client.get(page).status_code for page in pages_of(estate)}
    return {page: status for page, status in answers.items() if status != 200}


@pytest.mark.parametrize("at", [FIRST, LAST])
def test_pages_of_a_point_of_another_tool_show_its_times_all_the_same(
    estate: SmallEstate, rio: User, signed_in: Any, at: datetime
) -> None:
    backup_policy(estate.production)
    parts = (NewPart("database", "p1/base.tar", 900, "a" * 64, at, at),)
    point = recorded_point(estate.production, "p1", NOW - HOUR, by=rio, parts=parts)
    times = ("locked_until",) if at == LAST else ("started_at", "consistent_at", "finished_at")
    RecoveryPoint.objects.update(**dict.fromkeys(times, at))
    BackupPolicy.objects.update(engine="external")
    client = signed_in(rio)

    assert broken(estate, client) == {}
    assert TOLD[at] in client.get(f"/recovery/points/{point.pk}/").text


def test_pages_of_a_restore_that_was_declared_in_the_first_year_show_it(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - 2 * HOUR, by=rio)
    copy_attachments(estate.production, NOW)
    asked_restore(estate.production, by=rio, target_at=NOW - 2 * HOUR)
    finished_drill(estate.production, by=rio, target_at=NOW - 2 * HOUR)
    Restore.objects.update(declared_at=FIRST)

    assert broken(estate, signed_in(rio)) == {}


def test_incident_of_the_first_year_is_refused_beside_its_date(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    estate.production.database = "northwind"
    estate.production.save()
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - 2 * HOUR, by=rio)
    words = {
        "environment": estate.production.pk,
        "purpose": "incident",
        "target_at": (NOW - 2 * HOUR).isoformat(),
        "target_database": "a_look",
        "reason": "The disk died.",
        "declared_date": "0001-01-01",
        "declared_time": "00:00",
        "declared_zone": "UTC",
    }

    answer = signed_in(rio).post("/recovery/restores/new/", words)

    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["declared_date"])
    assert "Give a time between the years 1970 and 2200." in answer.text
    assert not Restore.objects.exists()
