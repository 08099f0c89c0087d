"""The list of changes and one change, as its readers see them."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changecontrol.access import scope_of
from changecontrol.actions.changes import create_change
from changecontrol.errors import NotFound
from changecontrol.models import ChangeRequest
from changecontrol.queries.changes import (
    ChangeFilter,
    change_by_number,
    change_detail,
    changes_page,
    environment_slugs,
    timeline_of,
)
from changecontrol.rules.roles import Role
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    add_person,
    draft_change,
    grant,
    scheduled_change,
    small_estate,
    stranger_estate,
    submitted_change,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def test_every_change_is_on_exactly_one_page_forwards_and_backwards(estate: SmallEstate) -> None:
    changes = [draft_change(estate) for _ in range(5)]
    newest_first = [change.pk for change in reversed(changes)]
    scope = scope_of(actor(estate.ada))

    first = changes_page(scope, size=2)
    second = changes_page(scope, size=2, before=first.older)
    third = changes_page(scope, size=2, before=second.older)
    last = changes_page(scope, size=2, is_last=True)
    back = changes_page(scope, size=2, after=last.newer)

    assert [row.pk for page in (first, second, third) for row in page.rows] == newest_first
    assert (first.newer, third.older) == (None, None)
    assert [row.pk for row in last.rows] == newest_first[-2:]
    assert last.older is None
    assert [row.pk for row in back.rows] == newest_first[1:3]
    assert back.older == back.rows[-1].pk


@pytest.mark.parametrize("count", [1, 3])
def test_a_page_takes_the_same_statements_however_many_rows(estate: SmallEstate, count: int) -> None:
    for _ in range(count):
        submitted_change(estate)
    scope = scope_of(actor(estate.ada))

    with CaptureQueriesContext(connection) as queries:
        page = changes_page(scope)
        seen = [
            (
                str(row),
                row.tenant.name,
                str(row.requester),
                str(row.assignee),
                row.revision.number,
                environment_slugs(row),
            )
            for row in page.rows
        ]

    assert len(seen) == count
    assert len(queries) == 1


def test_a_page_tells_the_environments_of_each_of_its_changes(estate: SmallEstate) -> None:
    one = submitted_change(estate, environments=["staging"])
    several = submitted_change(estate, environments=["staging", "production"])
    none = draft_change(estate)
    none.environments.clear()

    page = changes_page(scope_of(actor(estate.ada)))

    found = {row.pk: environment_slugs(row) for row in page.rows}
    assert found == {one.pk: ["staging"], several.pk: ["production", "staging"], none.pk: []}
    assert environment_slugs(several) == ["production", "staging"]


@pytest.mark.parametrize(
    ("wanted", "is_found"),
    [
        (ChangeFilter(text="reorder"), True),
        (ChangeFilter(text="tills"), False),
        (ChangeFilter(states=("submitted", "assess")), True),
        (ChangeFilter(states=("draft",)), False),
        (ChangeFilter(environment="production"), True),
        (ChangeFilter(environment="staging"), False),
        (ChangeFilter(requester="ada"), True),
        (ChangeFilter(requester="ben"), False),
        (ChangeFilter(assignee="cy"), False),
        (ChangeFilter(stage="production"), True),
        (ChangeFilter(tier=2), True),
        (ChangeFilter(tier=0), False),
        (ChangeFilter(tenant="northwind"), True),
        (ChangeFilter(tenant="kite"), False),
    ],
)
def test_a_filter_narrows(estate: SmallEstate, wanted: ChangeFilter, is_found: bool) -> None:
    change = submitted_change(estate)

    page = changes_page(scope_of(actor(estate.ben)), wanted=wanted)

    assert [row.pk for row in page.rows] == ([change.pk] if is_found else [])


def test_a_number_is_found_as_people_type_it(estate: SmallEstate) -> None:
    change = draft_change(estate)
    scope = scope_of(actor(estate.ada))

    for text in (change.number, change.number.lower(), str(change.pk), f"  {change.number} "):
        assert [row.pk for row in changes_page(scope, wanted=ChangeFilter(text=text)).rows] == [change.pk]


def test_what_is_searched_for_may_be_anything(estate: SmallEstate) -> None:
    draft_change(estate)

    for text in ("9" * 40, "CHG-", "%", "\x00", "'; --", "٣"):
        assert changes_page(scope_of(actor(estate.ada)), wanted=ChangeFilter(text=text)).rows == ()


def test_a_change_of_another_tenant_is_as_missing_as_none(estate: SmallEstate) -> None:
    hidden = submitted_change(estate)
    _, eve = stranger_estate()
    scope = scope_of(actor(eve))

    with pytest.raises(NotFound) as of_hidden:
        change_by_number(scope, hidden.number)
    with pytest.raises(NotFound) as of_none:
        change_by_number(scope, "CHG-999999")

    assert str(of_hidden.value) == str(of_none.value)
    assert changes_page(scope).rows == ()
    assert changes_page(scope, wanted=ChangeFilter(text=hidden.number)).rows == ()


def test_a_number_is_found_only_as_it_is_written(estate: SmallEstate) -> None:
    change = draft_change(estate)
    scope = scope_of(actor(estate.ada))

    assert change_by_number(scope, change.number).pk == change.pk
    for wrong in (str(change.pk), f"CHG-0{change.number[4:]}", "CHG-", "CHG-x", "CHG-" + "9" * 30):
        with pytest.raises(NotFound):
            change_by_number(scope, wrong)


def test_the_detail_offers_what_state_and_roles_allow(estate: SmallEstate) -> None:
    change = scheduled_change(estate)

    offered = {
        person.username: change_detail(scope_of(actor(person)), change.number, at=NOW).verbs
        for person in (estate.ada, estate.ben, estate.cy, estate.dee)
    }

    assert offered == {
        "ada": ("revise", "schedule", "cancel"),
        "ben": ("schedule", "hold", "cancel"),
        "cy": (),
        "dee": (),
    }


def test_the_detail_holds_rounds_plans_and_windows(estate: SmallEstate) -> None:
    change = scheduled_change(estate)

    detail = change_detail(scope_of(actor(estate.dee)), change.number, at=NOW)

    assert [one.round.number for one in detail.dockets] == [1]
    assert [vote.voter.username for vote in detail.dockets[0].votes] == ["cy", "ben"]
    assert [plan.digest for plan in detail.plans] == [change.plan.digest]
    assert {(one.wave, one.cohort, one.zone) for one in detail.windows} == {
        (0, "pilot", "Europe/Lisbon"),
        (0, "pilot", "Europe/Berlin"),
        (1, "pilot", "Europe/Lisbon"),
        (1, "pilot", "Europe/Berlin"),
        (1, "rest", "Europe/Lisbon"),
        (1, "rest", "Europe/Berlin"),
    }


def test_the_timeline_tells_the_events_in_order(estate: SmallEstate) -> None:
    change = submitted_change(estate)
    submitted_change(estate)

    assert [event.tag for event in timeline_of(change)] == ["change:created", "change:draft:saved", "change:submitted"]


def test_somebody_with_roles_on_one_environment_sees_its_changes_and_their_own_drafts(estate: SmallEstate) -> None:
    ada = add_person("ada-staging")
    grant(ada, Role.ENGINEER, estate.staging)
    on_staging = submitted_change(estate, environments=["staging"])
    submitted_change(estate, environments=["production"])
    mine = create_change(actor=actor(ada), tenant_id=estate.tenant.pk, title="Mine", at=NOW)

    found = changes_page(scope_of(actor(ada))).rows

    assert [row.pk for row in found] == [mine.pk, on_staging.pk]
    assert ChangeRequest.objects.count() == 3
