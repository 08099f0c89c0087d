"""What is read of a store while somebody else writes there."""

from __future__ import annotations

from pathlib import Path

import pytest

from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from recovery.adapters.streams import PART_BYTES
from recovery.jobs.observing import SteadyStore


def test_what_was_read_once_is_read_the_same_or_not_at_all(tmp_path: Path) -> None:
    data = bytes(PART_BYTES) + b"the end of a dump"
    (tmp_path / "dump").write_bytes(data)
    store = SteadyStore(open_store(f"file://{tmp_path}"))

    def read(size: int) -> bytes:
        found = b""
        while part := store.observe_range("dump", start=len(found), size=size):
            found += part
        return found

    assert (read(PART_BYTES), read(PART_BYTES // 3)) == (data, data)
    assert store.observe_range("missing", start=0, size=1) is None

    (tmp_path / "dump").write_bytes(data[:-1] + b"!")
    assert store.observe_range("dump", start=0, size=4) == bytes(4)
    with pytest.raises(Permanent, match=r"^dump was changed while it was read\.$"):
        read(PART_BYTES)
