"""The list of changes: filtered, searched, paged by key, and never a word of what one may not see."""

from __future__ import annotations

import pytest
from django.urls import reverse

from changecontrol.queries import changes as queries
from tests.factories import authorized_change, draft_change, stranger_estate

pytestmark = pytest.mark.django_db


def titles(answer) -> list[str]:
    return [row["title"] for row in answer.context["rows"]]


def test_list_pages_by_key_in_both_directions(estate, signed_in, monkeypatch) -> None:
    for number in range(5):
        draft_change(estate, title=f"Change {number}")
    monkeypatch.setattr(
        queries.changes_page, "__kwdefaults__", {**(queries.changes_page.__kwdefaults__ or {}), "size": 2}
    )
    ada = signed_in(estate.ada)

    first = ada.get(reverse("changes"), {"state": "draft"})
    second = ada.get(first.context["older_url"])
    third = ada.get(second.context["older_url"])
    back = ada.get(third.context["newer_url"])

    pages = [["Change 4", "Change 3"], ["Change 2", "Change 1"], ["Change 0"], ["Change 2", "Change 1"]]
    assert [titles(one) for one in (first, second, third, back)] == pages
    assert (first.context["newer_url"], third.context["older_url"]) == ("", "")
    assert "state=draft" in second.context["older_url"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"q": "reorder"}, ["Faster reorder proposals"]),
        ({"q": "no such words"}, []),
        ({"state": "draft"}, ["Log level"]),
        ({"state": "authorize"}, ["Faster reorder proposals"]),
        ({"stage": "production"}, ["Faster reorder proposals"]),
        ({"tier": "2"}, ["Faster reorder proposals"]),
        ({"person": "ada"}, ["Log level", "Faster reorder proposals"]),
        ({"person": "ben"}, []),
        ({"tenant": "northwind"}, ["Log level", "Faster reorder proposals"]),
        ({"state": "nonsense", "tier": "x"}, ["Log level", "Faster reorder proposals"]),
    ],
)
def test_filter_narrows(estate, signed_in, wanted: dict[str, str], found: list[str]) -> None:
    authorized_change(estate)
    draft_change(estate, title="Log level")

    answer = signed_in(estate.ben).get(reverse("changes"), wanted)

    assert titles(answer) == found


def test_stranger_finds_nothing_of_another_tenant(estate, signed_in) -> None:
    _, eve = stranger_estate()
    change = authorized_change(estate, title="Only for Northwind")

    answers = [signed_in(eve).get(reverse("changes"), {"q": text}) for text in ("", "Northwind", change.number)]

    assert [titles(answer) for answer in answers] == [[], [], []]
    assert "Northwind" not in answers[0].text


def test_list_costs_the_same_however_many_rows(estate, signed_in, django_assert_num_queries) -> None:
    ada = signed_in(estate.ada)
    authorized_change(estate)
    with django_assert_num_queries(6) as one:
        ada.get(reverse("changes"))
    authorized_change(estate)
    authorized_change(estate)

    with django_assert_num_queries(len(one)):
        answer = ada.get(reverse("changes"))

    assert len(titles(answer)) == 3


def test_empty_list_says_what_to_do_next(estate, signed_in) -> None:
    ada, dee = (signed_in(person).get(reverse("changes")) for person in (estate.ada, estate.dee))

    assert "File the first one" in ada.text
    assert "New change" not in dee.text
