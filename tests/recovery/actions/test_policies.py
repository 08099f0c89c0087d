"""Backup policies, as somebody writes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from changecontrol.access import operator_actor
from changecontrol.errors import Conflict, Forbidden, Invalid, NotFound
from changecontrol.models import AuditEvent, Cluster, User
from recovery.actions.policies import publish_backup_policy
from recovery.models import BackupPolicy
from recovery.rules.policies import PolicyContent
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, small_estate, stranger_estate
from tests.factories.recovery import DUMP, DUMPS, POLICY, backup_policy, recorded_point, recovery_owner

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def publish(estate: SmallEstate, by: User, content: PolicyContent, *, seen: int = 1, **words: Any) -> BackupPolicy:
    return publish_backup_policy(
        **{
            "actor": actor(by), "environment_id": estate.production.pk, "content": content, "seen_version": seen,
            "reason": "We grew.", "at": NOW, **words,
        }
    )  # fmt: skip


def test_a_policy_is_published_with_its_event(estate: SmallEstate) -> None:
    with events() as tags:
        policy = backup_policy(estate.production)

    assert tags == ["recovery:policy:published"]
    assert (policy.version, policy.is_active, policy.tenant_id) == (1, True, estate.tenant.pk)
    assert policy.recipients == list(POLICY.recipients)


def test_an_edit_is_the_next_version_and_tells_who_why_and_the_difference(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.production)

    with events() as tags:
        publish(estate, rio, replace(POLICY, keep_last=14))

    assert tags == ["recovery:policy:published"]
    event = AuditEvent.objects.filter(tag="recovery:policy:published").latest("pk")
    assert event.actor == rio
    assert '"differences":{"keep_last":[7,14]},"reason":"We grew.","version":2' in event.body
    rows = BackupPolicy.objects.order_by("version").values_list("version", "keep_last", "is_active")
    assert list(rows) == [(1, 7, False), (2, 14, True)]


def test_publishing_the_same_again_writes_nothing(estate: SmallEstate, rio: User) -> None:
    first = backup_policy(estate.production)

    with events() as tags:
        assert publish(estate, rio, POLICY) == first

    assert tags == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            {"engine": "cloudnativepg", "wal_seconds": None},
            "Up to 1 day 1 hour would be lost, since only backups are taken, without WAL, every 1 day 1 hour, "
            "and Warehouse allows 1 hour.",
        ),
        (
            {"engine": "pg_dump", "wal_seconds": None, "filestore_seconds": None},
            "Up to 1 day 1 hour would be lost, since only backups are taken, without WAL, every 1 day 1 hour, "
            "and Warehouse allows 1 hour.",
        ),
        (
            {"wal_seconds": 3_601},
            "Up to 1 hour 1 second would be lost, since WAL is shipped every 1 hour 1 second, "
            "and Warehouse allows 1 hour.",
        ),
        (
            {"filestore_seconds": 7_200},
            "Up to 2 hours would be lost, since attachments are copied every 2 hours, and Warehouse allows 1 hour.",
        ),
        (
            {"rrule": "FREQ=DAILY;COUNT=3"},
            "The schedule of backups ends, or never begins: nothing bounds what would be lost.",
        ),
    ],
)
def test_a_policy_that_cannot_meet_its_rpo_is_refused_with_the_reason(
    estate: SmallEstate, words: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Invalid) as refused:
        backup_policy(estate.production, at=NOW, **words)

    assert refused.value.sentence == sentence
    assert refused.value.fields == {"rpo": [sentence]}
    assert not BackupPolicy.objects.exists()


def test_how_long_the_last_backup_took_counts(estate: SmallEstate, rio: User) -> None:
    estate.process.rpo_seconds = 25 * 3600
    estate.process.save()
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - timedelta(hours=1), by=rio)

    with pytest.raises(Invalid, match="every 1 day 1 hour, and Warehouse allows 1 day 1 hour") as refused:
        publish(estate, rio, replace(POLICY, engine="cloudnativepg", wal_seconds=None))

    assert "Up to 1 day 1 hour would be lost" in refused.value.sentence


def test_how_long_the_last_dump_took_counts(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.production, **DUMPS)
    recorded_point(estate.production, "p1", NOW - timedelta(hours=1), by=rio, **DUMP)

    with pytest.raises(Invalid, match="every 1 hour 15 minutes, and Warehouse allows 1 hour"):
        publish(estate, rio, replace(POLICY, **DUMPS, keep_last=14))


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"engine": "tape"}, "engine"),
        ({"rrule": "FREQ=HOURLY"}, "rrule"),
        ({"zone": "Mars/Olympus"}, "rrule"),
        ({"recipients": ()}, "recipients"),
        ({"recipients": ("age1short",)}, "recipients"),
        ({"source": ""}, "source"),
        ({"source": "postgres://odoo:hunter2@db/odoo"}, "source"),
        ({"store": ""}, "store"),
        ({"store": "ftp://points"}, "store"),
        ({"store": "s3://key:hunter2@points"}, "store"),
        ({"store": "s3://points?secret=hunter2"}, "store"),
        ({"copy_store": POLICY.store + "/"}, "copy_store"),
        ({"store_credential": "hunter2"}, "store_credential"),
        ({"keep_last": 0}, "keep_last"),
        ({"drill_days": 0}, "drill_days"),
        ({"wal_seconds": 0}, "wal_seconds"),
        ({"filestore_seconds": None}, "filestore_seconds"),
        ({"filestore": ""}, "filestore"),
        ({"engine": "cloudnativepg", "incrementals": 6}, "incrementals"),
        ({"engine": "pg_dump", "filestore_seconds": None}, "wal_seconds"),
        ({"engine": "pg_dump", "wal_seconds": None}, "filestore_seconds"),
    ],
)
def test_a_policy_that_does_not_hold_is_refused_and_no_secret_is_quoted(
    estate: SmallEstate, words: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        backup_policy(estate.production, **words)

    assert list(refused.value.fields) == [field]
    assert "hunter2" not in str(refused.value.fields)


def test_publishing_over_somebody_elses_version_is_refused(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.production)

    with events() as tags, pytest.raises(Conflict, match="at version 1"):
        publish(estate, rio, POLICY, seen=0)

    assert tags == ["refused"]


@pytest.mark.parametrize("field", ["source", "filestore", "store", "store_credential", "copy_store"])
def test_only_platform_administrators_say_where_data_and_secrets_go(estate: SmallEstate, rio: User, field: str) -> None:
    backup_policy(estate.production)
    value = "file:/run/secrets/kite" if field in ("source", "store_credential") else "s3://elsewhere"
    changed: dict[str, Any] = {field: value}

    with events() as tags, pytest.raises(Forbidden, match="Only a platform administrator"):
        publish(estate, rio, replace(POLICY, **changed))

    assert tags == ["refused"]
    assert publish(estate, rio, replace(POLICY, **changed), actor=operator_actor()).version == 2


def test_a_member_without_the_right_is_refused_and_it_is_recorded(estate: SmallEstate) -> None:
    backup_policy(estate.production)

    with events() as tags, pytest.raises(Forbidden):
        publish(estate, estate.ada, replace(POLICY, keep_last=14))

    assert tags == ["refused"]
    assert AuditEvent.objects.get(tag="refused").tenant == estate.tenant


def test_a_stranger_finds_nothing(estate: SmallEstate) -> None:
    backup_policy(estate.production)
    _, eve = stranger_estate()

    with events() as tags, pytest.raises(NotFound):
        publish(estate, eve, POLICY)

    assert tags == []


@pytest.mark.parametrize(
    ("slug", "sentence"),
    [
        ("nowhere", "There is no cluster of this name."),
        ("pt-1", "An environment is rehearsed in another cluster than the one it runs in."),
    ],
    ids=["unknown", "its own"],
)
def test_a_drill_brings_an_environment_up_in_another_cluster_alone(
    estate: SmallEstate, slug: str, sentence: str
) -> None:
    with pytest.raises(Invalid) as refused:
        backup_policy(estate.production, rehearsal_cluster=slug, rehearsal_target="env:FALKENSTEIN")

    assert refused.value.fields == {"rehearsal_cluster": [sentence]}
    assert not BackupPolicy.objects.exists()


def test_where_a_drill_brings_it_up_is_for_platform_administrators_to_say(estate: SmallEstate, rio: User) -> None:
    Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential="env:KUBECONFIG_DE_1")
    backup_policy(estate.production)

    with pytest.raises(Forbidden, match="Only a platform administrator"):
        publish(estate, rio, replace(POLICY, rehearsal_cluster="de-1", rehearsal_target="env:FALKENSTEIN"))

    assert BackupPolicy.objects.get().rehearsal_cluster == ""
