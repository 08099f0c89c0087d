from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.rules.coverage import Backup, Segment, cover
from recovery.rules.retention import Keep, KeptPoint, cut_wal, lead_on, plan_retention, plan_wal

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


OLD = KeptPoint("old", AT - timedelta(days=30), start_lsn=15, stop_lsn=25, is_alone=True)
LAST = KeptPoint("last", AT - timedelta(days=1), start_lsn=65, stop_lsn=75)


def test_wal_goes_up_to_the_oldest_point_that_leads_on_but_for_what_an_older_one_needs() -> None:
    gone = plan_wal(wal(10), points=[OLD, LAST], segment_bytes=10)

    assert [one.start_lsn for one in gone] == [0, 40, 50]


def test_no_wal_goes_after_a_point_that_leads_on_or_where_no_point_stays() -> None:
    assert [
        one.start_lsn for one in plan_wal(wal(10), points=[replace(OLD, is_alone=False), LAST], segment_bytes=10)
    ] == [0]
    assert plan_wal(wal(10), points=[], segment_bytes=10) == ()


def test_point_keeps_wal_until_every_commit_before_its_moment_is_inside() -> None:
    """A segment that ends with a backup was complete before the backup was over: without the next it proves nothing."""
    early = [replace(one, ends_at=OLD.taken_at - timedelta(seconds=1)) for one in wal(4)]
    later = [replace(one, ends_at=OLD.taken_at + timedelta(seconds=one.start_lsn)) for one in wal(10)[4:]]

    gone = plan_wal([*early, *later], points=[OLD, LAST], segment_bytes=10)

    assert [one.start_lsn for one in gone] == [0, 50]


def test_what_is_counted_on_ends_with_the_moment_of_a_point_that_leads_on_to_no_later_time() -> None:
    row = Segment(1, 0, 100, AT)

    left = cut_wal([row], points=[OLD, LAST], segment_bytes=10)

    assert left == {row: (Segment(1, 10, 40, OLD.taken_at), Segment(1, 60, 100, AT))}


def test_wal_before_a_timeline_was_left_stays_with_the_last_point_of_it() -> None:
    """Orders between the last backup of a server and its failover are in no other WAL."""
    left = Segment(1, 0, 50, AT - timedelta(days=20))
    after = Segment(2, 50, 100, AT, parent=1, forked_lsn=52)
    last = replace(LAST, timeline=2, start_lsn=85, stop_lsn=95)

    found = cut_wal([left, after], points=[OLD, last], segment_bytes=10)

    assert found == {
        left: (Segment(1, 10, 50, AT - timedelta(days=20)),),
        after: (replace(after, end_lsn=60, ends_at=OLD.taken_at), replace(after, start_lsn=80)),
    }
    assert cut_wal([left, after], points=[last], segment_bytes=10)[left] == ()


def test_last_point_of_a_server_that_was_given_up_leads_on_to_its_end() -> None:
    row = Segment(1, 0, 100, AT)

    assert cut_wal([row], points=[OLD], segment_bytes=10)[row] == (replace(row, start_lsn=10),)


def test_wal_that_ends_in_a_hole_stays_and_what_follows_the_hole_goes() -> None:
    rows = [Segment(1, 0, 40, AT - timedelta(days=20)), Segment(1, 50, 100, AT)]

    left = cut_wal(rows, points=[OLD, LAST], segment_bytes=10)

    assert list(left.values()) == [(replace(rows[0], start_lsn=10),), (replace(rows[1], start_lsn=60),)]


@pytest.mark.parametrize(
    ("keep", "keys"),
    [
        (Keep(last=2), {"d0", "d1"}),
        (Keep(last=1, daily=3), {"d0", "d1", "d2"}),
        (Keep(last=1, weekly=3, monthly=3, is_pci=True), {"d0"}),
    ],
)
def test_wal_leads_on_from_the_last_points_and_from_those_of_days(keep: Keep, keys: set[str]) -> None:
    assert lead_on(daily(60), keep=keep, at=AT) == keys


def test_wal_leads_on_from_what_is_locked_and_not_from_what_is_broken() -> None:
    locked = KeptPoint("locked", AT - timedelta(days=9), locked_until=AT + timedelta(days=1))
    broken = KeptPoint("broken", AT, is_broken=True)

    assert lead_on([locked, *daily(3), broken], keep=Keep(last=1), at=AT) == {"d0", "locked"}


