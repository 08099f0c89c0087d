"""What is kept of slots: how much is retained and since when, and which are left on a server of another policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changecontrol.figures import Figure
from changecontrol.models import User
from recovery.actions.slots import SeenSlot
from recovery.jobs.slots import Place, is_archived, note_places, places
from recovery.models import BackupPolicy, WalSlot
from recovery.models.policy import Engine
from recovery.ports.postgres import SlotState
from recovery.queries.alarms import alarms_of
from recovery.queries.figures import contribute
from tests.factories import NOW, small_estate
from tests.factories.recovery import HOUR, backup_policy, recorded_point, recovery_owner

pytestmark = pytest.mark.django_db

MB = 1_000_000
STATE = SlotState(
    is_active=True, received_lsn=1, current_lsn=2, retained_bytes=16 * MB, limit_bytes=None, wal_status="reserved",
    observed_at=datetime(2026, 11, 23, tzinfo=UTC),
)  # fmt: skip
MINUTE = timedelta(minutes=1)


@pytest.fixture
def policy() -> BackupPolicy:
    estate = small_estate()
    found = backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=recovery_owner(estate))
    return found


def replaced(policy: BackupPolicy, **words: Any) -> BackupPolicy:
    BackupPolicy.objects.update(is_active=False)
    values = {one.attname: getattr(policy, one.attname) for one in BackupPolicy._meta.concrete_fields}
    return BackupPolicy.objects.create(**{**values, "id": None, "version": 2, "is_active": True, **words})


def seen(server: str = "1", **words: Any) -> SeenSlot:
    return SeenSlot("changecontrol_1", server, replace(STATE, **words))


def note(found: SeenSlot | None, *, at: datetime = NOW) -> None:
    """Have every place answer the same."""
    note_places([(one, found) for one in places()], at=at)


def kinds(policy: BackupPolicy, at: datetime = NOW) -> list[str]:
    return [str(one.kind) for one in alarms_of(policy, at=at) if one.kind in {"wal_retained", "slot_left"}]


def test_what_is_retained_alarms_from_the_settings_on_since_it_began(policy: BackupPolicy, settings: Any) -> None:
    settings.WAL_RETAINED_BYTES = 100 * MB  # BCK-1
    note(seen())
    before = kinds(policy)

    for minutes in (1, 2):
        note(seen(retained_bytes=101 * MB), at=NOW + minutes * MINUTE)
    [alarm] = [one for one in alarms_of(policy, at=NOW + 2 * MINUTE) if one.kind == "wal_retained"]
    note(seen(), at=NOW + 3 * MINUTE)

    assert (before, alarm.since, kinds(policy)) == ([], NOW + MINUTE, [])


def test_a_share_of_the_servers_limit_alarms(policy: BackupPolicy, settings: Any) -> None:
    settings.WAL_RETAINED_PERCENT = 50
    note(seen(retained_bytes=49 * MB, limit_bytes=100 * MB))
    below = kinds(policy)
    note(seen(retained_bytes=51 * MB, limit_bytes=100 * MB))

    assert (below, kinds(policy)) == ([], ["wal_retained"])


def test_a_slot_that_nothing_receives_by_alarms_after_a_while(policy: BackupPolicy, settings: Any) -> None:
    settings.WAL_SLOT_IDLE_SECONDS = 300
    note(seen(is_active=False))
    note(seen(is_active=False), at=NOW + 4 * MINUTE)

    assert [kinds(policy, NOW + minutes * MINUTE) for minutes in (4, 5, 6)] == [[], [], ["wal_retained"]]


@pytest.mark.parametrize("words", [{"wal_status": "lost", "is_active": False}, None], ids=["lost", "dropped"])
def test_lost_wal_alarms_until_a_base_backup_after_it(policy: BackupPolicy, words: dict[str, Any] | None) -> None:
    note(seen())
    note(seen(**words) if words else SeenSlot("changecontrol_1", "1", None), at=NOW + MINUTE)
    note(seen(), at=NOW + 2 * MINUTE)
    lost = kinds(policy, NOW + 2 * MINUTE)
    recorded_point(policy.environment, "p2", NOW + HOUR, by=User.objects.get(username="rio"))

    assert (lost, kinds(policy, NOW + 2 * HOUR)) == (["wal_retained"], [])


def test_a_server_that_is_away_changes_nothing(policy: BackupPolicy) -> None:
    note(seen())
    note(None, at=NOW + HOUR)

    assert WalSlot.objects.get().seen_at == NOW


@pytest.mark.parametrize("words", [{"engine": Engine.EXTERNAL, "wal_seconds": None}, {"wal_seconds": None}])
def test_a_slot_outlives_its_policy_and_is_told(policy: BackupPolicy, words: dict[str, Any]) -> None:
    note(seen())
    newer = replaced(policy, **words)
    for hours in (1, 2):
        note(seen(is_active=False), at=NOW + hours * HOUR)

    found = WalSlot.objects.get()
    assert (kinds(newer), found.left_since, found.version) == (["slot_left"], NOW + HOUR, places()[0].policy.version)


def test_a_slot_on_the_server_of_an_earlier_policy_is_told_beside_the_one_in_use(policy: BackupPolicy) -> None:
    newer = replaced(policy, source="file:/run/secrets/elsewhere")
    assert [(one.policy.version, one.is_wanted) for one in places()] == [(2, True), (1, False)]

    note_places([(Place(newer, True), seen("new")), (Place(policy, False), seen("old", is_active=False))], at=NOW)

    assert kinds(newer) == ["slot_left"]
    assert [(one.version, one.left_since) for one in WalSlot.objects.all()] == [(2, None), (1, NOW)]


@pytest.mark.parametrize("in_use", [seen("one"), None], ids=["same-server", "not-known"])
def test_another_reference_to_the_server_in_use_leaves_nothing_behind(
    policy: BackupPolicy, in_use: SeenSlot | None
) -> None:
    newer = replaced(policy, source="file:/run/secrets/renamed")

    note_places([(Place(newer, True), in_use), (Place(policy, False), seen("one"))], at=NOW)

    assert kinds(newer) == []


def test_what_is_left_and_then_dropped_is_forgotten(policy: BackupPolicy) -> None:
    newer = replaced(policy, wal_seconds=None)
    note(seen())
    note(SeenSlot("changecontrol_1", "1", None), at=NOW + MINUTE)

    assert (kinds(newer), WalSlot.objects.count()) == ([], 0)


def test_a_policy_without_wal_is_not_archived(policy: BackupPolicy) -> None:
    assert [is_archived(one) for one in (policy, replaced(policy, wal_seconds=None))] == [True, False]


def test_metrics_tell_how_much_is_retained(policy: BackupPolicy) -> None:
    note(seen(retained_bytes=7 * MB))

    figures: dict[str, Figure] = {one.name: one for one in contribute(NOW)}

    [sample] = figures["recovery_wal_retained_bytes"].samples
    assert (sample.labels, sample.value) == ((str(policy.environment_id),), 7 * MB)
