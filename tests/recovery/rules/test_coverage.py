from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.rules.coverage import SHORTEST, Backup, Segment, Span, cover, cover_as_told, together

DAY = datetime(2026, 11, 23, tzinfo=UTC)


def hour(number: float) -> datetime:
    return DAY + timedelta(hours=number)


def base(number: int, *, key: str = "", needs: str = "", timeline: int = 1) -> Backup:
    """Return a backup taken at that hour, in no time; the WAL position is ten times the hour."""
    return Backup(key or f"b{number}", hour(number), timeline, 10 * number, 10 * number, needs)


def wal(*hours: int, timeline: int = 1) -> list[Segment]:
    """Return the segments of these hours, each complete at the hour's end."""
    return [Segment(timeline, 10 * number, 10 * number + 10, hour(number + 1)) for number in hours]


def test_wal_carries_a_backup_to_the_first_hole() -> None:
    found = cover([base(2)], segments=wal(0, 1, 2, 3, 4, 6, 7))

    assert found.spans == (Span(hour(2), hour(5)),)


def test_a_later_backup_goes_on_behind_the_hole() -> None:
    found = cover([base(2), base(7)], segments=wal(1, 2, 3, 5, 6, 7, 8))

    assert found.spans == (Span(hour(2), hour(4)), Span(hour(7), hour(9)))
    assert found.gaps == ((hour(4), hour(7)),)
    assert found.last_safe_before(hour(6)) == hour(4)
    assert (found.backup_for(hour(3)), found.backup_for(hour(8)), found.backup_for(hour(5))) == ("b2", "b7", None)


def test_a_backup_without_wal_reaches_its_own_moment_alone() -> None:
    found = cover([base(2)], segments=[])

    assert found.spans == (Span(hour(2), hour(2)),)
    assert found.holds(hour(2))
    assert not found.holds(hour(2) + timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("hours", "spans"),
    [((), ()), ((1,), ()), ((2,), ()), ((1, 2), (Span(hour(2.5), hour(3)),)), ((1, 2, 3), (Span(hour(2.5), hour(4)),))],
)
def test_a_backup_leads_nowhere_without_the_wal_that_makes_it_consistent(
    hours: tuple[int, ...], spans: tuple[Span, ...]
) -> None:
    backup = Backup("b", hour(2.5), 1, 15, 25)

    assert cover([backup], segments=wal(*hours)).spans == spans
    # One that brings it, as a dump does, reaches its own moment alone.
    assert cover([replace(backup, brings_wal=True)], segments=[]).spans == (Span(hour(2.5), hour(2.5)),)


def test_a_newer_backup_is_chosen_where_two_reach() -> None:
    assert cover([base(2), base(4)], segments=wal(2, 3, 4, 5)).backup_for(hour(5)) == "b4"


def test_an_incremental_counts_only_with_its_whole_chain() -> None:
    chain = [base(2, key="full"), base(4, key="one", needs="full"), base(6, key="two", needs="one")]

    assert cover(chain, segments=[]).spans == tuple(Span(hour(n), hour(n)) for n in (2, 4, 6))
    assert cover(chain[1:], segments=[]).spans == ()
    assert cover([chain[0], chain[2]], segments=[]).spans == (Span(hour(2), hour(2)),)
    assert cover([base(2, key="a", needs="b"), base(3, key="b", needs="a")], segments=[]).spans == ()


def test_a_backup_has_a_way_back_where_any_moment_is_reached_from_it() -> None:
    chain = cover([base(4, key="cut", needs="gone"), base(6, key="whole")], segments=wal(6))

    assert [chain.has_way_back(key) for key in ("cut", "whole", "never")] == [False, True, False]
    assert chain.without(hour(5), hour(6.5)).has_way_back("whole")
    assert not chain.without(hour(5), hour(8)).has_way_back("whole")


def branch(timeline: int, start: int, end: int, *, until: float, parent: int = 1, at: int) -> Segment:
    """Return WAL of a timeline that left its parent at a position; it begins with the segment that holds that."""
    return Segment(timeline, start, end, hour(until), parent, at)


def test_a_newer_timeline_goes_on_where_it_branched_off() -> None:
    on = [branch(2, 30, 50, until=5, at=35)]
    away = [branch(2, 50, 60, until=6, at=55)]

    assert cover([base(2)], segments=[*wal(2, 3), *on]).spans == (Span(hour(2), hour(5)),)
    assert cover([base(2)], segments=[*wal(2, 3), *away]).spans == (Span(hour(2), hour(4)),)
    assert cover([base(2, timeline=2)], segments=wal(2, 3)).spans == (Span(hour(2), hour(2)),)


def test_a_timeline_that_left_before_the_backup_is_not_crossed_to() -> None:
    left = [branch(2, 10, 60, until=6, at=15)]

    assert cover([base(2)], segments=[*wal(2, 3), *left]).spans == (Span(hour(2), hour(4)),)
    assert cover([base(1)], segments=[*wal(1, 2, 3), *left]).spans == (Span(hour(1), hour(6)),)


