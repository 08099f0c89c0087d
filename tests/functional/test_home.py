"""Home: what needs this person first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import Freeze
from tests.factories import NOW, add_person, advance_to, authorized_change, draft_change
from tests.factories.rollout import live_run
from tests.functional.test_calendar import freeze

pytestmark = pytest.mark.django_db


def heading(answer) -> str:
    return str(answer.context["title"])


def test_heading_says_what_each_needs_first(estate, signed_in) -> None:
    authorized_change(estate)
    advance_to(estate, ChangeState.REJECTED, title="Larger worker pool")

    people = (estate.cy, estate.ada, estate.dee)
    answers = [signed_in(person).get(reverse("home")) for person in people]

    assert [heading(answer) for answer in answers] == [
        "1 change needs your decision",
        "1 change came back to you",
        "Nothing needs you now",
    ]
    assert "Faster reorder proposals" in answers[0].text
    assert "Larger worker pool" in answers[1].text
    assert "Larger worker pool" not in answers[2].text


def test_running_change_is_shown_with_its_waves(estate, signed_in) -> None:
    change = advance_to(estate, ChangeState.IMPLEMENTING)

    answer = signed_in(estate.dee).get(reverse("home"))

    assert heading(answer) == "1 rollout is running"
    assert change.number in answer.text


def test_home_costs_the_same_however_many_rows(estate, signed_in, django_assert_max_num_queries) -> None:
    cy = signed_in(estate.cy)
    for number in range(2):
        authorized_change(estate, title=f"Change {number}")
        draft_change(estate)
        advance_to(estate, ChangeState.IMPLEMENTING)
    with django_assert_max_num_queries(60) as few:
        cy.get(reverse("home"))
    for number in range(3):
        authorized_change(estate, title=f"More {number}")
        draft_change(estate)
        advance_to(estate, ChangeState.IMPLEMENTING)

    with django_assert_max_num_queries(len(few)):
        cy.get(reverse("home"))


def test_person_without_a_role_sees_nothing_and_why(estate, signed_in) -> None:
    authorized_change(estate)

    answer = signed_in(add_person("eve")).get(reverse("home"))

    assert "You hold no role yet." in answer.text
    assert "Northwind" not in answer.text


@pytest.mark.parametrize(("is_demo", "status"), [(True, 200), (False, 404)])
def test_guide_exists_in_the_demo_only(estate, signed_in, settings, is_demo: bool, status: int) -> None:
    settings.DEMO = is_demo
    good = draft_change(estate, title="Odoo 19.0 of 20 November: POS session close fix")

    answer = signed_in(estate.ada).get(reverse("first-run"))

    assert answer.status_code == status
    assert (good.get_absolute_url() in answer.text) is is_demo


def test_counts_beside_the_navigation_say_what_waits_for_whom(estate, eve, signed_in) -> None:
    authorized_change(estate)
    live_run(estate, at=NOW)

    cy, ben, stranger = (signed_in(one).get("/waiting/").context["counts"] for one in (estate.cy, estate.ben, eve))

    assert [[one["count"] for one in counts] for counts in (cy, ben, stranger)] == [[1, 1], [0, 1], [0, 0]]


def test_a_freeze_stands_in_the_frame_of_every_page_while_it_holds_and_shortly_before(estate, eve, signed_in) -> None:
    freeze(estate, name="Peak trading", starts_at=NOW + timedelta(days=1, hours=11), ends_at=NOW + timedelta(days=9))
    ben = signed_in(estate.ben)

    soon = ben.get("/waiting/").text
    Freeze.objects.update(starts_at=NOW - timedelta(hours=1))
    now = ben.get("/waiting/").text
    Freeze.objects.update(lifted_at=NOW, lifted_by=estate.ben)
    lifted, hidden = ben.get("/waiting/").text, signed_in(eve).get("/waiting/").text

    assert "Peak trading freeze in 1\u00a0d 11\u00a0h" in soon
    assert "Peak trading freeze, 9\u00a0d left" in now
    assert "Peak trading" not in lifted + hidden
