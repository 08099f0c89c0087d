from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.adapters.fakes.objects import FakeObjectStore
from changecontrol.errors import Permanent
from changecontrol.ports import StoredObject
from recovery.adapters.postgres.facts import backup_from, facts_of
from recovery.adapters.postgres.wal import (
    StretchCollector,
    check_covered,
    coverage_of,
    finished_key,
    history_key,
    needed_until,
    observe_archive,
    piece_key,
    segment_name,
    segment_start,
    stretches_of,
)
from recovery.ports.postgres import BaseBackup, Coverage, Latest, WalArchive, format_lsn, parse_lsn
from recovery.rules.coverage import Backup, Segment, cover

SEGMENT = 16 * 1024 * 1024
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FOLDER = f"shop/wal/7001.{SEGMENT:x}"
BASE = BaseBackup(
    label="sunday",
    key="shop/base/sunday/base.tar.zst.age",
    manifest_key="shop/base/sunday/backup_manifest.zst.age",
    system_identifier="7001",
    server_version="17.2",
    server_major=17,
    segment_bytes=SEGMENT,
    timeline=1,
    start_lsn=2 * SEGMENT + 40,
    stop_lsn=2 * SEGMENT + 400,
    started_at=NOON - timedelta(minutes=1),
    finished_at=NOON,
    content_bytes=1,
    stored_bytes=1,
    sha256="",
    manifest_sha256="",
)


def test_facts_that_name_no_superuser_are_read_as_those_of_a_server_of_postgres() -> None:
    facts = json.loads(facts_of(replace(BASE, superuser="shop_admin")))
    older = {name: value for name, value in facts.items() if name not in ("superuser", "digest")}
    digest = hashlib.sha256(json.dumps(older, sort_keys=True).encode()).hexdigest()

    assert backup_from(json.dumps(facts).encode(), BaseBackup) == replace(BASE, superuser="shop_admin")
    assert backup_from(json.dumps(older | {"digest": digest}).encode(), BaseBackup) == BASE


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def name(number: int, *, timeline: int = 1) -> str:
    return segment_name(timeline=timeline, start=number * SEGMENT, segment_bytes=SEGMENT)


def finished(number: int, *, timeline: int = 1, at: int | None = None) -> str:
    return finished_key(
        FOLDER, segment=name(number, timeline=timeline), reached_at=minute(number if at is None else at)
    )


def piece(number: int, start: int, end: int, *, at: int, timeline: int = 1) -> str:
    return piece_key(FOLDER, segment=name(number, timeline=timeline), start=start, end=end, reached_at=minute(at))


def archived(*keys: str) -> WalArchive:
    store = FakeObjectStore()
    store.objects = dict.fromkeys(keys, b"")
    return observe_archive(store, prefix="shop", system_identifier="7001", segment_bytes=SEGMENT)


def covered(*keys: str, base: BaseBackup = BASE) -> Coverage:
    return coverage_of(base, archive=archived(*keys))


def catalogued(*keys: str) -> datetime:
    """Return how far the catalogue says that the backup leads, from the stretches that it records."""
    segments = [
        Segment(one.timeline, one.start, one.end, one.reached_at, one.parent, one.forked_at)
        for one in stretches_of(archived(*keys))
    ]
    backup = Backup(BASE.label, BASE.finished_at, BASE.timeline, BASE.start_lsn, BASE.stop_lsn)
    return cover([backup], segments=segments).reaches[BASE.label].end


def test_positions_and_names_are_those_of_postgresql() -> None:
    assert segment_name(timeline=3, start=parse_lsn("1A/FE000123"), segment_bytes=SEGMENT) == "000000030000001A000000FE"
    assert segment_start("000000030000001A000000FE", segment_bytes=SEGMENT) == parse_lsn("1A/FE000000")
    assert format_lsn(parse_lsn("1A/FE000123")) == "1A/FE000123"


def test_finished_segments_and_the_pieces_after_them_are_covered() -> None:
    found = covered(
        finished(1),
        finished(2),
        finished(3),
        piece(4, 0, 100, at=4),
        piece(4, 100, 250, at=5),
        piece(4, 250, 250, at=6),
    )

    assert (found.start_at, found.end_at, found.end_lsn, found.gaps) == (NOON, minute(6), 4 * SEGMENT + 250, ())
    assert [one.start for one in found.needed] == [2 * SEGMENT, 3 * SEGMENT, 4 * SEGMENT, 4 * SEGMENT + 100]


def test_finished_segment_replaces_its_pieces() -> None:
    found = covered(piece(2, 0, 500, at=1), finished(2), piece(3, 0, 100, at=3))

    assert [one.is_finished for one in found.needed] == [True, False]


def test_pieces_of_a_receiver_that_began_anew_overlap() -> None:
    found = covered(finished(2), piece(3, 0, 100, at=3), piece(3, 0, 80, at=3), piece(3, 80, 300, at=4))

    assert (found.end_lsn, found.end_at) == (3 * SEGMENT + 300, minute(4))


