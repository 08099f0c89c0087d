"""The job that removes: what it leaves to whoever is at work, and that it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from changecontrol.models import User
from recovery import doors
from recovery.actions.backups import ask_backup
from recovery.jobs.removal import remove
from recovery.models import BackupPolicy, BackupRun
from recovery.queries.upkeep import leaving
from tests.factories import NOW, SmallEstate, small_estate
from tests.factories.estate import actor
from tests.factories.recovery import HOUR, backup_policy, recorded_point, recovery_owner

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def policy(estate: SmallEstate, rio: User, tmp_path: Path) -> BackupPolicy:
    """A store that holds one point, and attachments nowhere."""
    found = backup_policy(estate.production, store=f"file://{tmp_path}/points", copy_store="")
    BackupPolicy.objects.update(filestore="")
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio, store=found.store)
    doors.open_store(found).ensure_object(f"{doors.prefix_of(estate.production)}/base/p1/facts.json", b"{}")
    return BackupPolicy.objects.get()


def ask(estate: SmallEstate, rio: User) -> None:
    ask_backup(actor=actor(rio), environment_id=estate.production.pk, reason="A point.", at=NOW)


def test_job_that_meets_a_backup_says_that_wal_and_copies_stayed(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:
    order = leaving(policy, at=NOW).to_order(policy)
    alone = remove(order, lambda _: None)
    ask(estate, rio)

    beside_it = remove(order, lambda _: None)

    assert (alone["is_busy"], beside_it["is_busy"]) == (False, True)


def test_job_that_was_ordered_beside_a_backup_names_no_copies_so_they_are_asked_for_again(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:
    ask(estate, rio)
    order = leaving(policy, at=NOW).to_order(policy)
    BackupRun.objects.update(state="failed")

    assert remove(order, lambda _: None)["is_busy"]