@st.composite
def archives(draw: st.DrawFn) -> tuple[list[Segment], list[KeptPoint]]:
    """Draw the WAL of a server that was failed over now and then, with holes, and points; positions are seconds."""
    objects: list[Segment] = []
    points: list[KeptPoint] = []
    position, parent = 0, 0
    for timeline in range(1, draw(st.integers(1, 3)) + 1):
        fork, begin = position, position
        if timeline > 1:
            fork, begin = position + draw(st.integers(-5, 5)), position - position % 10
            fork = max(fork, begin)
        position = max(begin, fork - fork % 10)
        for _ in range(draw(st.integers(1, 12))):
            early = draw(st.integers(0, 4))
            one = Segment(
                timeline, position, position + 10, moment_of(position + 10 - early), parent, fork if parent else 0
            )
            position += 10
            if draw(st.integers(0, 9)):
                objects.append(one)
        for _ in range(draw(st.integers(0, 4))):
            first, last = max(begin, fork), position - 1
            start = draw(st.integers(first, last)) if first <= last else first
            stop = start + draw(st.integers(1, 12))
            if stop < position:
                taken = moment_of(stop + draw(st.integers(0, 5)))
                alone = draw(st.booleans())
                key = f"{timeline}-{start}-{len(points)}"
                points.append(KeptPoint(key, taken, timeline=timeline, start_lsn=start, stop_lsn=stop, is_alone=alone))
        parent = timeline
    return objects, points


def moment_of(position: int) -> datetime:
    return AT + timedelta(seconds=position)


def backup_of(point: KeptPoint) -> Backup:
    return Backup(point.key, point.taken_at, point.timeline, point.start_lsn, point.stop_lsn)


def joined(objects: Iterable[Segment]) -> list[Segment]:
    """Return what a listing of these objects comes to."""
    found: list[Segment] = []
    for one in sorted(objects, key=lambda each: (each.timeline, each.start_lsn)):
        last = found[-1] if found else None
        if last is not None and last.timeline == one.timeline and one.start_lsn <= last.end_lsn:
            found[-1] = replace(last, end_lsn=one.end_lsn, ends_at=max(last.ends_at, one.ends_at))
        else:
            found.append(one)
    return found


def cut(rows: Iterable[Segment], points: list[KeptPoint]) -> list[Segment]:
    return [piece for pieces in cut_wal(rows, points=points, segment_bytes=10).values() for piece in pieces]


@given(archives())
def test_what_is_counted_on_after_a_removal_is_restorable_from_what_is_left(
    drawn: tuple[list[Segment], list[KeptPoint]],
) -> None:
    objects, points = drawn
    recorded = joined(objects)

    after = cut(recorded, points)
    gone = set(plan_wal(objects, points=points, segment_bytes=10))
    left = [one for one in objects if one not in gone or any(row.meets(one) for row in after)]

    backups = [backup_of(one) for one in points]
    promised, real = cover(backups, segments=after), cover(backups, segments=joined(left))
    before = cover(backups, segments=recorded)
    assert promised.times_not_in(real) == ()
    assert promised.times_not_in(before) == ()
    # No point loses its own moment, and none that leads on a later one.
    assert promised.reaches.keys() == before.reaches.keys()
    for one in points:
        if not one.is_alone and one.key in before.reaches:
            assert promised.reaches[one.key] == before.reaches[one.key]
    # What makes a point consistent was complete by its moment before, and is.
    for one in points:
        proof = [row for row in recorded if row.timeline == one.timeline and row.ends_at >= one.taken_at]
        if any(row.start_lsn <= one.start_lsn and row.end_lsn >= one.stop_lsn for row in proof):
            assert any(
                row.start_lsn <= one.start_lsn and row.end_lsn >= one.stop_lsn and row.ends_at >= one.taken_at
                for row in joined(left)
                if row.timeline == one.timeline
            )


@given(archives())
def test_cutting_again_takes_nothing_more(drawn: tuple[list[Segment], list[KeptPoint]]) -> None:
    objects, points = drawn
    gone = set(plan_wal(objects, points=points, segment_bytes=10))
    left = [one for one in objects if one not in gone]
    backups = [backup_of(one) for one in points]

    listed = cover(backups, segments=joined(left))

    assert plan_wal(left, points=points, segment_bytes=10) == ()
    assert listed.times_not_in(cover(backups, segments=cut(joined(left), points))) == ()
