"""The home page shows alarms and late drills to whoever looks after recovery, and to nobody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from changecontrol import clock
from changecontrol.models import Environment, User
from changecontrol.rules.roles import Role
from recovery.models import CorrectiveAction, RaisedAlarm
from tests.factories import SmallEstate, add_person, grant, small_estate, stranger_estate
from tests.factories.recovery import backup_policy, finished_drill, recorded_point, recovery_owner

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def home(person: User) -> Any:
    client = Client()
    client.force_login(person)
    answer = client.get(reverse("home"))
    assert answer.status_code == 200
    return answer


def shown(person: User) -> list[tuple[str, str]]:
    return [(one["title"], one["tone"]) for one in home(person).context["alarms"]]


def raise_alarm(environment: Environment, kind: str = "no_success", **words: Any) -> RaisedAlarm:
    at = clock.now()
    values = {"sentence": "No backup has succeeded.", "since": at, "raised_at": at, "told_at": at, **words}
    return RaisedAlarm.objects.create(environment=environment, kind=kind, **values)


def test_whoever_looks_after_recovery_sees_what_is_wrong(estate: SmallEstate, rio: User) -> None:  # BCK-1
    backup_policy(estate.production, at=clock.now())
    raise_alarm(estate.production)
    raise_alarm(estate.production, "size_anomaly")
    raise_alarm(estate.staging, "wal_failing", quiet_since=clock.now())
    raise_alarm(estate.staging, "wal_failing", ended_at=clock.now())

    answer = home(rio)

    assert answer.context["title"] == "2 alarms are open"
    assert [(one["title"], one["text"], one["tone"], one["url"]) for one in answer.context["alarms"]] == [
        (
            "Northwind production: no backup in time",
            "No backup has succeeded.",
            "bad",
            "/recovery/environments/northwind/production/",
        ),
        (
            "Northwind production: odd size",
            "No backup has succeeded.",
            "warn",
            "/recovery/environments/northwind/production/",
        ),
    ]


def test_an_overdue_drill_shows_though_no_worker_runs(estate: SmallEstate, rio: User) -> None:  # BCK-7
    backup_policy(estate.production, at=clock.now() - 200 * DAY)
    raise_alarm(estate.production, "drill_overdue")

    answer = home(rio)

    assert shown(rio) == [("Northwind production: drill overdue", "bad")]
    assert "None ever passed." in answer.context["alarms"][0]["text"]


def test_a_drill_in_time_is_no_alarm(estate: SmallEstate, rio: User) -> None:
    at = clock.now()
    backup_policy(estate.production, at=at - 200 * DAY)
    recorded_point(estate.production, "p1", at - 2 * DAY, by=rio)
    finished_drill(estate.production, by=rio, target_at=at - 2 * DAY, at=at - DAY)

    assert shown(rio) == []
    assert home(rio).context["title"] == "Nothing needs you now"


def test_what_checks_found_shows_until_it_is_mended(estate: SmallEstate, rio: User) -> None:
    at = clock.now()
    backup_policy(estate.production, at=at - 2 * DAY)
    point = recorded_point(estate.production, "p1", at - DAY, by=rio)
    finished_drill(estate.production, by=rio, target_at=point.consistent_at, is_passed=False, at=at - HOUR)

    before = shown(rio)
    newer = recorded_point(estate.production, "p2", at - HOUR / 2, by=rio)
    finished_drill(estate.production, by=rio, target_at=newer.consistent_at, at=at - HOUR / 3)
    mended = shown(rio)
    CorrectiveAction.objects.update(closed_at=at, closed_by=rio, closing_note="The disk was changed.")

    assert before == [
        ("Northwind production: newest point broken", "bad"),
        ("Northwind production: newest drill failed", "bad"),
    ]
    assert mended == [("Northwind production: corrective action open", "warn")]
    assert (shown(rio), shown(estate.ada)) == ([], [])


def test_others_and_strangers_are_not_bothered(estate: SmallEstate, rio: User) -> None:
    kite, eve = stranger_estate()
    backup_policy(estate.production, at=clock.now() - 200 * DAY)
    raise_alarm(estate.production)
    raise_alarm(kite.production)

    assert [shown(one) for one in (estate.ada, estate.ben, estate.dee)] == [[], [], []]
    assert shown(eve) == [("Kite production: no backup in time", "bad")]
    assert [title for title, _ in shown(rio)] == [
        "Northwind production: no backup in time",
        "Northwind production: drill overdue",
    ]


def test_an_owner_of_one_environment_sees_that_one(estate: SmallEstate) -> None:
    ryo = add_person("ryo")
    grant(ryo, Role.RECOVERY_OWNER, estate.staging)
    for place in (estate.staging, estate.production):
        backup_policy(place, at=clock.now() - 200 * DAY)
        raise_alarm(place)

    assert {title.partition(":")[0] for title, _ in shown(ryo)} == {"Northwind staging"}


def test_home_costs_the_same_however_much_is_wrong(
    estate: SmallEstate, rio: User, django_assert_max_num_queries: Any
) -> None:
    client = Client()
    client.force_login(rio)
    backup_policy(estate.production, at=clock.now() - 200 * DAY)
    raise_alarm(estate.production)
    client.get(reverse("home"))
    with django_assert_max_num_queries(60) as few:
        client.get(reverse("home"))
    for place in (estate.staging, estate.development):
        backup_policy(place, at=clock.now() - 200 * DAY)
        raise_alarm(place)

    with django_assert_max_num_queries(len(few)):
        client.get(reverse("home"))
