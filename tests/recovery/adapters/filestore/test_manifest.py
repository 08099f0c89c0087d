from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changecontrol.errors import Permanent
from recovery.adapters.filestore.copying import Walk
from recovery.adapters.filestore.manifest import (
    Manifest,
    Pack,
    Part,
    format_line,
    from_text,
    merged,
    parse_line,
    to_text,
)
from recovery.adapters.filestore.names import name_of
from tests.recovery.adapters.filestore.scene import AT

PACKS = tuple(Pack(f"{number:032x}", (Part(number + 1, f"{number:064x}"),)) for number in range(4))

digests = st.integers(min_value=0, max_value=40).map(lambda number: f"{number * 7**40 % 2**160:040x}")
sets = st.frozensets(digests)


def manifest_of(places: dict[str, int]) -> Manifest:
    lines = sorted(format_line(digest, size=9, pack=place, offset=512) for digest, place in places.items())
    return Manifest(prefix="acme/production", point="p1", taken_at=AT, packs=PACKS, lines=lines)


def names_of(these: frozenset[str]) -> list[str]:
    return sorted(map(name_of, these))


@given(held=sets, there=sets, once=sets, twice=sets)
def test_walk_keeps_what_is_held_and_asks_for_the_rest(
    held: frozenset[str], there: frozenset[str], once: frozenset[str], twice: frozenset[str]
) -> None:
    gone = {digest.encode(): 1 for digest in held & once} | {digest.encode(): 2 for digest in held & twice}
    walk = Walk(replace(manifest_of(dict.fromkeys(held, 0)), gone=gone), names=names_of(there))

    asked = list(walk)

    assert asked == names_of(there - held)
    # What the source no more has is held by two more, and then let go.
    assert [parse_line(line).digest for line in walk.kept] == sorted(held & there | held - there - twice)
    times = {digest: 2 if digest in once else 1 for digest in held - there - twice}
    assert walk.gone == {digest.encode(): count for digest, count in times.items()}


@given(st.dictionaries(digests, st.integers(min_value=1, max_value=2)))
def test_manifest_says_what_is_gone(gone: dict[str, int]) -> None:
    manifest = replace(manifest_of({}), gone={digest.encode(): times for digest, times in gone.items()})

    assert from_text(to_text(manifest), key="points/p1") == manifest


@given(st.lists(st.dictionaries(digests, st.integers(min_value=0, max_value=3)), max_size=3))
def test_merged_manifest_leads_every_file_to_its_pack(wanted: list[dict[str, int]]) -> None:
    # Each part numbers its packs in its own way.
    parts = [(PACKS[turn:] + PACKS[:turn], manifest_of(places).lines) for turn, places in enumerate(wanted)]

    whole = merged(prefix="acme/production", point="p2", taken_at=AT, parts=parts)

    found = sorted((entry.digest, whole.packs[entry.pack].id) for entry in map(parse_line, whole.lines))
    expected = [
        (digest, PACKS[(place + turn) % 4].id) for turn, places in enumerate(wanted) for digest, place in places.items()
    ]
    assert found == sorted(expected)
    assert {pack.id for pack in whole.packs} == {pack for _, pack in expected}
    assert from_text(to_text(whole), key="p2") == whole


@pytest.mark.parametrize(
    "line",
    [b"", b"../../etc/passwd 1 0 0", b"A" * 40 + b" 1 0 0", b"a" * 40 + b" 1 4 0", b"a" * 40 + b" -1 0 0", b"\xff"],
)
def test_line_that_names_no_place_is_refused(line: bytes) -> None:
    text = to_text(replace(manifest_of({}), lines=[line]))

    with pytest.raises(Permanent, match="The manifest p1 is not one"):
        from_text(text, key="p1")


@pytest.mark.parametrize("head", [b"", b"[]", b"{}", b"\xff\xfe", b'{"format": "changecontrol filestore 1"}'])
def test_text_that_is_no_manifest_is_refused(head: bytes) -> None:
    with pytest.raises(Permanent, match="The manifest p1 is not one"):
        from_text(head, key="p1")


def test_later_format_is_refused_in_words() -> None:
    with pytest.raises(Permanent, match="a format this version does not read"):
        from_text(b'{"format": "changecontrol filestore 2"}', key="p1")
