"""The calendar: what it shows of two weeks, and to whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, Freeze, Window
from tests.factories import NOW, advance_to
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db


def planned(estate: Any, title: str, *, start: Any = NOW + timedelta(days=1)) -> ChangeRequest:
    change = advance_to(estate, ChangeState.SCHEDULED, title=title)
    ChangeRequest.objects.filter(pk=change.pk).update(planned_start_at=start, planned_end_at=start + timedelta(hours=1))
    return change


def window(estate: Any, name: str = "Northwind night", **fields: Any) -> Window:
    columns = {
        "tenant": estate.tenant,
        "name": name,
        "rrule": "FREQ=DAILY",
        "starts_local": (NOW - timedelta(days=3)).replace(hour=2, minute=0),
        "duration_seconds": 3 * 3600,
        "created_at": NOW,
        **fields,
    }
    return Window.objects.create(**columns)


def freeze(estate: Any, **fields: Any) -> Freeze:
    columns = {
        "tenant": estate.tenant,
        "name": "Peak trading",
        "reason": "The busiest week",
        "starts_at": NOW + timedelta(days=2),
        "ends_at": NOW + timedelta(days=9),
        "opened_by": estate.ben,
        **fields,
    }
    return Freeze.objects.create(**columns)


def test_chart_and_table_say_the_same(estate, signed_in) -> None:
    change = planned(estate, "Provision store Braga 2")
    window(estate)
    freeze(estate)

    answer = signed_in(estate.ben).get("/calendar/")

    lanes = [lane for lane in answer.context["lanes"] if lane["note"].endswith("stores") and lane["windows"]]
    assert [item["label"] for item in lanes[0]["changes"]] == [change.number]
    assert [block["kind"] for block in lanes[0]["blocks"]] == ["freeze"]
    # One opening a night in each of two zones; those that begin while the freeze holds are outlines.
    assert {one["is_held"] for one in lanes[0]["windows"]} == {True, False}
    assert {row["name"] for row in answer.context["entries"]} == {change.number, "Northwind night", "Peak trading"}
    assert "In the zones" not in answer.text or answer.context["night"]


def test_a_window_on_the_stores_own_clocks_opens_once_in_each_zone(estate, signed_in) -> None:  # WIN-2
    window(estate)

    night = signed_in(estate.ben).get("/calendar/").context["night"]

    rows = [row for row in night["rows"] if row["kind"] == "window"]
    assert {row["label"] for row in rows} == {"Northwind night, Berlin", "Northwind night, Lisbon"}
    assert len({row["start"] for row in rows}) == 2


def test_two_changes_at_one_place_are_a_conflict(estate, signed_in) -> None:
    first, second = planned(estate, "One"), planned(estate, "Other")

    answer = signed_in(estate.ben).get("/calendar/")

    assert "1 conflict needs a decision." in answer.text
    assert f"{first.number} and {second.number} want production." in answer.text


def test_a_start_inside_a_freeze_is_a_conflict(estate, signed_in) -> None:
    change = planned(estate, "Late", start=NOW + timedelta(days=3))
    freeze(estate)

    assert f"{change.number} falls into a freeze" in signed_in(estate.ben).get("/calendar/").text


def test_strangers_see_nothing_of_it(estate, eve, signed_in) -> None:
    planned(estate, "Secret of Northwind")
    window(estate)
    freeze(estate)

    advance_to(estate, ChangeState.SCHEDULED, title="Another secret of Northwind")

    text = signed_in(eve).get("/calendar/").text

    assert "Northwind" not in text
    assert "Peak trading" not in text
    assert "Nothing clashes." in text


@pytest.mark.parametrize("asked", ["2026-12-24", "nonsense", "9999-12-31", "0001-01-01", ""])
def test_any_day_may_be_asked_for(estate, signed_in, asked: str) -> None:
    answer = signed_in(estate.ben).get("/calendar/", {"from": asked})

    assert answer.status_code == 200
    assert len(answer.context["axis"]["days"]) == 14
    assert ("24 December" in answer.text) is (asked == "2026-12-24")


def test_calendar_costs_the_same_with_one_of_each_and_three(estate, signed_in) -> None:
    client = signed_in(estate.ben)
    planned(estate, "One")
    advance_to(estate, ChangeState.SCHEDULED)
    window(estate)
    freeze(estate)
    one = statements(client, "/calendar/")

    for number in range(2):
        planned(estate, f"More {number}", start=NOW + timedelta(days=5 + number))
        advance_to(estate, ChangeState.SCHEDULED)
        window(estate, f"Night {number}")
        freeze(estate, name=f"Freeze {number}")
    three = statements(client, "/calendar/")

    assert one == three <= 20


def test_changes_without_a_planned_start_say_when_they_may_begin(estate, signed_in) -> None:
    waiting = advance_to(estate, ChangeState.SCHEDULED, title="As soon as it may")
    asked = advance_to(estate, ChangeState.AUTHORIZE, title="Not approved yet")
    held = advance_to(estate, ChangeState.ON_HOLD, title="On hold")
    draft = advance_to(estate, ChangeState.DRAFT, title="Nobody was asked")
    window(estate)

    now, later = (signed_in(estate.ben).get("/calendar/", asked) for asked in ({}, {"from": "2027-02-01"}))

    rows = {row["change"].number: row for row in now.context["waiting"]}
    # 02:00 on the stores' own clocks: Berlin is the first to open, an hour before UTC.
    opening = (NOW + timedelta(days=1)).replace(hour=1, minute=0)
    assert draft.number not in rows
    assert (rows[waiting.number]["opens_at"], rows[waiting.number]["when"]) == (opening, "")
    assert (rows[asked.number]["opens_at"], rows[asked.number]["when"]) == (opening, "once it is approved")
    assert (rows[held.number]["opens_at"], rows[held.number]["when"]) == (None, "not while it is on hold")
    assert later.context["waiting"] == []


def test_a_change_that_may_begin_now_says_so(estate, signed_in) -> None:
    change = advance_to(estate, ChangeState.SCHEDULED)
    window(estate, starts_local=(NOW - timedelta(days=3)).replace(hour=0, minute=0), duration_seconds=24 * 3600)

    row = signed_in(estate.ben).get("/calendar/").context["waiting"][0]

    assert (row["change"], row["when"], row["opens_at"]) == (change, "now", None)
