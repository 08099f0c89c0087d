from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from changecontrol.access import system_actor
from changecontrol.errors import Conflict, Forbidden, Invalid, NotFound
from changecontrol.models import AuditEvent, User
from changecontrol.rules.roles import Role
from recovery.actions.comparisons import ComparedStore, ask_unknown_removal, record_comparison
from recovery.actions.holds import place_hold
from recovery.models import Disagreement, RecoveryPoint, Upkeep
from recovery.queries.comparison import comparison_of, disagreements_of, due_to_go
from recovery.rules.comparison import GRACE, LISTS, Difference, DifferenceKind
from tests.factories import NOW, SmallEstate, actor, add_person, grant, small_estate, stranger_estate
from tests.factories.recovery import HOUR, POLICY, backup_policy, recorded_point, recovery_owner

pytestmark = pytest.mark.django_db

ORPHAN = Difference(DifferenceKind.ORPHAN, "killed", "The backup killed ended.", object_count=3, size=30, stored_at=NOW)
SET = Difference(DifferenceKind.UNKNOWN_SET, "lost", "A whole recovery point.", object_count=9, size=90, stored_at=NOW)
OLD_LISTS = Difference(DifferenceKind.ORPHAN, LISTS, "Nothing names 2 lists.", object_count=2, size=2, stored_at=NOW)


@pytest.fixture
def estate() -> SmallEstate:
    found = small_estate()
    backup_policy(found.production)
    return found


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def record(estate: SmallEstate, *found: Difference, at: Any = NOW, **words: Any) -> None:
    with transaction.atomic():
        one = ComparedStore(words.pop("store", POLICY.store), found, **words)
        record_comparison(estate.production, compared=[one], actor=system_actor(), at=at)


def events() -> list[str]:
    rows = AuditEvent.objects.filter(tag__regex="recovery:(store|orphan|point:c)").order_by("pk")
    return [tag for tag in rows.values_list("tag", flat=True) if tag != "recovery:point:copied"]


def test_an_orphan_keeps_the_time_it_was_first_found_and_goes_after_the_grace(estate: SmallEstate) -> None:
    record(estate, ORPHAN)
    record(estate, ORPHAN, at=NOW + HOUR)

    row = Disagreement.objects.get()
    assert (row.found_at, row.goes_at, row.size) == (NOW, NOW + GRACE, 30)
    assert events() == ["recovery:store:compared"]
    assert due_to_go(estate.production.pk, at=NOW + GRACE - HOUR) == []
    assert due_to_go(estate.production.pk, at=NOW + GRACE) == [(POLICY.store, "killed")]


def test_what_is_found_no_more_is_forgotten_and_what_was_collected_is_an_event(estate: SmallEstate) -> None:
    record(estate, ORPHAN, SET)
    record(estate, SET, collected=("killed",))
    record(estate, store="file:///elsewhere")

    assert Disagreement.objects.count() == 0
    assert events() == ["recovery:store:compared", "recovery:orphan:removed"]


def test_lists_that_may_belong_to_a_point_nobody_decided_about_stay(estate: SmallEstate) -> None:
    record(estate, SET, OLD_LISTS)
    stays = Disagreement.objects.get(name=LISTS).goes_at

    record(estate, OLD_LISTS)

    assert (stays, Disagreement.objects.get(name=LISTS).goes_at) == (None, NOW + GRACE)


def test_a_loss_breaks_the_point_once_and_one_that_goes_already_not_at_all(estate: SmallEstate, rio: User) -> None:
    broken, going = (recorded_point(estate.production, key, NOW - 2 * HOUR, by=rio) for key in ("p1", "p2"))
    RecoveryPoint.objects.filter(pk=going.pk).update(removing_at=NOW)
    losses = [Difference(DifferenceKind.MISSING, one.key, "facts.json is missing.", one.pk) for one in (broken, going)]

    record(estate, *losses)
    record(estate, *losses)

    found = RecoveryPoint.objects.order_by("pk").values_list("key", "state", "level")
    assert list(found) == [("p1", "broken", 0), ("p2", "copied", 0)]
    assert [one.point_id for one in disagreements_of(estate.production)] == [broken.pk]
    assert events() == ["recovery:point:checked", "recovery:store:compared"]


def test_a_whole_point_goes_once_somebody_says_why(estate: SmallEstate, rio: User) -> None:
    record(estate, SET, ORPHAN)
    lost, orphan = (Disagreement.objects.get(name=name) for name in ("lost", "killed"))
    words: dict[str, Any] = {"actor": actor(rio), "disagreement_id": lost.pk, "at": NOW + HOUR}

    with pytest.raises(Invalid, match="Say why it may go"):
        ask_unknown_removal(**words, reason=" ")
    with pytest.raises(Conflict, match="Only a whole point"):
        ask_unknown_removal(**{**words, "disagreement_id": orphan.pk}, reason="A test.")
    with pytest.raises(NotFound):
        ask_unknown_removal(**{**words, "disagreement_id": 0}, reason="A test.")
    ask_unknown_removal(**words, reason="A test.")
    with pytest.raises(Conflict, match="already"):
        ask_unknown_removal(**words, reason="A test.")

    lost.refresh_from_db()
    assert (lost.asked_by, lost.asked_at) == (rio, NOW + HOUR)
    assert due_to_go(estate.production.pk, at=NOW + HOUR) == [(POLICY.store, "lost")]
    assert Upkeep.objects.get(kind="comparison").next_due_at == NOW + HOUR
    assert events() == ["recovery:store:compared", "recovery:orphan:removal_asked"]
    record(estate, SET, at=NOW + 2 * HOUR)
    lost.refresh_from_db()
    assert lost.asked_by == rio


def test_a_legal_hold_keeps_it_and_who_may_not_edit_lets_nothing_go(estate: SmallEstate, rio: User) -> None:
    record(estate, SET)
    reader = add_person("reader")
    grant(reader, Role.ENGINEER, estate.tenant)
    _, eve = stranger_estate()
    words: dict[str, Any] = {"disagreement_id": Disagreement.objects.get().pk, "reason": "A test.", "at": NOW}

    for person, refusal in ((reader, Forbidden), (eve, NotFound)):
        with pytest.raises(refusal):
            ask_unknown_removal(actor=actor(person), **words)
    place_hold(actor=actor(rio), environment_id=estate.production.pk, name="Case 7", reason="Tax.", at=NOW)
    with pytest.raises(Conflict, match="A legal hold keeps everything"):
        ask_unknown_removal(actor=actor(rio), **words)

    assert Disagreement.objects.get().asked_at is None


def test_losses_come_first_and_nothing_was_compared_before_it_was(estate: SmallEstate, rio: User) -> None:
    point = recorded_point(estate.production, "p1", NOW - timedelta(hours=2), by=rio)
    loss = Difference(DifferenceKind.MISSING, "p1", "facts.json is missing.", point.pk)

    record(estate, loss, SET, ORPHAN)

    assert [one.name for one in disagreements_of(estate.production)] == ["p1", "killed", "lost"]
    assert comparison_of(estate.production) is None
