"""The law that the database keeps by itself, whatever the code forgets."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Model

from changecontrol.models import Environment, User
from recovery.models import (
    BackupPolicy,
    BackupRun,
    Drill,
    DrillCheck,
    PointPart,
    RecoveryPoint,
    Restore,
    SignOff,
    Verification,
    WalSegment,
)
from tests.factories import NOW, SmallEstate, small_estate

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def policy(place: Environment, by: User, **words: Any) -> BackupPolicy:
    return BackupPolicy.objects.create(
        **{
            "environment": place, "version": 1, "engine": "postgres", "rrule": "FREQ=DAILY", "starts_local": NOW,
            "zone": "UTC", "grace_seconds": 3600, "store": "s3://points", "keep_last": 1, "verify_days": 7,
            "drill_days": 90, "created_at": NOW, "created_by": by, **words,
        }
    )  # fmt: skip


def point(of: BackupPolicy, **words: Any) -> RecoveryPoint:
    return RecoveryPoint.objects.create(
        **{
            "environment": of.environment, "policy": of, "key": "p1", "kind": "base", "started_at": NOW,
            "consistent_at": NOW, "finished_at": NOW, "size": 1, **words,
        }
    )  # fmt: skip


def backup(of: BackupPolicy, **words: Any) -> BackupRun:
    return BackupRun.objects.create(
        **{"environment": of.environment, "policy": of, "kind": "base", "created_at": NOW, **words}
    )


def restore(of: RecoveryPoint, by: User, **words: Any) -> Restore:
    return Restore.objects.create(
        **{
            "environment": of.environment, "point": of, "purpose": "copy", "target_at": NOW, "target_database": "copy",
            "reason": "A look.", "asked_by": by, "size": 1, "declared_at": NOW, "decided_at": NOW, **words,
        }
    )  # fmt: skip


def drill(of: RecoveryPoint, **words: Any) -> Drill:
    return Drill.objects.create(
        **{
            "environment": of.environment, "point": of, "key": uuid.uuid4(), "level": 2, "target_at": NOW,
            "rto_target_seconds": 1, "rpo_target_seconds": 1, "declared_at": NOW, "decided_at": NOW, **words,
        }
    )  # fmt: skip


def segment(place: Environment, **words: Any) -> WalSegment:
    return WalSegment.objects.create(
        **{
            "environment": place, "system_identifier": "7", "timeline": 1, "start_lsn": 0, "end_lsn": 16,
            "ends_at": NOW, "key": "wal/1", "size": 16, "sha256": "0" * 64, **words,
        }
    )  # fmt: skip


BEFORE = NOW - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("law", "words"),
    [
        ("recovery_point_state_is_in_the_table", {"state": "perfect"}),
        ("verified_means_restored_and_questioned", {"state": "verified", "level": 1, "checked_at": NOW}),
        ("verified_means_restored_and_questioned", {"state": "verified", "level": 2}),
        ("a_recovery_point_is_consistent_while_it_is_taken", {"consistent_at": BEFORE}),
        ("a_recovery_point_is_consistent_while_it_is_taken", {"finished_at": BEFORE}),
        ("a_filestore_is_copied_after_its_database", {"filestore_at": BEFORE}),
        ("an_incremental_point_has_a_parent", {"kind": "incremental"}),
    ],
)
def test_a_point_that_breaks_the_law_is_refused(estate: SmallEstate, law: str, words: dict[str, Any]) -> None:
    rules = policy(estate.production, estate.ben)

    with pytest.raises(IntegrityError, match=law):
        point(rules, **words)


def test_what_may_be_there_once_is_there_once(estate: SmallEstate) -> None:
    rules = policy(estate.production, estate.ben)
    base = point(rules)
    backup(rules, due_at=NOW)
    restore(base, estate.ben)
    drill(base)
    segment(estate.production)

    def refused(law: str, make: Any) -> None:
        with pytest.raises(IntegrityError, match=law), transaction.atomic():
            make()

    refused("one_recovery_point_per_key", lambda: point(rules))
    refused("an_incremental_point_has_a_parent", lambda: point(rules, key="p2", parent=base))
    refused("one_active_backup_policy", lambda: policy(estate.production, estate.ben, version=2))
    refused("one_backup_policy_per_version", lambda: policy(estate.production, estate.ben, is_active=False))
    refused("one_active_backup_per_environment", lambda: backup(rules))
    refused("one_backup_per_scheduled_start", lambda: backup(rules, due_at=NOW, state="failed"))
    refused("one_active_restore_per_target", lambda: restore(base, estate.ben))
    refused("one_active_drill_per_environment", lambda: drill(base))
    refused("one_segment_per_position", lambda: segment(estate.production))


def test_a_copy_lies_elsewhere_and_the_last_point_stays(estate: SmallEstate) -> None:
    laws: list[tuple[str, dict[str, Any]]] = [
        ("a_copy_is_kept_elsewhere", {"copy_store": "s3://points"}),
        ("a_backup_policy_keeps_the_last_point", {"keep_last": 0}),
    ]
    for law, words in laws:
        with pytest.raises(IntegrityError, match=law), transaction.atomic():
            policy(estate.production, estate.ben, **words)


def test_times_and_places_are_in_order(estate: SmallEstate) -> None:
    base = point(policy(estate.production, estate.ben))
    for law, make in [
        ("a_segment_ends_after_it_starts", lambda: segment(estate.production, end_lsn=0)),
        (
            "a_recovery_is_declared_before_it_is_decided",
            lambda: restore(base, estate.ben, declared_at=NOW + timedelta(seconds=1)),
        ),
        ("a_drill_that_left_something_behind_has_not_passed", lambda: drill(base, state="passed", leftovers="/x")),
        ("drill_level_is_one_to_five", lambda: drill(base, level=6)),
    ]:
        with pytest.raises(IntegrityError, match=law), transaction.atomic():
            make()


def test_a_canceled_drill_says_who_and_why_and_has_no_verdict(estate: SmallEstate) -> None:  # BCK-7
    base = point(policy(estate.production, estate.ben))
    said: dict[str, Any] = {"canceled_at": NOW, "canceled_by": estate.ben, "cancel_reason": "Too soon."}
    for law, words in [
        ("a_drill_is_canceled_by_somebody_with_a_reason", {**said, "cancel_reason": ""}),
        ("a_drill_is_canceled_by_somebody_with_a_reason", {**said, "canceled_by": None}),
        ("a_drill_is_canceled_by_somebody_with_a_reason", {"cancel_reason": "Too soon."}),
        ("a_canceled_drill_has_no_verdict", {**said, "state": "passed"}),
        ("a_canceled_drill_has_no_verdict", {**said, "state": "failed"}),
        ("a_canceled_drill_has_no_verdict", {"state": "canceled"}),
    ]:
        with pytest.raises(IntegrityError, match=law), transaction.atomic():
            drill(base, **words)

    assert drill(base, **said, state="canceled").cancellation == "Ben canceled it: Too soon."


@pytest.mark.parametrize("name", ["part", "verification", "check", "sign-off"])
def test_proof_is_only_ever_added(estate: SmallEstate, name: str) -> None:  # BCK-7
    base = point(policy(estate.production, estate.ben))
    practice = drill(base)
    rows: dict[str, Model] = {
        "part": PointPart.objects.create(
            point=base, kind="database", key="k", size=1, sha256="0" * 64, started_at=NOW, finished_at=NOW
        ),
        "verification": Verification.objects.create(point=base, level=2, is_passed=True, sentence="Fine.", at=NOW),
        "check": DrillCheck.objects.create(
            drill=practice, name="sentinel", level=2, is_passed=True, sentence="Fine.", at=NOW
        ),
        "sign-off": SignOff.objects.create(drill=practice, by=estate.ben, at=NOW),
    }
    table = rows[name]._meta.db_table

    for statement in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}"):  # noqa: S608
        refused = pytest.raises(DatabaseError, match=r"append-only|permission denied")
        with refused, transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
