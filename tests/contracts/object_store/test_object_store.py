"""What every object store must do, held against the fake, a local folder and a server of each kind."""

from __future__ import annotations

import hashlib
import random
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeObjectStore
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from changecontrol.ports import ObjectLock, ObjectStore, StoredObject
from recovery.adapters.streams import StreamReader, StreamWriter, leftovers, verify_stream
from tests.google import WRITES, google
from tests.stores import KINDS, Place, place


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """Yield what starts a server of a kind the first time one is asked for."""
    with ExitStack() as started:
        yield cache(lambda kind: started.enter_context(place(kind, tmp_path_factory.mktemp("store"))))


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, places: Callable[[str], Place]) -> Place:
    return places(request.param)


@pytest.fixture(params=["fake", "folder", *KINDS])
def store(request: pytest.FixtureRequest, tmp_path: Path, places: Callable[[str], Place]) -> ObjectStore:
    if request.param == "fake":
        return FakeObjectStore()
    if request.param == "folder":
        return open_store(f"file://{tmp_path}/objects")
    return places(request.param).open(prefix=uuid.uuid4().hex)


def test_object_is_stored_once_and_read_back(store: ObjectStore) -> None:
    data = b"evidence\x00" * 1000

    first = store.ensure_object("packs/ab/cd.zip", data)
    again = store.ensure_object("packs/ab/cd.zip", data)

    assert first == StoredObject(key="packs/ab/cd.zip", size=9000, sha256=hashlib.sha256(data).hexdigest())
    assert again == first
    assert store.observe_object("packs/ab/cd.zip") == data


def test_other_bytes_under_the_key_are_refused(store: ObjectStore) -> None:
    store.ensure_object("a", b"one")

    with pytest.raises(Permanent, match="The object a exists with other content"):
        store.ensure_object("a", b"two")

    assert store.observe_object("a") == b"one"


def test_absent_object_is_none(store: ObjectStore) -> None:
    assert store.observe_object("absent/object") is None


def test_empty_object_is_an_object(store: ObjectStore) -> None:
    store.ensure_object("empty", b"")

    assert store.observe_object("empty") == b""


def test_absent_object_has_no_lock(store: ObjectStore) -> None:
    assert store.observe_lock("absent/object") is None


def test_only_s3_says_whether_it_locks_and_a_plain_bucket_shows_no_lock(server: Place, tmp_path: Path) -> None:
    keys = ("a", "shop/a b+50%/ä&<ö>/q?x=1#y/it's")
    folder, store = open_store(f"file://{tmp_path}/objects"), server.open(prefix=uuid.uuid4().hex)
    for key in keys:
        folder.ensure_object(key, b"1")
        store.ensure_object(key, b"1")

    said = ObjectLock(until=None) if server.url.startswith("s3://") else None
    assert [store.observe_lock(key) for key in keys] == [said, said]
    assert [folder.observe_lock(key) for key in keys] == [None, None]


def test_range_of_an_object_is_read(store: ObjectStore) -> None:
    store.ensure_object("long", bytes(range(200)))

    assert store.observe_range("long", start=10, size=5) == bytes(range(10, 15))
    assert store.observe_range("long", start=190, size=50) == bytes(range(190, 200))
    assert store.observe_range("long", start=200, size=1) == b""
    assert store.observe_range("absent", start=0, size=1) is None


def test_objects_below_a_prefix_are_listed_with_their_sizes(store: ObjectStore) -> None:
    for number in range(3):
        store.ensure_object(f"points/7/part {number}", b"x" * number)
    store.ensure_object("points/70", b"other")

    found = list(store.observe_objects("points/7"))

    assert sorted((one.key, one.size) for one in found) == [
        ("points/7/part 0", 0),
        ("points/7/part 1", 1),
        ("points/7/part 2", 2),
    ]
    assert all(one.modified_at is not None and one.modified_at.tzinfo is not None for one in found)
    assert list(store.observe_objects("nothing")) == []


def test_deleted_object_is_gone_and_its_key_may_be_used_again(store: ObjectStore) -> None:
    store.ensure_object("a/b", b"one")
    store.ensure_object("a/c", b"other")

    store.ensure_absent("a/b")
    store.ensure_absent("a/b")

    assert store.observe_object("a/b") is None
    assert store.observe_object("a/c") == b"other"
    store.ensure_object("a/b", b"two")


def test_store_is_reachable(store: ObjectStore) -> None:
    store.observe_reachable()


def test_of_many_writers_one_wins_and_the_others_are_told(store: ObjectStore) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        try:
            store.ensure_object("raced", str(number).encode())
        except Permanent:
            outcomes.append("refused")
        else:
            outcomes.append("stored")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["refused"] * 7 + ["stored"]


