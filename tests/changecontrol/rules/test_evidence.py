"""The manifest of an evidence pack: every file, in one way of writing."""

from __future__ import annotations

import hashlib
import json

import pytest

from changecontrol.rules.evidence import Entry, manifest_bytes, manifest_of


def test_a_manifest_names_every_file_with_hash_and_size() -> None:
    manifest = manifest_of(
        {"a.txt": Entry.of(b"one"), "b/c.txt": Entry.of(b"")}, change="CHG-000001", chains={"changerequest:1": 3}
    )

    assert manifest == {
        "format": 1,
        "change": "CHG-000001",
        "chains": {"changerequest:1": 3},
        "files": {
            "a.txt": {"sha256": hashlib.sha256(b"one").hexdigest(), "size": 3},
            "b/c.txt": {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0},
        },
    }


def test_the_order_in_which_files_were_found_does_not_matter() -> None:
    one = manifest_of({"a": Entry.of(b"1"), "b": Entry.of(b"2")}, change="CHG-000001", chains={"x": 1, "y": 2})
    other = manifest_of({"b": Entry.of(b"2"), "a": Entry.of(b"1")}, change="CHG-000001", chains={"y": 2, "x": 1})

    assert manifest_bytes(one) == manifest_bytes(other)
    assert json.loads(manifest_bytes(one)) == one


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../b", "a//b", "./a", "a\\b", "a/"])
def test_a_path_that_leaves_the_pack_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no path inside a pack"):
        manifest_of({path: Entry.of(b"")}, change="CHG-000001", chains={})
