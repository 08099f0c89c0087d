"""When work may go on, read from the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changecontrol.access import scope_of
from changecontrol.errors import Invalid
from changecontrol.models import Freeze, Window
from changecontrol.queries.audit import AuditFilter, audit_page
from changecontrol.queries.inbox import home_of
from changecontrol.queries.windows import calendar_spans, is_start_allowed, judge_change, next_openings
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    advance_to,
    authorized_change,
    draft_change,
    scheduled_change,
    small_estate,
    submitted_change,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def window(estate: SmallEstate, **words: Any) -> Window:
    return Window.objects.create(
        **{
            "tenant": estate.tenant,
            "name": "Nights",
            "starts_local": datetime(2026, 11, 1, 2, tzinfo=UTC),
            "duration_seconds": 10_800,
            "rrule": "FREQ=DAILY",
            "created_at": NOW,
            **words,
        }
    )


def verdicts(estate: SmallEstate, at: datetime) -> dict[str, str]:
    change = submitted_change(estate)
    found = judge_change(change, at=at, wave=0)
    return {one.zone: str(one.judgement.verdict) for one in found}


def test_a_window_in_the_stores_own_zone_opens_in_each_in_turn(estate: SmallEstate) -> None:  # WIN-2
    window(estate)

    # Berlin is an hour ahead of Lisbon: 02:00 there is 01:00 UTC.
    assert verdicts(estate, datetime(2026, 11, 25, 1, 30, tzinfo=UTC)) == {
        "Europe/Berlin": "open",
        "Europe/Lisbon": "closed",
    }
    assert verdicts(estate, datetime(2026, 11, 25, 4, 30, tzinfo=UTC)) == {
        "Europe/Berlin": "closed",
        "Europe/Lisbon": "open",
    }


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"stage": "production"}, "closed"),
        ({"stage": "staging"}, "open"),
        ({"is_active": False}, "open"),
        ({"tenant": None}, "closed"),
    ],
)
def test_a_blackout_holds_where_it_says(estate: SmallEstate, narrowed: dict[str, Any], expected: str) -> None:  # WIN-4
    window(estate, effect="deny", zone="UTC", **narrowed)

    assert set(verdicts(estate, datetime(2026, 11, 25, 3, tzinfo=UTC)).values()) == {expected}


def test_a_freeze_beats_an_open_window_until_it_is_lifted(estate: SmallEstate) -> None:  # WIN-4
    window(estate, zone="UTC")
    at = datetime(2026, 11, 25, 3, tzinfo=UTC)
    freeze = Freeze.objects.create(
        name="Peak", reason="Sales.", starts_at=at, ends_at=at + timedelta(hours=1), opened_by=estate.ben
    )

    assert set(verdicts(estate, at).values()) == {"frozen"}
    Freeze.objects.filter(pk=freeze.pk).update(lifted_at=at, lifted_by=estate.ben)
    assert set(verdicts(estate, at).values()) == {"open"}


def test_a_start_is_allowed_where_one_zone_of_the_first_wave_is_open(estate: SmallEstate) -> None:  # WIN-2, WIN-5
    window(estate)
    change = submitted_change(estate)

    def allowed(hour: int) -> bool:
        return is_start_allowed(judge_change(change, at=datetime(2026, 11, 25, hour, 30, tzinfo=UTC)))

    assert [allowed(hour) for hour in (0, 1, 3, 4, 5)] == [False, True, True, True, False]


def test_judging_takes_the_same_statements_for_one_target_as_for_many(estate: SmallEstate) -> None:
    counts = []
    for environments in (["staging"], ["development", "staging", "production"]):
        change = submitted_change(estate, environments=environments)
        with CaptureQueriesContext(connection) as queries:
            judge_change(change, at=NOW)
        counts.append(len(queries))

    assert counts[0] == counts[1]


def test_ten_openings_are_shown_in_each_zone(estate: SmallEstate) -> None:  # WIN-1
    found = next_openings(window(estate), at=NOW, zones=["Europe/Lisbon", "Europe/Berlin"])

    assert {zone: len(rows) for zone, rows in found.items()} == {"Europe/Berlin": 10, "Europe/Lisbon": 10}
    first = found["Europe/Berlin"][0]
    assert (first.starts_at.isoformat(), first.local_start.hour) == ("2026-11-24T01:00:00+00:00", 2)


def test_the_calendar_shows_windows_freezes_and_changes_in_sight(estate: SmallEstate) -> None:
    change = scheduled_change(estate, planned_start_at=(NOW + timedelta(hours=1)).isoformat())
    window(estate, zone="UTC")
    tomorrow, later = NOW + timedelta(days=1), NOW + timedelta(days=9)
    Freeze.objects.create(name="Peak", reason="Sales.", starts_at=tomorrow, ends_at=later, opened_by=estate.ben)

    spans = calendar_spans(scope_of(actor(estate.dee)), start=NOW, end=NOW + timedelta(days=2))

    assert [(one.kind, one.name) for one in spans] == [
        ("change", str(change)), ("allow", "Nights"), ("freeze", "Peak"), ("allow", "Nights"),
    ]  # fmt: skip


def test_a_calendar_is_bounded(estate: SmallEstate) -> None:
    scope = scope_of(actor(estate.dee))

    for end in (NOW, NOW + timedelta(days=63)):
        with pytest.raises(Invalid):
            calendar_spans(scope, start=NOW, end=end)


def test_home_shows_each_what_needs_them_first(estate: SmallEstate) -> None:
    draft = draft_change(estate)
    back = advance_to(estate, "rejected")
    waiting = authorized_change(estate)
    running = advance_to(estate, "implementing")
    run = running.runs.get()
    run.__class__.objects.filter(pk=run.pk).update(state="paused", sentence="Two pods never started.")

    of_ada = home_of(actor(estate.ada), scope_of(actor(estate.ada)), at=NOW)
    of_cy = home_of(actor(estate.cy), scope_of(actor(estate.cy)), at=NOW)

    assert set(of_ada.drafts) == {draft, back}
    assert of_ada.decisions == ()
    assert [one.change for one in of_cy.decisions] == [waiting]
    assert of_cy.drafts == ()
    assert of_cy.running == (running,)
    assert [one.sentence for one in of_cy.alarms] == ["Two pods never started."]


def test_every_event_is_on_exactly_one_page(estate: SmallEstate) -> None:
    scheduled_change(estate)
    scope = scope_of(actor(estate.dee))
    everything = [row.event.pk for row in audit_page(scope, size=500).rows]

    walked: list[int] = []
    before = None
    while True:
        page = audit_page(scope, size=3, before=before)
        walked += [row.event.pk for row in page.rows]
        if page.older is None:
            break
        before = page.older
    back = audit_page(scope, size=3, after=walked[-1])

    assert walked == everything == sorted(everything, reverse=True)
    assert [row.event.pk for row in back.rows] == everything[-4:-1]


@pytest.mark.parametrize(
    ("wanted", "tags"),
    [
        (AuditFilter(tag="change:approval:cast"), ["change:approval:cast"] * 2),
        (AuditFilter(tag="change:draft"), ["change:draft:saved"]),
        (AuditFilter(tag="chang"), []),
        (AuditFilter(actor="ben"), ["change:scheduled", "change:approval:round_ended", "change:approval:cast"]),
        (AuditFilter(tag="change:created", since=NOW), ["change:created"]),
        (AuditFilter(tag="change:created", until=NOW), []),
        (AuditFilter(tenant="kite"), []),
    ],
)
def test_the_trail_is_filtered(estate: SmallEstate, wanted: AuditFilter, tags: list[str]) -> None:
    scheduled_change(estate)

    page = audit_page(scope_of(actor(estate.dee)), wanted=wanted)

    assert [row.event.tag for row in page.rows] == tags
