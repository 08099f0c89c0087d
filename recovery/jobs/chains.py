"""Base backups with all that they build upon, each member held against what was recorded of its own point.

In the store each names its parent and the digest of the parent's facts. Whoever can write there can write all of these
anew, and encrypt to the recipients, who are no secret: only the catalogue tells which bytes were taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest

from changecontrol.ports import ObjectStore
from recovery.adapters.postgres.incremental import FaultIn, chain_of
from recovery.models import RecoveryPoint
from recovery.models.point import PartKind
from recovery.ports.postgres import BaseBackup


def streams_of(base: BaseBackup) -> Mapping[PartKind, tuple[str, str]]:
    """Return the keys and the digests of what a base backup consists of, by kind of part."""
    return {
        PartKind.DATABASE: (base.key, base.sha256),
        PartKind.DATABASE_MANIFEST: (base.manifest_key, base.manifest_sha256),
    }


def is_recorded(point: RecoveryPoint, found: Mapping[PartKind, tuple[str, str]]) -> bool:
    """Tell whether these keys and digests, by kind of part, are those that were recorded of a point."""
    recorded = {one.kind: (one.key, one.sha256) for one in point.parts.all()}
    return all(recorded.get(str(kind)) == facts for kind, facts in found.items())


def recorded_chain(store: ObjectStore, base: BaseBackup, *, parent: RecoveryPoint | None) -> tuple[BaseBackup, ...]:
    """Return what a restore of a backup needs, the full one first: those it builds upon as they were recorded.

    `parent` is the point recorded as the one it builds upon. Raises `FaultIn` for the first member of the chain,
    counted from this backup, that is missing, or is not what was recorded or names another than was.
    """
    points = list(_line_of(parent))
    try:
        chain = chain_of(store, base)
    except FaultIn as fault:
        known = {one.key for one in points}
        # A name that is recorded nowhere stands in what was written anew.
        raise FaultIn(fault.label if fault.label in known else base.label, fault.reason) from None
    child = base.label
    for member, point in zip_longest(reversed(chain[:-1]), points):
        if member is None or point is None or member.label != point.key:
            raise FaultIn(child, f"The base backup {child} builds upon another in the store than was recorded.")
        child = point.key
        if not is_recorded(point, streams_of(member)):
            raise FaultIn(child, f"The base backup {child} in the store is not the one that was recorded.")
    return chain


def _line_of(point: RecoveryPoint | None) -> Iterator[RecoveryPoint]:
    """Yield a point, and after it what it builds upon."""
    while point is not None:
        yield point
        point = point.parent