@pytest.mark.parametrize(
    "keys, end_lsn, end_at",
    [
        ((finished(2), piece(3, 10, 100, at=3)), 3 * SEGMENT, minute(2)),
        ((finished(2), piece(3, 0, 100, at=3), piece(3, 101, 200, at=4)), 3 * SEGMENT + 100, minute(3)),
        ((finished(2), piece(3, 0, 100, at=3), piece(3, 150, 150, at=9)), 3 * SEGMENT + 100, minute(3)),
        ((finished(2), finished(4)), 3 * SEGMENT, minute(2)),
        ((finished(2), finished(3, timeline=2)), 3 * SEGMENT, minute(2)),
    ],
)
def test_coverage_ends_where_something_is_missing(keys: tuple[str, ...], end_lsn: int, end_at: datetime) -> None:
    found = covered(*keys)

    assert (found.end_lsn, found.end_at) == (end_lsn, end_at)


def test_each_gap_is_named_with_the_times_around_it() -> None:
    found = covered(finished(2), finished(5), piece(6, 0, 100, at=6), finished(8))

    assert [(gap.start, gap.end, gap.last_safe_at, gap.goes_on_at) for gap in found.gaps] == [
        (3 * SEGMENT, 5 * SEGMENT, minute(2), minute(5)),
        (6 * SEGMENT + 100, 8 * SEGMENT, minute(2), minute(8)),
    ]


@pytest.mark.parametrize("keys", [(), (finished(3),), (piece(2, 0, 399, at=1),), (finished(2, at=-1),)])
def test_backup_whose_own_wal_is_missing_restores_nothing(keys: tuple[str, ...]) -> None:
    found = covered(*keys)

    assert (found.start_at, found.end_at) == (None, None)
    with pytest.raises(Permanent, match="Nothing can be restored from sunday"):
        check_covered(found, at=Latest.LATEST)


def test_promotion_is_followed_to_the_new_timeline() -> None:
    switch = history_key(FOLDER, timeline=2, parent=1, at=3 * SEGMENT + 1000)
    promoted = (finished(3, timeline=2, at=4), piece(4, 0, 9, at=5, timeline=2))
    keys = (finished(2), piece(3, 0, 1000, at=3), switch, *promoted)
    found = covered(*keys)

    assert (found.timeline, found.end_at, found.gaps) == (2, minute(5), ())
    assert catalogued(*keys) == minute(5)
    assert [(one.timeline, one.start // SEGMENT) for one in found.needed] == [(1, 2), (2, 3), (2, 4)]
    assert [one.timeline for one in found.switches] == [2]


def test_timeline_that_left_before_the_backup_was_whole_is_not_followed() -> None:
    switch = history_key(FOLDER, timeline=2, parent=1, at=2 * SEGMENT + 100)
    keys = (finished(2), switch, finished(3), finished(2, timeline=2), finished(3, timeline=2, at=9))
    found = covered(*keys)

    assert (found.timeline, found.end_at) == (1, minute(3))
    assert catalogued(*keys) == minute(3)


def test_what_the_old_server_wrote_after_the_promotion_is_covered_by_neither() -> None:
    switch = history_key(FOLDER, timeline=2, parent=1, at=3 * SEGMENT + 1000)
    keys = (finished(2), finished(3), finished(4, at=9), switch, piece(3, 0, 2000, at=5, timeline=2))

    assert covered(*keys).end_at == minute(5)
    assert catalogued(*keys) == minute(5)


def test_wal_of_another_system_does_not_count() -> None:
    assert covered(*(key.replace("7001", "7002") for key in (finished(2), finished(3)))).end_at is None
    with pytest.raises(Permanent, match="another system"):
        covered(finished(2), base=replace(BASE, system_identifier="7002"))


def test_names_that_are_none_of_ours_are_left_out() -> None:
    assert covered(finished(2), f"{FOLDER}/notes.txt", finished(3).replace("full-", "fool-")).end_lsn == 3 * SEGMENT


def test_restore_reads_no_more_wal_than_its_time_needs() -> None:
    found = covered(*(finished(number) for number in range(2, 9)))

    assert [one.start // SEGMENT for one in needed_until(found, at=minute(4), base=BASE)] == [2, 3, 4, 5]
    assert len(list(needed_until(found, at=Latest.LATEST, base=BASE))) == 7


def test_wal_added_up_as_a_listing_passes_is_that_of_the_whole_archive() -> None:
    switch = history_key(FOLDER, timeline=2, parent=1, at=3 * SEGMENT + 1000)
    keys = [finished(2), piece(3, 0, 1000, at=3), switch, finished(3, timeline=2, at=4), finished(5, timeline=2)]
    keys += [piece(6, 0, 100, at=6, timeline=2), piece(6, 100, 100, at=7, timeline=2), f"{FOLDER}/notes.txt"]

    for seed in range(20):
        random.Random(seed).shuffle(keys)
        found = StretchCollector(prefix="shop", at_once=2)
        for key in keys:
            found.add(StoredObject(key=key, size=0))

        assert [
            replace(one, key="") for one in sorted(found.stretches(), key=lambda one: (one.timeline, one.start))
        ] == [replace(one, key="") for one in stretches_of(archived(*keys))]
