from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recovery.rules.comparison import LISTS, Contents, DifferenceKind, NamedPoint, WalSpan, without

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLACE = "northwind/production"
HEAD = f"{PLACE}/base/p1/base.tar.zst.age"
MANIFEST = f"{PLACE}/base/p1/backup_manifest.zst.age"


def listed(*keys: str, age: timedelta = 3 * HOUR, size: int = 10) -> Contents:
    contents = Contents(PLACE)
    for key in keys:
        contents.add(f"{PLACE}/{key}", size=size, modified_at=AT - age)
    return contents


def unknown(contents: Contents, *known: str, removed: tuple[str, ...] = ()) -> list[tuple[str, str, int]]:
    found = contents.unknown(set(known), removed=set(removed), at=AT)
    return [(one.kind, one.name, one.object_count) for one in found]


WHOLE = ("base/p1/facts.json", "sets/p1-0123456789ab.json.zst.age", "filestore/points/p1.files.zst.age")


def test_a_whole_set_that_no_row_names_is_no_orphan() -> None:
    assert unknown(listed(*WHOLE)) == [(DifferenceKind.UNKNOWN_SET, "p1", 3)]
    assert unknown(listed(*WHOLE), "p1") == []


@pytest.mark.parametrize("folder", ["base", "dump"])
def test_head_and_facts_without_a_description_are_the_rest_of_a_run_that_was_killed(folder: str) -> None:
    found = listed(f"{folder}/p1/facts.json", f"{folder}/p1/content.zst.age", f"{folder}/p1/content.zst.age.parts/a/0")

    assert unknown(found) == [(DifferenceKind.ORPHAN, "p1", 3)]


def test_what_is_left_of_a_removed_point_is_an_orphan_although_it_is_described() -> None:
    assert unknown(listed(*WHOLE), removed=("p1",)) == [(DifferenceKind.ORPHAN, "p1", 3)]


def test_lists_of_attachments_are_told_together() -> None:
    found = listed(*(f"filestore/points/between-1-{number}.files.zst.age" for number in range(3)))

    assert unknown(found, "between-1-1") == [(DifferenceKind.ORPHAN, LISTS, 2)]
    assert found.lists_before(AT, known={"between-1-1"}) == ["between-1-0", "between-1-2"]
    assert found.lists_before(AT - 4 * HOUR, known=set()) == []


def test_what_may_be_about_to_be_recorded_is_not_unknown() -> None:
    contents = listed(*WHOLE)
    contents.add(f"{PLACE}/base/p1/late", size=1, modified_at=AT - HOUR / 2)

    assert unknown(contents) == []


def test_names_that_are_none_of_ours_are_left_alone() -> None:
    assert (
        unknown(listed("base/loose", "wal/1.2/x", "sets/readme.txt", "filestore/packs/a.tar.zst.age", "other/b/c"))
        == []
    )


def test_the_same_names_in_another_environment_are_not_taken_for_ours() -> None:
    contents = Contents(PLACE)
    contents.add("northwind/staging/base/p1/facts.json", size=1, modified_at=AT - 9 * HOUR)

    assert unknown(contents) == []


def test_streams_are_there_where_some_upload_of_each_adds_up() -> None:
    point = NamedPoint(1, "p1", {HEAD: None, MANIFEST: None}, streams=(HEAD, MANIFEST), stream_size=35)

    def of(*parts: tuple[str, int]) -> Contents:
        contents = Contents(PLACE, keys=set(point.objects), streams=set(point.streams))
        for key, size in parts:
            contents.add(key, size=size, modified_at=AT)
        return contents

    left = (f"{HEAD}.parts/killed/00000000", 20)
    whole = [(f"{HEAD}.parts/a/00000000", 20), (f"{HEAD}.parts/a/00000001", 10), (f"{MANIFEST}.parts/b/00000000", 5)]
    assert of(*whole).has_streams_of(point)
    assert of(left, *whole).has_streams_of(point)
    assert not of(left, *whole[1:]).has_streams_of(point)
    assert not of(*whole[:2]).has_streams_of(point)
    assert not of(*whole[:2], (whole[2][0], 4)).has_streams_of(point)


def wal(start: int, end: int, *, timeline: int = 1, system: str = "7") -> WalSpan:
    return WalSpan(system, timeline, start, end)


@pytest.mark.parametrize(
    ("spans", "held", "left"),
    [
        ([wal(0, 9)], [wal(0, 9)], []),
        ([wal(0, 9)], [wal(0, 4), wal(3, 20)], []),
        ([wal(0, 9)], [], [wal(0, 9)]),
        ([wal(0, 9)], [wal(0, 3), wal(5, 9)], [wal(3, 5)]),
        ([wal(0, 9)], [wal(2, 4)], [wal(0, 2), wal(4, 9)]),
        ([wal(0, 4), wal(6, 9)], [wal(1, 7)], [wal(0, 1), wal(7, 9)]),
        ([wal(0, 9)], [wal(0, 9, timeline=2), wal(0, 9, system="8")], [wal(0, 9)]),
    ],
    ids=["all", "overlapping", "nothing", "a hole", "both ends", "two", "another's"],
)
def test_what_of_some_wal_is_not_held(spans: list[WalSpan], held: list[WalSpan], left: list[WalSpan]) -> None:
    assert without(spans, held) == left
