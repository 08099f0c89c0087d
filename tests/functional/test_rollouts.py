"""The list of rollouts."""

from __future__ import annotations

import pytest

from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import Run
from deployments.queries import watching
from tests.factories import NOW, advance_to
from tests.factories.rollout import live_run
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db


def test_what_is_under_way_stands_before_what_ended(estate, signed_in) -> None:
    live = live_run(estate, at=NOW)
    closed = advance_to(estate, ChangeState.CLOSED, title="Shorter bake")

    text = signed_in(estate.dee).get("/rollouts/").text

    assert "1 rollout under way" in text
    assert text.index(live.change.number) < text.index(closed.number)


def test_strangers_see_no_run_and_no_count(estate, eve, signed_in) -> None:
    live_run(estate, at=NOW, title="Secret of Northwind")

    text = signed_in(eve).get("/rollouts/").text

    assert "Nothing is under way." in text
    assert "Secret of Northwind" not in text


def test_list_costs_the_same_with_one_run_and_three(estate, signed_in) -> None:
    client = signed_in(estate.cy)
    advance_to(estate, ChangeState.CLOSED)
    one = statements(client, "/rollouts/")

    advance_to(estate, ChangeState.CLOSED)
    advance_to(estate, ChangeState.CLOSED)
    three = statements(client, "/rollouts/")

    assert one == three <= 12


def test_ended_runs_are_paged_by_key(estate, signed_in, monkeypatch) -> None:
    monkeypatch.setattr(watching, "PAGE_SIZE", 2)
    changes = [advance_to(estate, ChangeState.CLOSED, title=f"Number {number}") for number in range(3)]
    client = signed_in(estate.cy)

    first = client.get("/rollouts/")
    second = client.get(first.context["older_url"])

    assert [row["change"].pk for row in first.context["ended"]] == [changes[2].pk, changes[1].pk]
    assert [row["change"].pk for row in second.context["ended"]] == [changes[0].pk]
    assert client.get(second.context["newer_url"]).context["ended"][0]["change"] == changes[2]
    assert Run.objects.count() == 3
