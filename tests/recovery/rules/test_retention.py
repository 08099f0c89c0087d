from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.rules.coverage import Segment
from recovery.rules.retention import Keep, KeptPoint, plan_retention, plan_wal

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)


def daily(count: int) -> list[KeptPoint]:
    """Return points of the last so many days at 02:00, the newest called d0."""
    return [KeptPoint(f"d{number}", AT.replace(hour=2) - timedelta(days=number)) for number in range(count)]


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        (Keep(last=1), {0}),
        (Keep(last=3), {0, 1, 2}),
        (Keep(last=1, daily=4), {0, 1, 2, 3}),
        # Monday 23 November; the newest of each week is its Sunday, but of this one Monday itself.
        (Keep(last=1, weekly=3), {0, 1, 8}),
        # The newest of each month: 23 November, 31 October, 30 September.
        (Keep(last=1, monthly=3), {0, 23, 54}),
        (Keep(last=2, daily=3, weekly=2, monthly=2), {0, 1, 2, 23}),
    ],
)
def test_what_is_counted_stays(keep: Keep, stays: set[int]) -> None:
    found = plan_retention(daily(60), keep=keep, at=AT)

    assert set(found.stays) == {f"d{number}" for number in stays}
    assert len(found.goes) == 60 - len(stays)


def test_pci_keeps_one_of_each_of_twelve_months() -> None:
    found = plan_retention(daily(500), keep=Keep(last=1, is_pci=True), at=AT)

    months = [(AT - timedelta(days=int(key[1:]))).strftime("%Y-%m") for key in found.stays]
    assert months == ["2026-11", "2026-10", "2026-09", "2026-08", "2026-07", "2026-06", "2026-05", "2026-04",
                      "2026-03", "2026-02", "2026-01", "2025-12", "2025-11"]  # fmt: skip
    assert found.stays["d23"] == ("It is the newest of its month, and PCI DSS wants 12 months.",)


def test_days_are_those_of_the_zone() -> None:
    """23:30 UTC on Sunday is Monday in Berlin."""
    late = KeptPoint("late", datetime(2026, 11, 22, 23, 30, tzinfo=UTC))
    early = KeptPoint("early", datetime(2026, 11, 23, 2, tzinfo=UTC))

    assert plan_retention([late, early], keep=Keep(last=1, daily=2, zone="Europe/Berlin"), at=AT).goes == ("late",)
    assert plan_retention([late, early], keep=Keep(last=1, daily=2), at=AT).goes == ()


def test_point_of_the_first_year_has_a_day_in_every_zone() -> None:
    first = KeptPoint("first", datetime.min.replace(tzinfo=UTC))
    keep = Keep(last=1, daily=2, weekly=2, monthly=2, zone="America/New_York", is_pci=True)

    assert plan_retention([first, KeptPoint("late", AT)], keep=keep, at=AT).stays.keys() == {"first", "late"}


def test_each_point_that_stays_has_its_reasons() -> None:
    base = KeptPoint("base", AT - timedelta(days=9))
    proved = KeptPoint("proved", AT - timedelta(days=8), is_verified=True)
    held = KeptPoint("held", AT - timedelta(days=7), hold="Case 7")
    locked = KeptPoint("locked", AT - timedelta(days=6), locked_until=AT + timedelta(days=1))
    read = KeptPoint("read", AT - timedelta(days=5, hours=1), is_in_use=True)
    free = KeptPoint("free", AT - timedelta(days=5), locked_until=AT)
    incremental = KeptPoint("incremental", AT, needs=frozenset({"base"}))

    found = plan_retention([base, proved, held, locked, read, free, incremental], keep=Keep(last=1), at=AT)

    assert found.goes == ("free",)
    assert found.stays == {
        "incremental": ("It is the last one.",),
        "read": ("A restore or a drill reads it.",),
        "locked": ("It counts as locked until 24 Nov 2026 10:00:00 UTC.",),
        "held": ("Legal hold “Case 7” names it.",),
        "proved": ("It is the last verified point.",),
        "base": ("incremental, which stays, cannot be restored without it.",),
    }


