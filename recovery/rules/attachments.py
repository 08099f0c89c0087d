"""Attachments move: a restore into production puts them into another folder, and the copies of one say nothing of the
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Place:
    """Where attachments lay from `since` on, when the newest copy of them there was taken, and by which policies."""

    address: str
    since: datetime
    newest: datetime
    policies: frozenset[int]


def places_in_turn(versions: Iterable[Place]) -> list[Place]:
    """Return the places in the order they were used: versions of a policy that name the same one are one.

    A version that another followed at once, as one that was taken back, is none.
    """
    found: list[Place] = []
    rows = sorted(versions, key=lambda place: place.since)
    # What was undone has no time of its own, and must not part what lies before it from what lies after it.
    lasting = [one for one, then in pairwise(rows) if then.since - one.since > timedelta.resolution]
    for one in [*lasting, *rows[-1:]]:
        if found and found[-1].address == one.address:
            before = found[-1]
            newest = max(before.newest, one.newest)
            found[-1] = replace(before, newest=newest, policies=before.policies | one.policies)
        else:
            found.append(one)
    return found


def place_at(at: datetime, places: Sequence[Place]) -> Place | None:
    """Return where the attachments lay at a time; before the first place was named, they lay there."""
    return next((one for one in reversed(places) if one.since <= at), places[0] if places else None)


def times_without(places: Sequence[Place]) -> list[tuple[datetime, datetime]]:
    """Return the times of which no copy was taken before the attachments moved, ends not included."""
    return [(one.newest, then.since) for one, then in pairwise(places) if one.newest < then.since]
