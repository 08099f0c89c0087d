from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changecontrol.rules.evidence import (
    GENESIS,
    BadEvent,
    ChainedEvent,
    event_hash,
    manifest_bytes,
    manifest_of,
    verify_chain,
    verify_files,
)


def chain(*bodies: str) -> list[ChainedEvent]:
    events: list[ChainedEvent] = []
    previous = GENESIS
    for sequence, body in enumerate(bodies, start=1):
        event = ChainedEvent(sequence, previous, body, event_hash(previous_hash=previous, sequence=sequence, body=body))
        events.append(event)
        previous = event.hash
    return events


def test_hash_is_made_of_exactly_these_bytes() -> None:
    by_hand = hashlib.sha256(b"\x00" * 32 + b"\x00\x00\x00\x00\x00\x00\x00\x01" + b'{"a":"\xc3\xa9"}').digest()

    assert event_hash(previous_hash=GENESIS, sequence=1, body='{"a":"é"}') == by_hand


def test_previous_hash_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        event_hash(previous_hash=b"", sequence=1, body="{}")


def test_untouched_chain_holds() -> None:
    assert verify_chain(chain("{}", '{"a":1}', "{}")) is None
    assert verify_chain([]) is None


def test_altered_body_is_named() -> None:  # AUD-4
    events = chain("{}", '{"a":1}', "{}")
    events[1] = replace(events[1], body='{"a":2}')

    assert verify_chain(events) == BadEvent(2, "Event 2 was altered: its hash does not fit its content.")


def test_event_altered_together_with_its_hash_breaks_the_next() -> None:  # AUD-4
    events = chain("{}", '{"a":1}', "{}")
    forged = event_hash(previous_hash=events[0].hash, sequence=2, body='{"a":2}')
    events[1] = replace(events[1], body='{"a":2}', hash=forged)

    assert verify_chain(events) == BadEvent(3, "Event 3 does not follow the event before it.")


def test_missing_event_is_named() -> None:  # AUD-4
    events = chain("{}", '{"a":1}', "{}")

    assert verify_chain([events[0], events[2]]) == BadEvent(3, "Event 2 is missing: event 3 stands in its place.")
    assert verify_chain(events[1:]) == BadEvent(2, "Event 1 is missing: event 2 stands in its place.")


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6), st.data())
def test_no_altered_byte_escapes(bodies: list[str], data: st.DataObject) -> None:
    events = chain(*bodies)
    index = data.draw(st.integers(0, len(events) - 1))
    events[index] = replace(events[index], body=events[index].body + "x")

    bad = verify_chain(events)

    assert bad is not None
    assert bad.sequence == index + 1


def test_manifest_is_the_same_bytes_in_whatever_order_files_come() -> None:
    files = {"b.json": b"{}", "a/z.txt": b"z"}

    one = manifest_bytes(manifest_of(files, subject="CHG-000001"))
    other = manifest_bytes(manifest_of(dict(reversed(files.items())), subject="CHG-000001"))

    assert one == other
    assert [entry["path"] for entry in manifest_of(files, subject="CHG-000001")["files"]] == ["a/z.txt", "b.json"]


def test_manifest_lists_hash_and_size() -> None:
    assert manifest_of({"a": b"abc"}, subject="CHG-000001")["files"] == [
        {"path": "a", "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "size": 3}
    ]


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a\\b", "./a"])
def test_path_that_leaves_the_pack_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no path inside a pack"):
        manifest_of({path: b""}, subject="CHG-000001")


def test_files_are_held_against_the_manifest() -> None:
    manifest = manifest_of({"a": b"1", "b": b"2", "c": b"3"}, subject="CHG-000001")

    assert verify_files(manifest, files={"a": b"1", "b": b"2", "c": b"3"}) == ()
    assert verify_files(manifest, files={"a": b"1", "b": b"X", "d": b"4"}) == (
        "b was altered.",
        "c is missing.",
        "d is not listed in the manifest.",
    )
