from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from recovery.rules.attachments import Place, newest_until, place_at, places_in_turn, times_without

DAY = datetime(2026, 11, 23, tzinfo=UTC)
GIVEN_UP = [(4, 5, 2), (6, None, 3)]


def hour(number: float) -> datetime:
    return DAY + timedelta(hours=number)


def place(address: str, since: float, newest: float | None, *policies: int) -> Place:
    return Place(address, hour(since), None if newest is None else hour(newest), frozenset(policies))


def test_versions_that_name_the_same_place_are_one() -> None:
    found = places_in_turn([place("b", 6, 9, 3), place("a", 4, 5, 2), place("a", 1, 3, 1), place("a", 10, 12, 4)])

    assert found == [place("a", 1, 5, 1, 2), place("b", 6, 9, 3), place("a", 10, 12, 4)]


def test_a_version_whose_last_job_ended_after_the_next_one_began_tells_the_newest_copy() -> None:
    assert places_in_turn([place("a", 1, 6, 1), place("a", 4, 5, 2)]) == [place("a", 1, 6, 1, 2)]


def test_a_version_that_was_taken_back_parts_nothing() -> None:
    undone = place("b", 6, 7, 2)
    after = Place("a", undone.since + timedelta.resolution, hour(9), frozenset({3}))

    assert places_in_turn([place("a", 1, 3, 1), undone, after]) == [place("a", 1, 9, 1, 3)]


def test_a_time_belongs_to_the_place_in_use_and_the_first_one_to_all_before_it() -> None:
    places = [place("a", 2, 5, 1), place("b", 6, 9, 2)]

    assert [place_at(hour(at), places) for at in (1, 2, 5.9, 6, 20)] == [*places[:1] * 3, *places[1:] * 2]
    assert place_at(hour(1), []) is None


def test_between_the_last_copy_of_one_place_and_the_next_place_nothing_was_copied() -> None:
    places = [place("a", 2, 5, 1), place("b", 6, 9, 2), place("c", 8, 12, 3)]

    # A copy that was still under way as the attachments moved leaves no such time.
    assert times_without(places) == [(hour(5), hour(6))]
    assert times_without(places[:1]) == []


def test_a_place_that_was_given_up_parts_nothing_and_holds_no_time() -> None:
    given_up = [replace(place("b", since, newest, policy), is_given_up=True) for since, newest, policy in GIVEN_UP]

    found = places_in_turn([place("a", 1, 3, 1), *given_up, place("a", 8, None, 4)])

    assert found == [place("a", 1, 3, 1, 4)]
    assert newest_until(hour(7), found) == hour(3)


def test_the_place_in_use_counts_before_anything_was_copied_there_and_one_that_was_left_so_does_not() -> None:
    found = places_in_turn(
        [place("a", 1, 5, 1), place("typo", 2, None, 2), place("a", 3, 6, 3), place("b", 8, None, 4)]
    )

    assert found == [place("a", 1, 6, 1, 3), place("b", 8, None, 4)]
    assert times_without(found) == [(hour(6), hour(8))]


def test_the_newest_time_with_a_copy_ends_where_attachments_moved() -> None:
    tick = timedelta.resolution
    places = [place("a", 2, 7, 1), place("b", 6, 9, 2), place("c", 8, None, 3)]

    found = {at: newest_until(hour(at), places) for at in (1, 5, 7, 8, 20)}

    assert found == {1: hour(1), 5: hour(5), 7: hour(7), 8: hour(8) - tick, 20: hour(8) - tick}
    assert newest_until(hour(5), [place("a", 2, None, 1)]) is None