def test_what_a_server_wrote_after_it_was_given_up_is_not_covered() -> None:
    given_up = [*wal(1, 2), *wal(3, 4, 5)]
    promoted = [branch(2, 20, 32, until=3.5, at=25)]

    assert cover([base(1)], segments=[*given_up, *promoted]).spans == (Span(hour(1), hour(3.5)),)
    assert cover([base(4)], segments=[*given_up, *promoted]).spans == (Span(hour(4), hour(6)),)


def test_the_newest_descendant_is_followed_and_a_cousin_is_not() -> None:
    second = branch(2, 20, 60, until=6, at=25)
    cousin = branch(3, 30, 90, until=9, at=32)
    child = branch(4, 40, 80, until=8, parent=2, at=45)

    assert cover([base(1)], segments=[*wal(1, 2, 3), second, cousin, child]).reaches["b1"].end == hour(8)
    assert cover([base(1)], segments=[*wal(1, 2, 3), second, cousin]).reaches["b1"].end == hour(9)
    assert cover([base(2, timeline=2)], segments=[second, cousin, child]).reaches["b2"].end == hour(8)


def test_a_fork_that_names_itself_or_goes_round_ends() -> None:
    round_ = [branch(2, 20, 60, until=6, parent=3, at=25), branch(3, 20, 60, until=6, parent=2, at=25)]

    assert cover([base(1)], segments=[*wal(1), *round_]).spans == (Span(hour(1), hour(2)),)


LISBON = ZoneInfo("Europe/Lisbon")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        (hour(3), ""),
        (hour(4), ""),
        (datetime(2026, 11, 23, 3), "Give the time with its zone."),  # noqa: DTZ001 - that is the point
        (
            hour(1).astimezone(LISBON),
            "23 Nov 2026 01:00:00 WET is before the first time that can be restored, 23 Nov 2026 02:00:00 WET.",
        ),
        (
            hour(6).astimezone(BERLIN),
            "23 Nov 2026 07:00:00 CET is in a gap. The last safe time before it is 23 Nov 2026 05:00:00 CET.",
        ),
        (
            hour(12),
            "23 Nov 2026 12:00:00 UTC is after the last time that can be restored. "
            "The last safe time before it is 23 Nov 2026 09:00:00 UTC.",
        ),
    ],
)
def test_a_time_outside_or_in_a_gap_is_refused_with_the_last_safe_one(at: datetime, sentence: str) -> None:  # BCK-3
    assert cover([base(2), base(7)], segments=wal(2, 3, 7, 8)).refusal(at) == sentence


def test_the_last_safe_time_that_stands_alone_is_said_to_the_last_digit() -> None:
    alone = hour(2) + timedelta(microseconds=120)
    backups = [Backup("p1", alone, 0, 0, 0), Backup("p2", hour(7), 0, 0, 0)]

    found = cover(backups, segments=[])

    assert found.refusal(hour(6)).endswith("The last safe time before it is 23 Nov 2026 02:00:00.000120 UTC.")
    assert found.refusal(hour(9)).endswith("The last safe time before it is 23 Nov 2026 07:00:00 UTC.")


def test_without_a_backup_there_is_nothing_to_go_back_to() -> None:
    found = cover([], segments=wal(1, 2, 3))

    assert found.refusal(hour(2)) == "There is no recovery point to go back to."
    assert (found.spans, found.gaps, found.last_safe_before(hour(9))) == ((), (), None)


hours = st.sets(st.integers(1, 20))
moments = st.integers(0, 24 * 4).map(lambda quarter: hour(quarter / 4))


@given(hours, hours, moments)
def test_a_moment_is_covered_where_a_backup_and_all_wal_since_are_there(
    bases: set[int], segments: set[int], at: datetime
) -> None:
    found = cover([base(number) for number in bases], segments=wal(*segments))

    def leads_there(start: int) -> bool:
        between = range(start, 24)
        return hour(start) <= at and all(number in segments for number in between if hour(number) < at)

    assert found.holds(at) == any(leads_there(start) for start in bases)


@given(hours, hours)
def test_spans_are_in_order_and_gaps_lie_between_them(bases: set[int], segments: set[int]) -> None:
    found = cover([base(number) for number in bases], segments=wal(*segments))

    assert all(earlier.end < later.start for earlier, later in pairwise(found.spans))
    assert not any(found.holds(start + (end - start) / 2) for start, end in found.gaps)


@given(hours, hours, moments)
def test_exactly_what_is_not_covered_is_refused_and_the_safe_time_is_safe(
    bases: set[int], segments: set[int], at: datetime
) -> None:
    found = cover([base(number) for number in bases], segments=wal(*segments))
    safe = found.last_safe_before(at)

    assert (found.refusal(at) == "") == found.holds(at) == (found.backup_for(at) is not None)
    assert safe is None or (safe <= at and found.holds(safe))
    assert not found.holds(at) or safe == at


