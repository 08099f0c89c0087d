"""The list of rollouts."""

from __future__ import annotations

import pytest

from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import Run
from deployments.queries.watching import PAGE_SIZE
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


def test_ended_runs_are_paged_by_key(estate, signed_in) -> None:
    change = advance_to(estate, ChangeState.CLOSED)
    first = Run.objects.get(change=change)
    Run.objects.bulk_create(
        Run(change=change, revision=first.revision, plan=first.plan, kind="rollout", state="succeeded", created_at=NOW)
        for _ in range(PAGE_SIZE)
    )
    client = signed_in(estate.cy)

    newest = client.get("/rollouts/")
    oldest = client.get(newest.context["older_url"])
    again = client.get(oldest.context["newer_url"])

    assert len(newest.context["ended"]) == PAGE_SIZE
    assert [row["run"] for row in oldest.context["ended"]] == [first]
    assert oldest.context["older_url"] == ""
    assert [row["run"] for row in again.context["ended"]] == [row["run"] for row in newest.context["ended"]]
