"""Attachments move: a restore into production puts them into another folder, and the copies of one say nothing of the
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise


@dataclass(frozen=True, slots=True)
class Place:
    """Where attachments lay from `since` on, when the newest copy of them there was taken, and by which policies.

    `newest` is None where none has been taken. `is_given_up`: a restore had put them there that was taken back.
    """

    address: str
    since: datetime
    newest: datetime | None
    policies: frozenset[int]
    is_given_up: bool = False


def places_in_turn(versions: Iterable[Place]) -> list[Place]:
    """Return the places in the order they were used: versions of a policy that name the same one are one.

    A version that another followed at once, as one that was taken back, is none. A place that was left before anything
    was copied there is none either, for it may never have been right; the last one is where attachments lie now.
    """
    rows = sorted((one for one in versions if not one.is_given_up), key=lambda place: place.since)
    # What was undone has no time of its own, and must not part what lies before it from what lies after it.
    lasting = [one for one, then in pairwise(rows) if then.since - one.since > timedelta.resolution]
    found = _joined([*lasting, *rows[-1:]])
    return _joined([*(one for one in found[:-1] if one.newest is not None), *found[-1:]])


def place_at(at: datetime, places: Sequence[Place]) -> Place | None:
    """Return where the attachments lay at a time; before the first place was named, they lay there."""
    return next((one for one in reversed(places) if one.since <= at), places[0] if places else None)


def times_without(places: Sequence[Place]) -> list[tuple[datetime, datetime]]:
    """Return the times of which no copy was taken before the attachments moved, ends not included."""
    pairs = pairwise(places)
    return [(one.newest, then.since) for one, then in pairs if one.newest is not None and one.newest < then.since]


def newest_until(at: datetime, places: Sequence[Place]) -> datetime | None:
    """Return the newest time, up to and including one, with which a copy goes; None where there is none."""
    ends = [*(then.since - timedelta.resolution for then in places[1:]), at]
    copied = [(min(one.newest, end, at), one) for one, end in zip(places, ends, strict=True) if one.newest is not None]
    return max((time for time, one in copied if one is places[0] or one.since <= time), default=None)


def _joined(rows: Iterable[Place]) -> list[Place]:
    """Join those that follow each other at the same address."""
    found = []
    for _, group in groupby(rows, key=lambda place: place.address):
        same = list(group)
        newest = max((one.newest for one in same if one.newest is not None), default=None)
        policies = frozenset().union(*(one.policies for one in same))
        found.append(Place(same[0].address, same[0].since, newest, policies))
    return found
