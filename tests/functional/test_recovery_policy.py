"""The backup policy of an environment: read, written, refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from changecontrol.access import system_actor
from changecontrol.models import Cluster, User
from changecontrol.rules.roles import Role
from changecontrol.templatetags.times import short_moment
from recovery.actions.points import record_copy
from recovery.models import BackupPolicy, RecoveryPoint
from recovery.rules.locks import ToldLock
from tests.factories import NOW, SmallEstate, add_person, grant
from tests.factories.recovery import backup_policy, policy_answers, recorded_point, recovery_owner
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db

PLACE = "/recovery/environments/northwind/production/policy/"
EDIT = f"{PLACE}edit/"


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def platform(db: None) -> User:
    return add_person("platform", is_superuser=True)


@pytest.fixture
def policy(estate: SmallEstate) -> BackupPolicy:
    return backup_policy(estate.production)


def text_of(answer) -> str:
    return " ".join(answer.text.replace("\N{NO-BREAK SPACE}", " ").split())


def test_policy_is_read_in_words(rio, policy, signed_in) -> None:
    text = text_of(signed_in(rio).get(PLACE))

    for words in (
        "Backup policy, version 1",
        "Up to 1 minute may be lost, since attachments are copied every 1 minute; Warehouse allows 1 hour.",
        "every day",
        "from 2026-11-01 02:00, on the clocks of Europe/Lisbon",
        "every 10 s",
        "s3://points/northwind",
        "Tue 24 Nov 2026, 02:00 UTC",
    ):
        assert words in text, words


def test_object_lock_is_told_of_each_copy_as_its_store_says_and_no_more_than_that(estate, rio, signed_in) -> None:
    backup_policy(estate.production, lock_days=30)
    lock, none = ToldLock(NOW, NOW + timedelta(days=30)), ToldLock(NOW, None)
    whole = recorded_point(estate.production, "p1", NOW, by=rio, lock=lock, locked_until=lock.until)
    record_copy(whole, store="s3://copies/northwind", lock=none, actor=system_actor(), at=NOW)
    short = recorded_point(estate.production, "p2", NOW, by=rio, lock=ToldLock(NOW, NOW + timedelta(days=7)))
    record_copy(short, store="s3://copies/northwind", actor=system_actor(), at=NOW)
    client = signed_in(rio)

    policy, first, second = (
        text_of(client.get(path)) for path in (PLACE, *(f"/recovery/points/{one.pk}/" for one in (whole, short)))
    )

    def words(at) -> str:
        return short_moment(at, rio.zone).replace("\N{NO-BREAK SPACE}", " ")

    said = f"as the store said at {words(NOW)}"
    assert "as the bucket is set, which each backup asks of S3" in policy
    assert "by the policy; what a store says is beside its copy" in first
    assert f"locked until {words(lock.until)}, {said}" in first
    assert f"not locked, {said}" in first
    assert f"locked until {words(NOW + timedelta(days=7))}, sooner than the policy promises, {said}" in second
    assert "the store does not say whether it locks it" in second
    assert "refuses to delete" not in policy + first + second


def test_nothing_is_said_of_a_lock_where_none_is_promised(policy, estate, rio, signed_in) -> None:
    point = recorded_point(estate.production, "p1", NOW, by=rio)

    text = text_of(signed_in(rio).get(f"/recovery/points/{point.pk}/"))

    assert [words for words in ("locked", "the store does not say", "as the store said") if words in text] == []


def test_a_lock_that_folders_cannot_keep_is_refused_beside_its_field(platform, policy, signed_in) -> None:
    words = {"store": "file:///srv/points", "copy_store": "", "lock_days": 30}

    answer = signed_in(platform).post(EDIT, policy_answers(policy, **words))

    assert answer.status_code == 422
    assert answer.context["form"].errors["lock_days"] == [
        "A folder locks nothing: keep points in a bucket with object lock, or promise none."
    ]


def test_how_long_the_bucket_keeps_what_was_removed_is_told_as_the_policy_says_it(estate, rio, signed_in) -> None:
    backup_policy(estate.production, version_days=14)
    gone = recorded_point(estate.production, "p1", NOW - timedelta(days=9), by=rio)
    kept = recorded_point(estate.production, "p2", NOW, by=rio)
    RecoveryPoint.objects.filter(pk=gone.pk).update(state="removed", removed_at=NOW)
    client = signed_in(rio)

    policy, removed, other = (
        text_of(client.get(path)) for path in (PLACE, *(f"/recovery/points/{one.pk}/" for one in (gone, kept)))
    )

    assert "Old versions of what was removed" in policy
    assert "14 days" in policy
    until = short_moment(NOW + timedelta(days=14), rio.zone).replace("\N{NO-BREAK SPACE}", " ")
    assert f"old versions stay until {until}, as the bucket is set, which is not asked" in removed
    assert "old versions stay" not in other


def test_where_level_5_brings_it_up_is_written_and_read(platform, policy, signed_in) -> None:
    Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential="env:KUBECONFIG_DE_1")
    client = signed_in(platform)
    words = {"rehearsal_cluster": "de-1", "rehearsal_target": "env:FALKENSTEIN"}

    before = text_of(client.get(PLACE))
    own = client.post(EDIT, policy_answers(policy, **words | {"rehearsal_cluster": "pt-1"}))
    answer = text_of(client.post(EDIT, policy_answers(policy, **words), follow=True))

    assert "for a drill of level 5" not in before
    assert own.status_code == 422
    assert "An environment is rehearsed in another cluster than the one it runs in." in text_of(own)
    assert "Where it is brought up for a drill of level 5" in answer
    assert "env:FALKENSTEIN" in answer
    assert "environments/production" in answer


def test_next_version_is_published_and_says_what_it_changed(rio, policy, signed_in) -> None:
    client = signed_in(rio)

    answer = client.post(EDIT, policy_answers(policy, keep_last=14, keep_weekly=4), follow=True)

    latest = BackupPolicy.objects.active().get()
    assert (latest.version, latest.keep_last, latest.keep_weekly, latest.created_by) == (2, 14, 4, rio)
    text = text_of(answer)
    assert "Version 2 holds from now on." in text
    assert "keep last: 7 → 14" in text
    assert "keep weekly: 0 → 4" in text
    assert "An older version." in client.get(f"{PLACE}?version=1").text


def test_policy_that_may_lose_too_much_is_refused_at_the_top_with_its_form(rio, policy, signed_in) -> None:
    answer = signed_in(rio).post(EDIT, policy_answers(policy, filestore_seconds=7200, keep_last=21))

    assert answer.status_code == 422
    sentence = "Up to 2 hours would be lost, since attachments are copied every 2 hours, and Warehouse allows 1 hour."
    assert answer.context["form"].non_field_errors() == [sentence]
    text = text_of(answer)
    assert text.index(sentence) < text.index('name="keep_last" value="21"')
    assert "<title>Error: " in answer.text
    assert BackupPolicy.objects.get().keep_last == 7


def test_what_does_not_hold_stands_beside_its_field(rio, policy, signed_in) -> None:
    answer = signed_in(rio).post(
        EDIT, policy_answers(policy, grace_seconds=5, reason="", repeats="own", rrule="FREQ=NEVER")
    )

    assert answer.status_code == 422
    assert set(answer.context["form"].errors) == {"reason"}

    answer = signed_in(rio).post(EDIT, policy_answers(policy, grace_seconds=5, repeats="own", rrule="FREQ=NEVER"))

    assert answer.status_code == 422
    assert set(answer.context["form"].errors) == {"grace_seconds", "rrule"}


def test_engine_is_changed_to_dumps_with_what_that_means_beside_each_field(estate, rio, platform, policy, signed_in):
    estate.process.rpo_seconds = 25 * 3600
    estate.process.save()
    client = signed_in(rio)

    refused = client.post(EDIT, policy_answers(policy, engine="pg_dump", incrementals=6))
    written = client.post(
        EDIT,
        policy_answers(policy, engine="pg_dump", wal_seconds=None, filestore_seconds=None, has_sentinel=True),
        follow=True,
    )

    assert refused.status_code == 422
    assert refused.context["form"].errors == {
        "wal_seconds": ["No WAL leads on from a dump: leave this empty."],
        "filestore_seconds": ["Attachments are copied with each dump: leave this empty."],
        "incrementals": ["Only the engine postgres takes incremental backups."],
    }
    text = text_of(written)
    for words in (
        "engine: postgres → pg_dump",
        "one database, back to the moment of each dump alone",
        "Up to 1 day 1 hour may be lost, since only backups are taken, without WAL, every 1 day 1 hour",
        "one before each dump",
        "with each dump",
        "not archived",
    ):
        assert words in text, words


def test_version_published_meanwhile_is_a_conflict(rio, policy, signed_in) -> None:
    client = signed_in(rio)
    late = policy_answers(policy, keep_last=30)
    client.post(EDIT, policy_answers(policy, keep_last=14))

    answer = client.post(EDIT, late)

    assert answer.status_code == 409
    assert "This policy is at version 2, and you were editing version 1." in answer.text
    assert 'name="keep_last" value="30"' in answer.text


def test_first_policy_is_a_platform_administrators_to_write(estate, rio, platform, signed_in) -> None:
    backup = policy_answers(None, store="s3://points/northwind", source="file:/run/secrets/n", wal_seconds=10)
    backup["recipients"] = "age1" + "q" * 58

    read = signed_in(rio).get(PLACE)
    refused = signed_in(rio).post(EDIT, backup)
    written = signed_in(platform).post(EDIT, backup, follow=True)

    assert "No backup policy yet" in read.text
    assert "the first version is theirs to write." in text_of(read)
    assert refused.status_code == 403
    assert "Version 1 holds from now on." in written.text
    assert BackupPolicy.objects.get().recipients == ["age1" + "q" * 58]


def test_secret_typed_for_a_reference_is_refused_and_not_quoted(platform, policy, signed_in) -> None:
    answer = signed_in(platform).post(EDIT, policy_answers(policy, identity="AGE-SECRET-KEY-1CANARY"))

    assert answer.status_code == 422
    assert "identity" in answer.context["form"].errors
    assert "CANARY" not in str(answer.context["form"].errors)


def test_readers_read_and_cannot_write(estate, policy, signed_in) -> None:
    reader = add_person("reader")
    grant(reader, Role.ENGINEER, estate.tenant)
    client = signed_in(reader)

    page = client.get(PLACE)

    assert "This needs one of these roles here: recovery owner, platform administrator." in page.text
    assert EDIT not in page.text
    assert [client.get(EDIT).status_code, client.post(EDIT, policy_answers(policy)).status_code] == [403, 403]


def test_strangers_find_no_policy(policy, eve, signed_in) -> None:
    client = signed_in(eve)

    assert [client.get(PLACE).status_code, client.get(EDIT).status_code] == [404, 404]


def test_policy_page_costs_the_same_with_one_version_and_three(rio, policy, signed_in) -> None:
    client = signed_in(rio)
    one = statements(client, PLACE)
    for count in (14, 21):
        client.post(EDIT, policy_answers(BackupPolicy.objects.active().get(), keep_last=count))

    three = statements(client, PLACE)

    assert BackupPolicy.objects.count() == 3
    assert one == three <= 15
