"""The job that lists what a policy's stores hold, holds it against the catalogue, and collects what is due.

It reads names, sizes and dates, in one pass and in bounded memory. What a store refuses or cannot answer ends the job:
it is never taken for an object that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog

from changecontrol import clock
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from changecontrol.rules.counting import counted
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.postgres.wal import StretchCollector
from recovery.adapters.streams import observe_stream_gap
from recovery.jobs import attachments
from recovery.jobs.saying import Saying
from recovery.models import BackupPolicy, FilestoreCopy
from recovery.queries.comparison import (
    Place,
    WalRecorded,
    copies_in,
    is_held,
    names_known,
    places_of,
    points_in,
    wal_in,
)
from recovery.rules.comparison import (
    GRACE,
    LISTS,
    Contents,
    Difference,
    DifferenceKind,
    NamedPoint,
)

log = structlog.get_logger(__name__)


def compare(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Compare every store of an environment. The order: `policy`, and what is to go, as pairs of `store` and `name`.

    Returns `stores`: of each its address, the differences `found`, the keys of `lost_lists` of attachments, what was
    `collected`, and the `wal` that is recorded and listed, None where nothing is said of it.
    """
    policy = BackupPolicy.objects.select_related("environment__tenant").get(pk=order["policy"])
    saying = Saying(report)
    saying.begin("comparing", "Listing what the stores hold.")
    found = []
    for place in places_of(policy):
        goes = {name for store, name in order["goes"] if store == place.store}
        found.append(_Comparison(place, prefix=doors.prefix_of(policy.environment)).result(goes))
    return {"stores": found}


@dataclass(frozen=True, slots=True)
class _Comparison:
    place: Place
    prefix: str

    def result(self, goes: set[str]) -> dict[str, Any]:
        store = doors.open_copy_store(self.place.policy) if self.place.is_copy else doors.open_store(self.place.policy)
        # What is promised is what was before the listing and is after it, what is known is read after it: what comes or
        # goes meanwhile is neither missing nor unknown.
        points, lists = points_in(self.place, prefix=self.prefix), copies_in(self.place)
        wal_before, wal = wal_in(self.place), StretchCollector(prefix=self.prefix)
        contents = self._listed(store, points, lists, wal)
        points = [one for one in points_in(self.place, prefix=self.prefix) if one in points]
        lists = [one for one in copies_in(self.place) if one in lists]
        known, removed = names_known(self.place.policy.environment_id)
        unknown = list(contents.unknown(known, removed=removed, at=clock.now()))
        collected, unknown = self._collect(store, contents, unknown, goes=goes, known=known)
        lost, missing = self._missing(store, contents, points, lists)
        return {
            "store": self.place.store,
            "found": [_as_json(one) for one in (*missing, *unknown)],
            "lost_lists": lost,
            "collected": collected,
            "wal": _wal_as_json(wal, before=wal_before) if wal_before is not None and contents.count else None,
        }

    def _listed(
        self, store: ObjectStore, points: list[NamedPoint], lists: list[FilestoreCopy], wal: StretchCollector
    ) -> Contents:
        contents = Contents(
            self.prefix,
            keys={key for one in points for key in one.objects} | {one.key for one in lists},
            streams={key for one in points for key in one.streams},
        )
        for one in store.observe_objects(self.prefix):
            contents.add(one.key, size=one.size, modified_at=one.modified_at)
            wal.add(one)
        return contents

    def _missing(
        self, store: ObjectStore, contents: Contents, points: list[NamedPoint], lists: list[FilestoreCopy]
    ) -> tuple[list[int], list[Difference]]:
        if points and not contents.count:
            sentence = (
                f"Nothing at all lies there, where {counted(len(points), 'point')} should. Is it the right place, and "
                "mounted? No point is called broken for it."
            )
            return [], [Difference(DifferenceKind.EMPTY, self.prefix, sentence)]
        problems = {
            one.pk: problem for one in lists if (problem := _object_problem(store, contents, one.key, one.size))
        }
        problems |= self._without_packs(store, contents, [one for one in lists if one.pk not in problems])
        of_points = {one.point_id: problems[one.pk] for one in lists if one.pk in problems and one.point_id is not None}
        found = [
            Difference(DifferenceKind.MISSING, one.key, problem, point_id=one.point_id)
            for one in points
            if (problem := _problem(store, contents, one) or of_points.get(one.point_id, ""))
        ]
        lost = [one for one in lists if one.pk in problems]
        if lost:
            told = counted(len(lost), "list of attachments is", "lists of attachments are")
            sentence = f"{told} not whole, the newest of them {lost[0].name}: {problems[lost[0].pk]}"
            found.append(Difference(DifferenceKind.MISSING, LISTS, sentence))
        return [one.pk for one in lost], found

    def _without_packs(self, store: ObjectStore, contents: Contents, lists: list[FilestoreCopy]) -> dict[int, str]:
        """Return which lists name packs that are not there, with a sentence.

        All are asked once one lacks something: between backups there is one a minute, and most of them name the same.
        """
        if not any(one.byte_count for one in lists):
            return {}

        def lacking(chosen: list[FilestoreCopy]) -> dict[int, str]:
            return {one.pk: problem for one in chosen if (problem := _pack_problem(store, contents, one))}

        found = lacking([one for number, one in enumerate(lists) if number == 0 or one.point_id is not None])
        return lacking(lists) if found else {}

    def _collect(
        self, store: ObjectStore, contents: Contents, unknown: list[Difference], *, goes: set[str], known: set[str]
    ) -> tuple[list[str], list[Difference]]:
        """Remove what is to go and is still unknown; return the names of what went, and what is left with why."""
        if is_held(self.place.policy.environment_id):
            return [], unknown
        # What may belong to a whole point that nobody has decided about stays with it.
        keeps_lists = any(one.kind == DifferenceKind.UNKNOWN_SET for one in unknown)
        collected, left = [], []
        for one in unknown:
            if one.name not in goes or (keeps_lists and one.name == LISTS):
                left.append(one)
                continue
            try:
                for key in list(self._keys_of(store, contents, one.name, known=known)):
                    store.ensure_absent(key)
            except (Permanent, Transient) as refusal:
                left.append(replace(one, sentence=f"{one.sentence} It could not be removed: {refusal.reason}"))
            else:
                collected.append(one.name)
        return collected, left

    def _keys_of(self, store: ObjectStore, contents: Contents, name: str, *, known: set[str]) -> Iterator[str]:
        if name == LISTS:
            for one in contents.lists_before(clock.now() - GRACE, known=known):
                yield f"{self.prefix}/{LISTS}/{one}.files.zst.age"
            return
        # What makes it a whole set goes first, then what makes it a backup: it is never half of either.
        for found in store.observe_objects(f"{self.prefix}/sets"):
            if found.key.startswith(f"{self.prefix}/sets/{name}-"):
                yield found.key
        for folder in ("base", "dump"):
            yield f"{self.prefix}/{folder}/{name}/facts.json"
            for found in store.observe_objects(f"{self.prefix}/{folder}/{name}"):
                yield found.key
        yield f"{self.prefix}/{LISTS}/{name}.files.zst.age"


