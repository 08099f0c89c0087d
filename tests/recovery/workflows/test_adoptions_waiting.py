"""Nobody waits for ever for a point that cannot be taken in, and none keeps another from it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from changecontrol import clock
from changecontrol.errors import Conflict
from changecontrol.models import Job, Message, User
from changecontrol.workflow import engine
from recovery.actions.adoptions import ask_adoption
from recovery.actions.comparisons import ask_unknown_removal
from recovery.models import BackupPolicy, Disagreement, Upkeep
from recovery.models.policy import Engine
from recovery.queries.comparison import policy_made_under
from recovery.workflows.upkeep import UpkeepWork
from tests.factories import NOW, SmallEstate, small_estate
from tests.factories.estate import actor
from tests.factories.recovery import HOUR, POLICY, backup_policy, recovery_owner

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    estate = small_estate()
    backup_policy(estate.production)
    return estate


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture(autouse=True)
def later() -> Iterator[None]:
    clock.set_offset(NOW + 2 * HOUR - datetime.now(UTC))
    yield
    clock.set_offset(timedelta())


def asked(estate: SmallEstate, rio: User, name: str, *, store: str = POLICY.store) -> Disagreement:
    words = {"store": store, "kind": "unknown_set", "name": name, "sentence": "A whole point."}
    row = Disagreement.objects.create(environment=estate.production, found_at=NOW, **words)
    return ask_adoption(actor=actor(rio), disagreement_id=row.pk, reason="Our database was lost.", at=clock.now())


def upkept() -> None:
    work = UpkeepWork()
    work.find(clock.now())
    while engine.tick(work):
        pass


def test_what_waits_when_another_tool_takes_over_is_refused_and_can_be_let_go(estate: SmallEstate, rio: User) -> None:
    row = asked(estate, rio, "lost")
    Message.objects.all().delete()
    BackupPolicy.objects.update(engine="external")

    upkept()

    row.refresh_from_db()
    sentence = "Another tool backs this environment up now: no point is taken in while its policy says so."
    assert (row.adoption_asked_at, row.refusal) == (None, sentence)
    assert Message.objects.get().text == sentence
    assert not Job.objects.exists()
    with pytest.raises(Conflict, match="Another tool backs this environment up now"):
        ask_adoption(actor=actor(rio), disagreement_id=row.pk, reason="Once more.", at=clock.now())
    ask_unknown_removal(actor=actor(rio), disagreement_id=row.pk, reason="No.", at=clock.now())


def test_what_lies_where_no_policy_leads_is_refused_and_the_next_is_read(estate: SmallEstate, rio: User) -> None:
    first = asked(estate, rio, "first")
    BackupPolicy.objects.update(store="s3://elsewhere/northwind")
    second = asked(estate, rio, "second", store="s3://elsewhere/northwind")

    upkept()

    first.refresh_from_db()
    assert first.refusal == ("No backup policy under which anything is kept names its store: publish one that does.")
    second.refresh_from_db()
    assert second.adoption_asked_at is not None
    assert [one.order["name"] for one in Job.objects.filter(kind="adopt")] == ["second"]


def test_a_wish_that_nothing_looks_after_is_found_again(estate: SmallEstate, rio: User) -> None:
    asked(estate, rio, "lost")
    Upkeep.objects.filter(kind="adoption").update(next_due_at=None)

    upkept()

    assert [one.order["name"] for one in Job.objects.filter(kind="adopt")] == ["lost"]


def test_a_point_fits_the_newest_policy_of_its_engine_store_and_attachments(estate: SmallEstate) -> None:
    first = BackupPolicy.objects.get()
    days = {"old": 100, "moved": 50, "dumps": 20, "back": 10}
    words = {
        "moved": {"filestore": "s3://attachments/moved"},
        "dumps": {"engine": "pg_dump", "filestore": "s3://attachments/moved"},
        "back": {"filestore": POLICY.filestore},
    }
    versions = {"old": first}
    for number, (name, changes) in enumerate(words.items(), start=2):
        columns = {one.name: getattr(first, one.name) for one in BackupPolicy._meta.concrete_fields if one.name != "id"}
        columns |= {"version": number, "is_active": False, "created_at": NOW - timedelta(days=days[name]), **changes}
        versions[name] = BackupPolicy.objects.create(**columns)

    def fitting(engine: str, *, ago: int, store: str = POLICY.store) -> BackupPolicy | None:
        at = NOW - timedelta(days=ago)
        return policy_made_under(estate.production.pk, store=store, engine=Engine(engine), began_at=at)

    assert fitting("postgres", ago=60) == versions["back"]
    assert fitting("postgres", ago=30) == versions["moved"]
    assert fitting("pg_dump", ago=15) == versions["dumps"]
    assert fitting("pg_dump", ago=60) is None
    assert fitting("cloudnativepg", ago=5) is None
    assert fitting("postgres", ago=60, store=POLICY.copy_store) is None
    assert fitting("postgres", ago=400) == versions["back"]
