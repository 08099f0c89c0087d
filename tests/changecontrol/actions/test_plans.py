"""Taking up a submitted change, and handing back its plan or its problem."""

from __future__ import annotations

import json

import pytest
from django.db import ProgrammingError, transaction

from changecontrol import access
from changecontrol.actions import plans
from changecontrol.models import ChangeRequest, Contributor, Message, Plan, Run
from changecontrol.models.change import Contribution
from changecontrol.rules.plan import digest_of
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, small_estate, submitted_change

DOCUMENT = {"commit": "5fa0c33", "format": 1}


@pytest.fixture
def estate(db: None) -> SmallEstate:
    return small_estate()


@pytest.fixture
def change(estate: SmallEstate) -> ChangeRequest:
    return submitted_change(estate)


def begin(change: ChangeRequest, kind: str = "deploy") -> Run | None:
    return plans.begin_assessment(change_id=change.pk, kind=kind, actor=access.system_actor("test"), at=NOW)


def locked(change: ChangeRequest) -> ChangeRequest:
    return ChangeRequest.objects.select_for_update(of=("self",)).select_related("revision").get(pk=change.pk)


def test_a_submitted_change_is_taken_up_once(change: ChangeRequest) -> None:
    with events() as found:
        run = begin(change)

    assert found == ["change:assessing", "run:created"]
    assert run is not None
    assert (run.kind, run.state, run.next_due_at) == ("assessment", "queued", NOW)
    assert begin(change) is None


def test_another_kind_of_change_is_left_to_others(change: ChangeRequest) -> None:
    assert begin(change, kind="restore") is None
    change.refresh_from_db()
    assert change.state == "submitted"


def test_the_same_document_is_the_same_plan(change: ChangeRequest) -> None:  # APR-8
    begin(change)
    actor = access.system_actor("test")

    with transaction.atomic():
        one, two = (
            plans.record_plan(
                locked(change), revision=change.revision, document=DOCUMENT, manifests_sha256="", actor=actor, at=NOW
            )
            for _ in range(2)
        )

    assert one == two
    assert one.digest == digest_of(DOCUMENT)
    assert json.loads(one.document) == DOCUMENT


def test_a_plan_cannot_be_rewritten(change: ChangeRequest) -> None:
    test_the_same_document_is_the_same_plan(change)

    with pytest.raises(ProgrammingError), transaction.atomic():
        Plan.objects.update(document="{}")


def test_a_problem_goes_back_to_its_author(estate: SmallEstate, change: ChangeRequest) -> None:
    run = begin(change)
    assert run is not None

    with events() as found, transaction.atomic():
        plans.fail_assessment(
            locked(change), run=run, problem="The image is not pinned.", actor=access.system_actor("test"), at=NOW
        )

    assert found == ["run:moved", "change:assessment:failed"]
    change.refresh_from_db()
    assert (change.state, change.problem) == ("draft", "The image is not pinned.")
    assert Message.objects.get(tag="change:assessment:failed").recipient == estate.ada
    assert Run.objects.get(pk=run.pk).next_due_at is None


def test_commit_authors_we_know_become_people(estate: SmallEstate, change: ChangeRequest) -> None:  # APR-2
    emails = [("BEN@retailer.example", Contribution.AUTHORED), ("linus@example.com", Contribution.COMMITTED)]

    for _ in range(2):
        plans.record_authors(change, emails=emails, at=NOW)

    rows = Contributor.objects.filter(change=change, contribution__in=["authored", "committed"]).order_by("email")
    assert [(row.email, row.user) for row in rows] == [
        ("ben@retailer.example", estate.ben),
        ("linus@example.com", None),
    ]