@given(hours, hours, st.data())
def test_losing_a_segment_never_covers_more(bases: set[int], segments: set[int], data: st.DataObject) -> None:
    lost = data.draw(st.sampled_from(sorted(segments))) if segments else 0
    backups = [base(number) for number in bases]
    whole = cover(backups, segments=wal(*segments))

    less = cover(backups, segments=wal(*segments - {lost}))

    for span in less.spans:
        assert whole.holds(span.start)
        assert whole.holds(span.end)


@pytest.mark.parametrize(
    "consistent, told, span",
    [
        (4, (2, 8), (4, 8)),
        (4, (4, 8), (4, 8)),
        (4, (5, 8), None),
        (4, (2, 3), (4, 4)),
    ],
    ids=["later", "the-first", "gone", "newer-than-told"],
)
def test_backup_of_an_operator_leads_as_far_as_it_tells(
    consistent: int, told: tuple[int, int], span: tuple[int, int] | None
) -> None:
    found = cover_as_told("b", consistent_at=hour(consistent), told=Span(hour(told[0]), hour(told[1])))

    wanted = (Span(hour(span[0]), hour(span[1])),) if span else ()
    assert (found.spans, list(found.reaches.values())) == (wanted, list(wanted))


def test_what_is_covered_ends_where_the_other_half_of_the_pair_does() -> None:
    found = cover([base(2), base(7)], segments=wal(1, 2, 3, 5, 6, 7, 8))

    assert found.until(hour(8)).spans == (Span(hour(2), hour(4)), Span(hour(7), hour(8)))
    assert found.until(hour(6)).spans == (Span(hour(2), hour(4)),)
    assert list(found.until(hour(6)).reaches) == ["b2"]


def test_what_has_no_copy_of_its_attachments_is_a_gap_in_every_backup_that_reaches_it() -> None:
    found = cover([base(2), base(4)], segments=wal(1, 2, 3, 4, 5, 6)).without(hour(5), hour(6))

    assert found.spans == (Span(hour(2), hour(5)), Span(hour(6), hour(7)))
    assert [found.backup_for(hour(at)) for at in (5, 5.5, 6)] == ["b4", None, "b4"]
    assert found.last_safe_before(hour(5.5)) == hour(5)
    # Another store may lead there all the same.
    other = cover([base(3, key="other")], segments=wal(2, 3, 4, 5, 6))
    assert together([found, other]).spans == (Span(hour(2), hour(7)),)
    assert together([found, other]).backup_for(hour(5.5)) == "other"


@pytest.mark.parametrize(
    ("blank", "spans"),
    [((1, 3), [(3, 5)]), ((4, 9), [(2, 4)]), ((1, 9), []), ((0, 2), [(2, 5)]), ((5, 6), [(2, 5)]), ((2, 5), [2, 5])],
)
def test_a_blank_cuts_what_it_covers_and_leaves_its_ends(blank: tuple[int, int], spans: list[Any]) -> None:
    found = cover([base(2)], segments=wal(1, 2, 3, 4)).without(hour(blank[0]), hour(blank[1]))

    wanted = [one if isinstance(one, tuple) else (one, one) for one in spans]
    assert found.spans == tuple(Span(hour(start), hour(end)) for start, end in wanted)


@pytest.mark.parametrize(
    ("keys", "before", "safe"),
    [
        ({"b4"}, 6, hour(4) - SHORTEST),
        ({"b4"}, 3, hour(3)),
        ({"b2"}, 6, hour(6)),
        ({"b2"}, 3, None),
        ({"b2", "b4"}, 9, hour(9)),
        ({"b2", "b4"}, 7, None),
        ({"b2", "b4", "b8"}, 9, None),
        ({"b8"}, 9, hour(7)),
    ],
)
def test_the_last_safe_time_without_some_backups_is_one_for_which_none_of_them_is_taken(
    keys: set[str], before: int, safe: datetime | None
) -> None:
    # A hole from seven to eight.
    found = cover([base(2), base(4), base(8)], segments=wal(1, 2, 3, 4, 5, 6, 8))

    assert found.last_safe_without(keys, before=hour(before)) == safe
    assert safe is None or found.backup_for(safe) not in {None, *keys}


def test_a_blank_is_no_safe_time_without_a_backup_either() -> None:
    found = cover([base(2), base(6)], segments=wal(1, 2, 3, 4, 5, 6)).without(hour(4), hour(6))

    assert found.last_safe_without({"b6"}, before=hour(7)) == hour(4)


def test_the_first_time_is_said_so_that_it_can_be_given() -> None:
    early, whole = hour(2) + timedelta(seconds=53, microseconds=120), hour(2) + timedelta(seconds=54)

    reaching = cover([Backup("p1", early, 1, 10, 10)], segments=wal(1, 2, 3))
    alone = cover([Backup("p1", early, 0, 0, 0)], segments=[])

    assert reaching.refusal(hour(2)).endswith("that can be restored, 23 Nov 2026 02:00:54 UTC.")
    assert reaching.holds(whole)
    assert alone.refusal(hour(2)).endswith("that can be restored, 23 Nov 2026 02:00:53.000120 UTC.")