def test_keys_that_lead_out_are_refused(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/objects")

    for key in ("", "../x", "/etc/x", "a//b", "a/../../x", "a\\b", "a\nb"):
        with pytest.raises(Permanent, match="relative path of plain words"):
            store.ensure_object(key, b"x")

    assert [path.name for path in tmp_path.iterdir()] == ["objects"]
    shutil.rmtree(tmp_path / "objects")


def test_keys_of_any_words_come_back_as_they_were(store: ObjectStore) -> None:
    keys = {f"shop/{word}/x" for word in ("a b", "a+b", "50%", "ä&<ö>", "q?x=1#y", "it's")}

    for key in keys:
        store.ensure_object(key, key.encode())

    assert {one.key for one in store.observe_objects("shop")} == keys
    assert all(store.observe_object(key) == key.encode() for key in keys)
    for key in keys:
        store.ensure_absent(key)
    assert list(store.observe_objects("shop")) == []


def test_stream_is_whole_and_what_an_attempt_left_is_found_and_cleared(store: ObjectStore) -> None:
    data = random.Random(7).randbytes(1_000_003)
    killed = StreamWriter(store, "points/1/base", part_bytes=100_000)
    killed.write(data[:350_000])
    while len(list(store.observe_objects("points/1"))) < 3:
        time.sleep(0.01)

    with StreamWriter(store, "points/1/base", part_bytes=100_000) as writer:
        writer.write(data)

    far = datetime(2100, 1, 1, tzinfo=UTC)
    assert StreamReader(store, "points/1/base").readall() == data
    left = list(leftovers(store, "points", before=far))
    assert len(left) == 3
    for key in left:
        store.ensure_absent(key)
    assert list(leftovers(store, "points", before=far)) == []
    assert verify_stream(store, "points/1/base").size == len(data)
    with (
        pytest.raises(Permanent, match="exists with other content"),
        StreamWriter(store, "points/1/base", part_bytes=100_000) as again,
    ):
        again.write(b"other")
    assert StreamReader(store, "points/1/base").readall() == data


def test_a_list_of_many_pages_is_whole() -> None:
    with google() as state:
        state.listed_at_once = 2
        found = Place(f"gs://evidence?endpoint={state.url}", state.make_account("writer", WRITES), "", "").open()
        for number in range(7):
            found.ensure_object(f"many/{number}", b"")

        assert sorted(one.key for one in found.observe_objects("many")) == [f"many/{number}" for number in range(7)]


def test_who_is_unknown_is_refused(server: Place) -> None:
    prefix = uuid.uuid4().hex
    server.open(prefix=prefix).ensure_object("a", b"1")
    stranger = server.open("stranger", prefix=prefix)

    with pytest.raises(Permanent, match="does not let this credential store b"):
        stranger.ensure_object("b", b"1")
    with pytest.raises(Permanent, match="does not let this credential read a"):
        stranger.observe_object("a")
    with pytest.raises(Permanent, match="does not let this credential read a"):
        stranger.observe_range("a", start=0, size=1)
    with pytest.raises(Permanent, match="does not let this credential list below"):
        list(stranger.observe_objects("below"))
    with pytest.raises(Permanent, match="does not let this credential delete a"):
        stranger.ensure_absent("a")
    with pytest.raises(Permanent, match="does not let this credential answer"):
        stranger.observe_reachable()


def test_who_is_unknown_is_told_of_no_lock(places: Callable[[str], Place]) -> None:
    prefix = uuid.uuid4().hex
    places("seaweed").open(prefix=prefix).ensure_object("a", b"1")

    with pytest.raises(Permanent, match=r"^The object store does not let this credential tell the lock of a\.$"):
        places("seaweed").open("stranger", prefix=prefix).observe_lock("a")


def test_who_only_reads_cannot_write(server: Place) -> None:
    prefix = uuid.uuid4().hex
    server.open(prefix=prefix).ensure_object("a", b"1")
    reader = server.open("reader", prefix=prefix)

    assert reader.observe_object("a") == b"1"
    assert [one.key for one in server.open("reader").observe_objects(prefix)] == [f"{prefix}/a"]
    with pytest.raises(Permanent, match="does not let this credential store b"):
        reader.ensure_object("b", b"2")
    with pytest.raises(Permanent, match="does not let this credential delete a"):
        reader.ensure_absent("a")
    assert reader.observe_object("a") == b"1"


def test_who_may_only_create_stores_an_object_and_is_content_where_it_is_there(server: Place) -> None:
    creator = server.open("creator", prefix=uuid.uuid4().hex)

    first = creator.ensure_object("a", b"1")
    with StreamWriter(creator, "points/1/base", part_bytes=100) as writer:
        writer.write(bytes(1000))

    assert creator.ensure_object("a", b"1") == first
    assert verify_stream(creator, "points/1/base").size == 1000
    with pytest.raises(Permanent):
        creator.ensure_object("a", b"2")
    with pytest.raises(Permanent, match="does not let this credential delete a"):
        creator.ensure_absent("a")
    assert creator.observe_object("a") == b"1"


def test_bucket_that_does_not_exist_is_named_and_nothing_is_missing_from_it(server: Place) -> None:
    store = server.open(bucket="absent")

    with pytest.raises(Permanent, match="could not answer: its bucket does not exist"):
        store.observe_reachable()
    with pytest.raises(Permanent):
        store.ensure_object("a", b"1")
    with pytest.raises(Permanent, match="could not list a: its bucket does not exist"):
        list(store.observe_objects("a"))
