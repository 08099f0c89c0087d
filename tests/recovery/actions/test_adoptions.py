"""A whole point that no row names is asked for by who may, and taken in once or refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from changecontrol.access import system_actor
from changecontrol.errors import Conflict, Forbidden, Invalid, NotFound
from changecontrol.models import AuditEvent, Environment, Message, User
from changecontrol.rules.roles import Role
from recovery.actions.adoptions import ask_adoption, record_adoption, refuse_adoption
from recovery.actions.comparisons import ask_unknown_removal
from recovery.actions.copies import NewFilestoreCopy
from recovery.actions.points import NewPart, NewPoint
from recovery.models import BackupPolicy, Disagreement, FilestoreCopy, RecoveryPoint, Upkeep
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, add_person, grant, small_estate, stranger_estate
from tests.factories.estate import actor
from tests.factories.recovery import HOUR, POLICY, backup_policy, recorded_point, recovery_owner

pytestmark = pytest.mark.django_db
AT = NOW - HOUR


@pytest.fixture
def estate() -> SmallEstate:
    estate = small_estate()
    backup_policy(estate.production)
    return estate


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def differ(estate: SmallEstate, name: str = "lost", **words: Any) -> Disagreement:
    values = {"store": POLICY.store, "kind": "unknown_set", "name": name, "sentence": "A whole point."}
    return Disagreement.objects.create(environment=estate.production, found_at=NOW, **{**values, **words})


def ask(row: Disagreement, *, by: User, reason: str = "Our database was lost.") -> Disagreement:
    return ask_adoption(actor=actor(by), disagreement_id=row.pk, reason=reason, at=NOW)


def read(key: str = "lost", **words: Any) -> tuple[NewPoint, NewFilestoreCopy]:
    """Return what the store tells of a point."""
    parts = (
        NewPart("database", f"base/{key}/base", 900, "a" * 64, AT, AT),
        NewPart("filestore_manifest", f"filestore/points/{key}", 100, "b" * 64, AT, AT),
    )
    point = NewPoint(
        key=key, kind="base", started_at=AT, consistent_at=AT, finished_at=AT, parts=parts, store=POLICY.store,
        system_identifier="7012", filestore_at=AT,
    )  # fmt: skip
    copy = NewFilestoreCopy(key, f"filestore/points/{key}", 100, "b" * 64, AT, 4, 4000, 0)
    return replace(point, **words), copy


def take_in(
    point: NewPoint, copy: NewFilestoreCopy | None = None, *, at: datetime = NOW + HOUR
) -> RecoveryPoint | None:
    with transaction.atomic():
        environment = Environment.objects.select_for_update().get(slug="production", tenant__slug="northwind")
        policy = BackupPolicy.objects.active().get(environment=environment)
        words: dict[str, Any] = {"actor": system_actor(), "at": at}
        return record_adoption(environment, policy=policy, point=point, filestore=copy, **words)


def test_what_was_asked_for_is_taken_in_with_exactly_its_events(estate: SmallEstate, rio: User) -> None:
    row = differ(estate)
    with events() as asked:
        ask(row, by=rio)
    due = Upkeep.objects.get(kind="adoption").next_due_at

    with events() as recorded:
        found = take_in(*read())

    assert (asked, due) == (["recovery:orphan:adoption_asked"], NOW)
    assert recorded == ["recovery:point:recorded", "recovery:filestore:copied", "recovery:point:adopted"]
    assert found is not None
    assert (found.state, found.level, found.run_id, found.size) == ("copied", 0, None, 1000)
    assert [one.store for one in found.copies.all()] == [POLICY.store]
    assert FilestoreCopy.objects.get(point=found).key == "filestore/points/lost"
    assert not Disagreement.objects.exists()
    assert Upkeep.objects.get(kind="comparison").next_due_at == NOW + HOUR
    assert take_in(*read()) is None


def test_a_rollback_leaves_neither_row_nor_event(estate: SmallEstate, rio: User) -> None:
    row = differ(estate)
    ask(row, by=rio)
    before = AuditEvent.objects.count()

    with pytest.raises(RuntimeError), transaction.atomic():
        take_in(*read())
        raise RuntimeError

    assert (RecoveryPoint.objects.count(), FilestoreCopy.objects.count(), AuditEvent.objects.count()) == (0, 0, before)
    assert Disagreement.objects.get().adoption_asked_by == rio


def test_only_a_whole_point_that_nobody_decided_about_is_asked_for(estate: SmallEstate, rio: User) -> None:
    lost = differ(estate)
    orphan = differ(estate, "killed", kind="orphan")
    going = differ(estate, "going", asked_at=NOW, asked_by=rio)
    copied = differ(estate, "copied", store=POLICY.copy_store)

    with pytest.raises(Invalid, match="Say why it belongs"):
        ask(lost, by=rio, reason=" ")
    for row, words in ((orphan, "Only a whole point"), (going, "let it go already"), (copied, "It lies among copies")):
        with pytest.raises(Conflict, match=words):
            ask(row, by=rio)
    ask(lost, by=rio)
    with pytest.raises(Conflict, match="being read"):
        ask(lost, by=rio)
    with pytest.raises(Conflict, match="asked that it is taken in"):
        ask_unknown_removal(actor=actor(rio), disagreement_id=lost.pk, reason="No.", at=NOW)

    assert Disagreement.objects.filter(adoption_asked_at__isnull=False).get() == lost


def test_who_may_not_edit_recovery_takes_nothing_in(estate: SmallEstate) -> None:
    row = differ(estate)
    reader = add_person("reader")
    grant(reader, Role.ENGINEER, estate.tenant)
    _, eve = stranger_estate()

    for person, refusal in ((reader, Forbidden), (eve, NotFound)):
        with pytest.raises(refusal):
            ask(row, by=person)

    row.refresh_from_db()
    assert row.adoption_asked_at is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            {"kind": "incremental", "parent_id": 0},
            "What this point builds on is missing or broken: take a full backup.",
        ),
        ({"filestore_at": AT - HOUR}, "Attachments are copied after the database, and before the point is finished."),
        ({"image": "x" * 301}, "What the store tells of it is more than a recovery point can be."),
    ],
)
def test_what_does_not_fit_is_refused_told_and_may_be_asked_for_again(
    estate: SmallEstate, rio: User, words: dict[str, Any], sentence: str
) -> None:
    row = differ(estate)
    ask(row, by=rio)
    Message.objects.all().delete()

    with events() as refused:
        found = take_in(*read(**words))

    assert (found, refused) == (None, ["recovery:orphan:adoption_refused"])
    row.refresh_from_db()
    assert (row.refusal, row.adoption_asked_at, row.adoption_asked_by) == (sentence, None, None)
    assert [(one.recipient, one.text) for one in Message.objects.all()] == [(rio, sentence)]
    ask(row, by=rio)
    row.refresh_from_db()
    assert row.refusal == ""


def test_a_name_that_a_point_has_by_then_is_refused(estate: SmallEstate, rio: User) -> None:
    row = differ(estate)
    ask(row, by=rio)
    recorded_point(estate.production, "lost", AT, by=rio)

    assert take_in(*read()) is None

    row.refresh_from_db()
    assert row.refusal == "There is a point called lost already."


def test_what_nobody_waits_for_any_more_is_neither_taken_in_nor_refused(estate: SmallEstate) -> None:
    row = differ(estate)

    with events() as tags:
        found = take_in(*read())
        with transaction.atomic():
            words: dict[str, Any] = {"store": row.store, "name": row.name, "sentence": "It is damaged."}
            refuse_adoption(estate.production, **words, actor=system_actor(), at=NOW + timedelta(hours=1))

    assert (found, tags) == (None, [])
    row.refresh_from_db()
    assert row.refusal == ""
