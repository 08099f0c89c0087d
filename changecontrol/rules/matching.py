"""Filling places with people, one person a place: a maximum bipartite matching that no order of votes alters."""

from __future__ import annotations

from collections.abc import Mapping, Set


def match_places(quorums: Mapping[str, int], *, people: Mapping[str, Set[str]]) -> dict[str, tuple[str, ...]]:
    """Give each key as many of its people as possible up to its quorum, nobody twice; earlier keys come first.

    A place once filled stays filled (an augmenting path only moves people), so earlier keys are served as well as they
    can be and the total is the greatest possible.
    """
    places = [key for key, quorum in quorums.items() for _ in range(quorum)]
    seat_of: dict[str, int] = {}

    def seat(place: int, tried: set[str]) -> bool:
        for person in sorted(people.get(places[place], frozenset())):
            if person in tried:
                continue
            tried.add(person)
            if person not in seat_of or seat(seat_of[person], tried):
                seat_of[person] = place
                return True
        return False

    for place in range(len(places)):
        seat(place, set())
    filled: dict[str, tuple[str, ...]] = {}
    for key in quorums:
        filled[key] = tuple(sorted(person for person, place in seat_of.items() if places[place] == key))
    return filled
