"""Owners are told once when something is wrong, each day while it lasts, and once when it is over (BCK-1)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.adapters.fakes.objects import FakeObjectStore, FakeSecrets
from changecontrol.errors import Permanent, Transient
from changecontrol.models import AuditEvent, Message, User
from changecontrol.workflow import engine
from recovery.actions.alarms import note_database
from recovery.models import AlarmWatch, BackupPolicy, RaisedAlarm
from recovery.queries.alarms import alarms_of
from recovery.workflows import alarms
from recovery.workflows.alarms import AlarmWork
from tests.factories import NOW, SmallEstate, small_estate, stranger_estate
from tests.factories.recovery import (
    HOUR,
    POLICY,
    backup_policy,
    finished_drill,
    recorded_point,
    recovery_owner,
)

pytestmark = pytest.mark.django_db

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
NIGHT = datetime(2026, 11, 23, 2, tzinfo=UTC)
SILENT = Transient("The object store could not answer now.")
STORES: dict[str, FakeObjectStore] = {}


def open_store(url: str, **words: object) -> FakeObjectStore:
    return STORES.setdefault(url, FakeObjectStore())


def open_secrets(*, vault: Mapping[str, str]) -> FakeSecrets:
    return FakeSecrets()


@pytest.fixture(autouse=True)
def stage(settings: Any) -> Iterator[None]:
    settings.ADAPTERS = {
        **settings.ADAPTERS,
        "object_store": f"{__name__}.open_store",
        "secrets": f"{__name__}.open_secrets",
    }
    STORES.clear()
    go_to(NOW)
    yield
    clock.set_offset(timedelta())


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def policy(estate: SmallEstate, rio: User) -> BackupPolicy:
    """Everything runs well: a point last night, a drill since, and WAL that is not asked for any more."""
    found = backup_policy(estate.production)
    BackupPolicy.objects.update(wal_seconds=None)
    found.refresh_from_db()
    recorded_point(estate.production, "nightly", NIGHT + HOUR, by=rio)
    finished_drill(estate.production, by=rio, target_at=NIGHT + HOUR, at=NOW - HOUR)
    Message.objects.all().delete()
    return found


def go_to(at: datetime) -> None:
    clock.set_offset(at - datetime.now(UTC))


def look(*, until: datetime | None = None) -> None:
    """Let a worker look once; with a time, each minute until then."""
    ends_at = until or clock.now()
    while True:
        AlarmWork().find(clock.now())
        engine.drain(AlarmWork(), budget_seconds=30)
        if clock.now() + MINUTE > ends_at:
            return
        go_to(clock.now() + MINUTE + timedelta(seconds=1))


def told(person: User) -> list[str]:
    return list(Message.objects.filter(recipient=person).order_by("pk").values_list("subject", flat=True))


def events() -> list[str]:
    return list(
        AuditEvent.objects.filter(tag__startswith="recovery:alarm").order_by("pk").values_list("tag", flat=True)
    )


def test_what_runs_well_is_silent(policy: BackupPolicy, rio: User) -> None:
    look(until=NOW + 10 * MINUTE)

    assert (told(rio), events(), RaisedAlarm.objects.count()) == ([], [], 0)


def test_silence_is_told_once_each_day_again_and_once_when_it_is_over(
    estate: SmallEstate, policy: BackupPolicy, rio: User
) -> None:  # BCK-1
    go_to(NIGHT + DAY + HOUR + MINUTE)
    look(until=NIGHT + DAY + 2 * HOUR)
    first = told(rio)
    sentence = RaisedAlarm.objects.get().sentence
    go_to(NIGHT + 2 * DAY + HOUR + 2 * MINUTE)
    look()
    second = told(rio)
    recorded_point(estate.production, "at last", clock.now() - 10 * MINUTE, by=rio)
    Message.objects.exclude(tag__startswith="recovery:alarm").delete()
    look()
    at_once = told(rio)
    look(until=clock.now() + 8 * MINUTE)

    name = "Northwind production"
    assert first == [f"{name}: alarm, no backup in time"]
    assert sentence == (
        "No backup has succeeded since it was due at 24 Nov 2026 02:00:00 UTC. The last success was at "
        "23 Nov 2026 03:05:00 UTC."
    )
    assert second == [*first, f"{name}: alarm goes on, no backup in time"]
    assert at_once == second
    assert told(rio) == [*second, f"{name}: alarm is over, no backup in time"]
    assert set(Message.objects.values_list("path", flat=True)) == {"/recovery/environments/northwind/production/"}
    assert events() == ["recovery:alarm:raised", "recovery:alarm:ended"]
    assert RaisedAlarm.objects.get().since == NIGHT + DAY + HOUR


def test_a_backup_that_fails_again_ends_no_alarm(policy: BackupPolicy, rio: User) -> None:  # BCK-1
    go_to(NIGHT + DAY + HOUR + MINUTE)
    look()
    go_to(NIGHT + 2 * DAY - MINUTE)

    look(until=NIGHT + 2 * DAY + 10 * MINUTE)

    assert told(rio) == ["Northwind production: alarm, no backup in time"]
    assert events() == ["recovery:alarm:raised"]


def test_what_comes_and_goes_within_minutes_is_one_alarm(policy: BackupPolicy, rio: User) -> None:
    go_to(NIGHT + DAY + HOUR + MINUTE)
    look()
    BackupPolicy.objects.update(grace_seconds=7200)
    look(until=clock.now() + 2 * MINUTE)
    assert RaisedAlarm.objects.open().count() == 1
    assert RaisedAlarm.objects.sounding().count() == 0
    BackupPolicy.objects.update(grace_seconds=3600)

    look(until=clock.now() + 2 * MINUTE)

    assert (len(told(rio)), events()) == (1, ["recovery:alarm:raised"])
    assert RaisedAlarm.objects.sounding().count() == 1


def test_a_store_that_does_not_answer_is_an_alarm_since_it_was_first_silent(
    policy: BackupPolicy, rio: User
) -> None:  # BCK-1
    open_store(POLICY.copy_store).script.fail_before("observe_reachable", SILENT, times=2)

    look()
    began = clock.now()
    since = [one.since for one in alarms_of(policy, at=clock.now())]
    look(until=began + 6 * MINUTE)
    lasting = [one.since for one in alarms_of(policy, at=clock.now())]
    look(until=began + 20 * MINUTE)

    assert told(rio) == [
        "Northwind production: alarm, store out of reach",
        "Northwind production: alarm is over, store out of reach",
    ]
    assert lasting == since
    assert RaisedAlarm.objects.get().subject == POLICY.copy_store
    assert alarms_of(policy, at=clock.now()) == ()


def test_stores_are_asked_rarely(policy: BackupPolicy) -> None:
    look(until=NOW + 9 * MINUTE)

    assert {url: store.script.verbs() for url, store in STORES.items()} == {
        POLICY.store: ["observe_reachable"] * 2,
        POLICY.copy_store: ["observe_reachable"] * 2,
    }


def test_a_store_that_refuses_is_silent_too_and_each_store_is_told_of(policy: BackupPolicy, rio: User) -> None:
    for url in (POLICY.store, POLICY.copy_store):
        open_store(url).script.fail_before("observe_reachable", Permanent("It does not let us."))

    look()

    assert sorted(RaisedAlarm.objects.values_list("subject", flat=True)) == [POLICY.copy_store, POLICY.store]
    assert len(told(rio)) == 2


def test_a_store_that_hangs_is_silent_and_holds_nobody_up(
    policy: BackupPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms, "ANSWER_SECONDS", 0.1)
    store = open_store(POLICY.store)
    answers = threading.Event()
    has_answered: list[bool] = []
    monkeypatch.setattr(store, "observe_reachable", lambda: has_answered.append(answers.wait(60)))

    look()

    assert has_answered == []
    answers.set()
    assert RaisedAlarm.objects.get().subject == POLICY.store


def test_a_store_that_cannot_be_asked_is_silent_and_keeps_no_other_alarm_back(policy: BackupPolicy) -> None:  # BCK-1
    open_store(POLICY.copy_store).script.fail_before("observe_reachable", RuntimeError("A fault of ours."), times=9)
    go_to(NIGHT + DAY + HOUR + MINUTE)

    look()

    assert set(RaisedAlarm.objects.values_list("kind", "subject")) == {
        ("store_unreachable", POLICY.copy_store),
        ("no_success", ""),
    }
    assert AlarmWatch.objects.get().attempts == 0


def test_a_watch_whose_attempts_are_used_up_begins_afresh(policy: BackupPolicy, rio: User) -> None:  # BCK-1
    look()
    AlarmWatch.objects.update(attempts=engine.ATTEMPTS_LIMIT)
    go_to(NIGHT + DAY + HOUR + MINUTE)

    look()
    at_once = told(rio)
    look(until=clock.now() + 6 * MINUTE)

    assert (at_once, told(rio)) == ([], ["Northwind production: alarm, no backup in time"])
    assert AlarmWatch.objects.get().attempts == 0


@pytest.mark.parametrize("answers", [True, False], ids=["accepts-and-is-silent", "refuses"])
def test_a_real_store_that_is_away_is_silent_and_the_alarm_names_it(
    policy: BackupPolicy, settings: Any, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(alarms, "ANSWER_SECONDS", 2.0)
    settings.ADAPTERS = {**settings.ADAPTERS, "object_store": "changecontrol.adapters.object_store.open_store"}
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if answers:
            listening.listen()
        url = f"s3://points?endpoint=http://127.0.0.1:{listening.getsockname()[1]}"
        BackupPolicy.objects.update(store=url, copy_store="", store_credential="")
        began = time.monotonic()

        look()

        assert time.monotonic() - began < 30
    assert RaisedAlarm.objects.get().sentence.startswith(f"{url} has not answered since ")


def test_a_database_that_is_gone_is_told_once_and_once_it_is_back(policy: BackupPolicy, rio: User) -> None:  # BCK-1
    BackupPolicy.objects.update(engine="cloudnativepg", has_sentinel=True, wal_seconds=None)
    look()
    note_database(policy.environment, trouble="shop: it does not exist.", at=NOW)
    look(until=NOW + 2 * MINUTE)
    before = told(rio)
    look(until=NOW + 6 * MINUTE)
    sounding = told(rio)
    note_database(policy.environment, trouble="", at=clock.now())
    look(until=NOW + 15 * MINUTE)

    about = [one for one in told(rio) if "database failing" in one]
    assert [one for one in before if "database failing" in one] == []
    assert [one for one in sounding if "database failing" in one] == ["Northwind production: alarm, database failing"]
    assert about == [
        "Northwind production: alarm, database failing",
        "Northwind production: alarm is over, database failing",
    ]
    text = Message.objects.filter(recipient=rio, subject__contains="alarm, database failing").get().text
    assert "shop: it does not exist." in text


def test_a_store_that_the_policy_left_alarms_no_more(policy: BackupPolicy) -> None:
    AlarmWatch.objects.create(
        environment=policy.environment, silent_stores={"s3://given-up": NOW.isoformat(), POLICY.store: NOW.isoformat()}
    )

    assert [one.subject for one in alarms_of(policy, at=NOW)] == [POLICY.store]


def test_only_the_owners_of_that_environment_are_told(policy: BackupPolicy, rio: User, estate: SmallEstate) -> None:
    kite, eve = stranger_estate()
    backup_policy(kite.production)
    go_to(NIGHT + DAY + HOUR + MINUTE)

    look()

    assert all("Northwind" in one for one in told(rio))
    assert told(eve)
    assert all("Kite" in one for one in told(eve))
    assert told(estate.ada) == []


def test_an_alarm_of_a_policy_that_is_gone_is_over(policy: BackupPolicy, rio: User) -> None:
    go_to(NIGHT + DAY + HOUR + MINUTE)
    look()
    BackupPolicy.objects.update(is_active=False)

    look(until=clock.now() + 8 * MINUTE)

    assert (RaisedAlarm.objects.open().count(), told(rio)[-1]) == (
        0,
        "Northwind production: alarm is over, no backup in time",
    )


def test_a_forced_rollback_leaves_neither_row_nor_event_nor_word(
    policy: BackupPolicy, rio: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_to(NIGHT + DAY + HOUR + MINUTE)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("The database went away.")

    monkeypatch.setattr("recovery.actions.alarms.tell_owners", broken)
    look()
    monkeypatch.undo()

    assert (RaisedAlarm.objects.count(), events(), told(rio)) == (0, [], [])
    row = AlarmWatch.objects.get()
    assert row.attempts == 1
    go_to(clock.now() + MINUTE)
    look()
    assert len(told(rio)) == 1


def test_two_sweeps_watch_an_environment_once(policy: BackupPolicy) -> None:
    for _ in range(2):
        AlarmWork().find(clock.now())

    assert AlarmWatch.objects.count() == 1


def test_looking_takes_the_same_statements_however_many_are_watched(
    policy: BackupPolicy, estate: SmallEstate, django_assert_num_queries: Any
) -> None:
    look()
    with django_assert_num_queries(1):
        AlarmWork().find(clock.now())
    for one in (estate.staging, estate.development):
        backup_policy(one)
    look()

    with django_assert_num_queries(1):
        AlarmWork().find(clock.now())
