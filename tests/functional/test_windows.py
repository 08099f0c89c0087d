"""Windows and freezes: written, read, edited with a reason, lifted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from changecontrol import access
from changecontrol.models import AuditEvent, Freeze, Window
from changecontrol.rules.roles import Role
from tests.factories import NOW
from tests.functional.counting import statements
from tests.functional.test_calendar import freeze, planned, window

pytestmark = pytest.mark.django_db


@pytest.fixture
def administrator(estate: Any) -> Any:
    for role in (Role.TENANT_ADMINISTRATOR, Role.FREEZE_OWNER):
        access.grant_role(estate.ben, role, estate.tenant)
    return estate.ben


def answers(estate: Any, **changed: Any) -> dict[str, Any]:
    return {
        "tenant": estate.tenant.pk,
        "name": "Northwind night",
        "effect": "allow",
        "starts_local": "2026-11-24T02:00",
        "hours": "3",
        "minutes": "0",
        "zone": "",
        "repeats": "weekly",
        "days": ["TU", "TH"],
        "stage": "production",
        **changed,
    }


def test_window_is_made_of_days_and_hours(estate, administrator, signed_in) -> None:
    answer = signed_in(administrator).post("/windows/new/", answers(estate, excluded="2026-12-24 02:00"))

    made = Window.objects.get()
    assert answer.url == f"/windows/{made.pk}/"
    assert (made.rrule, made.duration_seconds, made.zone, made.stage) == (
        "FREQ=WEEKLY;BYDAY=TU,TH",
        10800,
        "",
        "production",
    )
    assert made.starts_local.isoformat() == "2026-11-24T02:00:00+00:00"
    assert made.excluded_local == ["2026-12-24T02:00:00"]
    assert AuditEvent.objects.filter(tag="window:created", tenant=estate.tenant).count() == 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": ""}, "This field is required."),
        ({"days": []}, "Choose at least one day."),
        ({"hours": "0"}, "A window lasts up to 14 days."),
        ({"repeats": "own", "rrule": "FREQ=SECONDLY"}, "FREQ"),
        ({"excluded": "soon"}, "“soon” is no day and time"),
    ],
)
def test_what_does_not_hold_is_said_beside_its_field(
    estate, administrator, signed_in, changed: dict[str, Any], sentence: str
) -> None:
    answer = signed_in(administrator).post("/windows/new/", answers(estate, **changed))

    assert answer.status_code == 422
    assert sentence in answer.text
    assert "<title>Error: New window" in answer.text
    assert not Window.objects.exists()


def test_window_shows_its_next_ten_openings_on_both_clocks(estate, signed_in) -> None:  # WIN-1
    one = window(estate)

    answer = signed_in(estate.ben).get(f"/windows/{one.pk}/")

    rows = answer.context["openings"]
    assert len(rows) == 10
    assert {row["zone"] for row in rows} == {"Berlin", "Lisbon"}
    assert rows[0]["local"] == "Tue 24 Nov 02:00\N{NO-BREAK SPACE}CET to 05:00\N{NO-BREAK SPACE}CET"
    assert rows[0]["own"] == "Tue 24 Nov 01:00\N{NO-BREAK SPACE}UTC to 04:00\N{NO-BREAK SPACE}UTC"


def test_window_names_what_waits_for_it(estate, signed_in) -> None:
    change = planned(estate, "Provision store Braga 2")

    text = signed_in(estate.ben).get(f"/windows/{window(estate).pk}/").text

    assert change.number in text
    assert "Northwind staging" in text


def test_edit_needs_a_reason_and_tells_every_difference(estate, administrator, signed_in) -> None:
    one = window(estate)
    client = signed_in(administrator)
    changed = answers(estate, version="1", is_active="on", repeats="daily", starts_local="2026-11-20T02:00", hours="4")

    without = client.post(f"/windows/{one.pk}/edit/", changed)
    edited = client.post(f"/windows/{one.pk}/edit/", {**changed, "reason": "Deliveries come later."})
    stale = client.post(f"/windows/{one.pk}/edit/", {**changed, "hours": "5", "reason": "Again."})

    assert (without.status_code, edited.status_code, stale.status_code) == (422, 302, 409)
    one.refresh_from_db()
    assert (one.version, one.duration_seconds, one.reason) == (2, 4 * 3600, "Deliveries come later.")
    assert "Somebody else edited this window meanwhile" in stale.text
    event = AuditEvent.objects.get(tag="window:changed")
    assert '"duration_seconds":[10800,14400]' in event.body


def test_a_form_sent_back_unchanged_changes_nothing(estate, administrator, signed_in) -> None:
    one = window(estate, excluded_local=["2026-12-24T02:00:00"], added_local=["2026-12-26T02:00:00"])
    client = signed_in(administrator)
    form = client.get(f"/windows/{one.pk}/edit/").context["form"]
    sent = {field.html_name: field.value() for field in form if field.value() not in (None, False)}
    sent["starts_local"] = form["starts_local"].value().strftime("%Y-%m-%dT%H:%M")

    client.post(f"/windows/{one.pk}/edit/", {**sent, "reason": "Nothing."})

    one.refresh_from_db()
    assert one.version == 1


def test_a_form_sent_back_keeps_the_seconds_that_a_program_set(estate, administrator, signed_in) -> None:
    made = window(
        estate,
        starts_local=NOW.replace(hour=2, minute=30, second=15),
        duration_seconds=3 * 3600 + 61,
        excluded_local=["2026-12-24T02:30:15", "2026-12-25T02:30:00"],
    )
    form = signed_in(administrator).get(f"/windows/{made.pk}/edit/").context["form"]
    sent = {name: shown for name in form.fields if (shown := form[name].value()) not in (None, "")}
    sent["starts_local"] = form["starts_local"].field.widget.format_value(form["starts_local"].value())

    signed_in(administrator).post(f"/windows/{made.pk}/edit/", {**sent, "name": "Renamed", "reason": "A better name."})

    again = Window.objects.get(pk=made.pk)
    assert (again.name, again.starts_local, again.duration_seconds) == (
        "Renamed",
        made.starts_local,
        made.duration_seconds,
    )
    assert again.excluded_local == made.excluded_local


def test_who_may_not_write_windows_is_told_who_may(estate, signed_in) -> None:
    one = window(estate)
    client = signed_in(estate.ada)

    assert client.get("/windows/new/").status_code == 403
    assert client.get(f"/windows/{one.pk}/edit/").status_code == 403
    assert "Edit window" not in client.get(f"/windows/{one.pk}/").text
    assert "New window" not in client.get("/calendar/").text


def test_hidden_window_and_freeze_answer_like_missing_ones(estate, eve, signed_in) -> None:
    one, other = window(estate), freeze(estate)
    client = signed_in(eve)

    assert [client.get(path).status_code for path in (f"/windows/{one.pk}/", "/windows/9999/")] == [404, 404]
    assert client.post(f"/freezes/{other.pk}/lift/", {"reason": "x"}).status_code == 404
    assert Freeze.objects.get().lifted_at is None


def test_freeze_is_opened_and_lifted_with_reasons(estate, administrator, signed_in) -> None:
    administrator.zone = "Europe/Lisbon"
    administrator.save()
    client = signed_in(administrator)
    wanted = {
        "tenant": estate.tenant.pk,
        "name": "Peak trading",
        "reason": "The busiest week",
        "starts_at": "2026-11-25T00:00",
        "ends_at": "2026-12-02T00:00",
    }

    backwards = client.post("/freezes/new/", {**wanted, "ends_at": "2026-11-24T00:00"})
    opened = client.post("/freezes/new/", wanted)
    one = Freeze.objects.get()
    mute = client.post(f"/freezes/{one.pk}/lift/", {"reason": " "}, follow=True)
    lifted = client.post(f"/freezes/{one.pk}/lift/", {"reason": "Stock came early."}, follow=True)

    assert (backwards.status_code, opened.status_code) == (422, 302)
    assert one.ends_at - one.starts_at == timedelta(days=7)
    assert "Say why the freeze ends early." in mute.text
    assert "is lifted" in lifted.text
    assert Freeze.objects.get().lifted_at == NOW


def test_window_page_costs_the_same_with_one_change_and_three(estate, signed_in) -> None:
    one = window(estate)
    client = signed_in(estate.ben)
    planned(estate, "One")
    first = statements(client, f"/windows/{one.pk}/")

    planned(estate, "Two")
    planned(estate, "Three")

    assert statements(client, f"/windows/{one.pk}/") == first <= 12
