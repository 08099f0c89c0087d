from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeObjectStore
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import StoredObject
from recovery.adapters.streams import (
    RETRY_SECONDS,
    StreamReader,
    StreamWriter,
    ensure_stream_absent,
    leftovers,
    observe_stream,
    verify_stream,
)
from tests.sessions import sessions_of

DATA = bytes(range(256)) * 10
KEY = "points/1/base"


def write(store: FakeObjectStore, data: bytes = DATA, *, key: str = KEY) -> list[str]:
    """Write in parts of 1000 bytes and return the keys of the parts."""
    with StreamWriter(store, key, part_bytes=1000) as writer:
        for start in range(0, len(data), 300):
            writer.write(data[start : start + 300])
    return sorted(found for found in store.objects if found.startswith(f"{key}.parts/"))


class Stumbling(FakeObjectStore):
    """A store that fails at some writes."""

    def __init__(self, *, failures: int, error: Exception) -> None:
        super().__init__()
        self.failures = failures
        self.error = error

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        if len(self.objects) >= 1 and self.failures:
            self.failures -= 1
            raise self.error
        return super().ensure_object(key, data)


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2560])
def test_what_was_written_is_read_back_and_the_parts_are_the_content(size: int) -> None:
    store = FakeObjectStore()

    parts = write(store, DATA[:size])

    assert StreamReader(store, KEY).readall() == DATA[:size] == b"".join(store.objects[part] for part in parts)
    assert verify_stream(store, KEY).size == size


def test_nothing_is_visible_before_the_end() -> None:
    store = FakeObjectStore()
    writer = StreamWriter(store, KEY, part_bytes=1000)
    writer.write(DATA)

    assert store.observe_object(KEY) is None
    with pytest.raises(Permanent, match="There is no object points/1/base"):
        StreamReader(store, KEY)

    writer.close()
    assert observe_stream(store, KEY).size == len(DATA)


def test_failure_on_the_way_removes_what_was_uploaded() -> None:
    store = FakeObjectStore()

    with pytest.raises(RuntimeError), StreamWriter(store, KEY, part_bytes=1000) as writer:
        writer.write(DATA)
        raise RuntimeError

    assert store.objects == {}


def test_store_that_refuses_ends_the_stream_and_leaves_nothing() -> None:
    store = Stumbling(failures=100, error=Permanent("The object store does not let this credential store it."))

    with pytest.raises(Permanent, match="does not let this credential"):
        write(store)

    assert store.objects == {}


def test_store_that_stumbles_is_asked_again() -> None:
    store = Stumbling(failures=3, error=Transient("The object store could not store it now."))
    slept: list[float] = []

    with StreamWriter(store, KEY, part_bytes=1000, sleep=slept.append) as writer:
        writer.write(DATA)

    assert StreamReader(store, KEY).readall() == DATA
    assert len(slept) == 3


def test_store_that_stays_away_is_transient() -> None:
    store = Stumbling(failures=10_000, error=Transient("The object store could not store it now."))
    slept: list[float] = []

    with pytest.raises(Transient), StreamWriter(store, KEY, part_bytes=10_000, sleep=slept.append) as writer:
        store.objects["other"] = b""
        writer.write(DATA)

    assert slept == list(RETRY_SECONDS)


def test_stream_is_written_once() -> None:
    store = FakeObjectStore()
    parts = write(store)

    with pytest.raises(Permanent, match="exists with other content"):
        write(store, b"other")

    assert StreamReader(store, KEY).readall() == DATA
    assert sorted(store.objects) == sorted([KEY, *parts])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damage_is_refused_and_named(number: int) -> None:
    store = FakeObjectStore()
    part = write(store)[number]
    whole = store.objects[part]

    for damaged, words in ((None, "is missing"), (whole[:-1], "bytes and should have"), (whole[:-1] + b"!", "changed")):
        store.objects.pop(part, None)
        if damaged is not None:
            store.objects[part] = damaged
        for read in (lambda: StreamReader(store, KEY).readall(), lambda: verify_stream(store, KEY)):
            with pytest.raises(Permanent, match=f"Part {number + 1} of points/1/base .*{words}"):
                read()


def test_swapped_parts_and_another_head_are_refused() -> None:
    store = FakeObjectStore()
    parts = write(store)
    digest = observe_stream(store, KEY).sha256
    write(store, DATA[::-1], key="points/2/base")
    store.objects[parts[0]], store.objects[parts[1]] = store.objects[parts[1]], store.objects[parts[0]]

    with pytest.raises(Permanent, match=r"Part 1 .* was changed"):
        StreamReader(store, KEY).readall()
    with pytest.raises(Permanent, match="not the one that was written"):
        StreamReader(store, "points/2/base", sha256=digest)
    store.objects[KEY] = b"{}"
    with pytest.raises(Permanent, match="does not describe a stream"):
        StreamReader(store, KEY)


def test_deleted_stream_leaves_nothing() -> None:
    store = FakeObjectStore()
    write(store)
    write(store, key="points/10/base")

    ensure_stream_absent(store, KEY)

    assert all(key.startswith("points/10/") for key in store.objects)
    assert StreamReader(store, "points/10/base").readall() == DATA


def test_stream_outlives_the_credentials_it_is_written_and_read_with() -> None:
    with sessions_of(lasts=5) as sessions:
        with StreamWriter(sessions.store(), KEY, part_bytes=100) as writer:
            writer.write(DATA)
        store = sessions.store()

        assert StreamReader(store, KEY).readall() == DATA
        assert verify_stream(store, KEY).size == len(DATA)
        assert sessions.given > 10


def test_stream_whose_credential_ends_and_is_followed_by_none_is_refused() -> None:
    with sessions_of(lasts=10**6) as sessions:
        with StreamWriter(sessions.store(), KEY, part_bytes=100) as writer:
            writer.write(DATA)
        sessions.lasts = 5
        reader = StreamReader(sessions.store(), KEY)
        sessions.is_stopped = True

        with pytest.raises(
            Permanent, match=r"^The object store does not let this credential read points/1/base\.parts/"
        ):
            reader.readall()


KILLED = """
import sys, time
from changecontrol.adapters.object_store import open_store
from recovery.adapters.streams import StreamWriter
writer = StreamWriter(open_store(sys.argv[1]), "points/1/base", part_bytes=100_000)
while True:
    writer.write(b"x" * 50_000)
    time.sleep(0.005)
"""


@pytest.mark.slow
def test_what_a_killed_upload_leaves_is_found_and_a_new_one_is_whole(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/objects"
    store = open_store(url)
    child = subprocess.Popen([sys.executable, "-c", KILLED, url], cwd=Path(__file__).parents[3])
    while len(list(store.observe_objects("points"))) < 3:
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    os.sync()
    left = {found.key for found in store.observe_objects("points")}

    with StreamWriter(store, KEY, part_bytes=1000) as writer:
        writer.write(DATA)

    later = datetime.now(tz=UTC) + timedelta(hours=1)
    assert StreamReader(store, KEY).readall() == DATA
    assert set(leftovers(store, "points", before=later)) == left
    assert set(leftovers(store, "points", before=later - timedelta(hours=2))) == set()
    assert not any(key == KEY for key in left)