def test_a_chain_stays_whole_and_what_goes_is_named_dependants_first() -> None:
    chain = [
        replace(one, needs=frozenset({f"d{number + 1}"}) if number % 4 != 3 else frozenset())
        for number, one in enumerate(daily(8))
    ]

    found = plan_retention(chain, keep=Keep(last=1), at=AT)

    assert set(found.stays) == {"d0", "d1", "d2", "d3"}
    assert found.goes == ("d4", "d5", "d6", "d7")


@st.composite
def points(draw: st.DrawFn) -> list[KeptPoint]:
    """Draw points in which each may need some earlier one."""
    found: list[KeptPoint] = []
    for number in range(draw(st.integers(0, 14))):
        needs = draw(st.sampled_from(["", *(one.key for one in found)]))
        found.append(
            KeptPoint(
                key=f"p{number}",
                taken_at=AT - timedelta(hours=draw(st.integers(0, 24 * 500))) if not needs else AT,
                needs=frozenset({needs} if needs else ()),
                is_verified=draw(st.booleans()),
                hold=draw(st.sampled_from(["", "Case 7"])),
                locked_until=draw(st.sampled_from([None, AT + timedelta(days=1)])),
            )
        )
    return found


counts = st.integers(0, 4)
keeps = st.builds(Keep, last=st.integers(1, 4), daily=counts, weekly=counts, monthly=counts, is_pci=st.booleans())


@given(points(), keeps)
def test_retention_keeps_its_promises(points: list[KeptPoint], keep: Keep) -> None:
    found = plan_retention(points, keep=keep, at=AT)
    stays = [one for one in points if one.key in found.stays]

    assert sorted([*found.goes, *found.stays]) == sorted(one.key for one in points)
    assert all(found.stays.values())
    for one in stays:
        assert one.needs <= found.stays.keys()
    for one in points:
        if one.hold or one.locked_until:
            assert one.key in found.stays
    newest_verified = max(
        (one for one in points if one.is_verified), key=lambda one: (one.taken_at, one.key), default=None
    )
    assert newest_verified is None or newest_verified.key in found.stays
    assert len(found.stays) >= min(keep.last, len(points))


@given(points(), keeps)
def test_planning_again_lets_nothing_more_go(points: list[KeptPoint], keep: Keep) -> None:
    first = plan_retention(points, keep=keep, at=AT)

    again = plan_retention([one for one in points if one.key in first.stays], keep=keep, at=AT)

    assert again.goes == ()


@given(points(), keeps)
def test_keeping_more_never_lets_more_go(points: list[KeptPoint], keep: Keep) -> None:
    more = replace(keep, last=keep.last + 1, daily=keep.daily + 1, is_pci=True)

    assert set(plan_retention(points, keep=more, at=AT).goes) <= set(plan_retention(points, keep=keep, at=AT).goes)


def wal(count: int) -> list[Segment]:
    return [Segment(1, 10 * number, 10 * number + 10, AT) for number in range(count)]


def test_wal_goes_up_to_the_oldest_of_the_last_but_for_what_an_older_point_needs() -> None:
    old = KeptPoint("old", AT - timedelta(days=30), start_lsn=15, stop_lsn=25)
    last = KeptPoint("last", AT - timedelta(days=1), start_lsn=65, stop_lsn=75)

    gone = plan_wal(wal(10), points=[old, last], keep=Keep(last=1), holds_everything=False)

    assert [one.start_lsn for one in gone] == [0, 30, 40, 50]


@pytest.mark.parametrize(("points", "holds"), [([], False), ([KeptPoint("last", AT, start_lsn=65, stop_lsn=75)], True)])
def test_no_wal_goes_under_a_hold_or_where_no_point_stays(points: list[KeptPoint], holds: bool) -> None:
    assert plan_wal(wal(10), points=points, keep=Keep(last=1), holds_everything=holds) == ()