def _problem(store: ObjectStore, contents: Contents, point: NamedPoint) -> str:
    """Say what of a point is not there as recorded; empty where it is. A listing alone proves nothing: asked again."""
    for key, size in point.objects.items():
        if problem := _object_problem(store, contents, key, size):
            return problem
    if not point.streams or contents.has_streams_of(point):
        return ""
    return next((problem for key in point.streams if (problem := observe_stream_gap(store, key))), "")


def _pack_problem(store: ObjectStore, contents: Contents, copy: FilestoreCopy) -> str:
    try:
        # By the policy it was taken under: the one in force may copy no attachments, or open its lists by another key.
        keys = attachments.archive_of(copy.policy, store).observe_keys(attachments.point_of(copy))
    except Permanent as trouble:
        # Written for another key, or not what was recorded: a drill tells which.
        log.warning("comparing.list_unread", list=copy.name, problem=trouble.reason)
        return ""
    packs = (key for key in keys if key != copy.key)
    return next((problem for key in packs if (problem := _object_problem(store, contents, key, None))), "")


def _object_problem(store: ObjectStore, contents: Contents, key: str, size: int | None) -> str:
    found = contents.sizes.get(key)
    if key in contents.packs:
        return ""
    if found is None:
        return "" if store.observe_range(key, start=0, size=0) is not None else f"{key} is missing."
    if size is not None and found != size:
        return f"{key} has {found:,} bytes and should have {size:,}."
    return ""


def _as_json(one: Difference) -> dict[str, Any]:
    return {
        **asdict(one),
        "kind": str(one.kind),
        "stored_at": one.stored_at.isoformat() if one.stored_at else None,
    }


def _wal_as_json(wal: StretchCollector, *, before: WalRecorded) -> dict[str, Any]:
    return {
        "removals": before.removals,
        "recorded": [asdict(one) for one in sorted(before.spans)],
        "listed": [{**asdict(one), "reached_at": one.reached_at.isoformat()} for one in wal.stretches()],
    }
