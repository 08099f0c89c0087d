"""What every object store must do, held against the fake, a local folder and SeaweedFS."""

from __future__ import annotations

import hashlib
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeObjectStore, FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore, StoredObject
from tests.seaweed import READER, WRITER, Seaweed, seaweed


@pytest.fixture(scope="module")
def real_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


def open_s3(
    server: Seaweed, *, credential: tuple[str, str] = WRITER, bucket: str = "evidence", prefix: str = "packs"
) -> ObjectStore:
    secrets = FakeSecrets({"env:PAIR": ":".join(credential)})
    url = f"s3://{bucket}/{prefix}?endpoint={server.url}"
    return open_store(url, credential="env:PAIR", secrets=secrets)


@pytest.fixture(params=["fake", "folder", "seaweed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "fake":
        return FakeObjectStore()
    if request.param == "folder":
        return open_store(f"file://{tmp_path}/objects")
    return open_s3(request.getfixturevalue("real_s3"), prefix=uuid.uuid4().hex)


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


def test_wrong_access_key_is_permanent(real_s3: Seaweed) -> None:
    store = open_s3(real_s3, credential=("stranger", "secret"))

    with pytest.raises(Permanent, match="does not let this credential store a"):
        store.ensure_object("a", b"1")
    with pytest.raises(Permanent, match="does not let this credential answer"):
        store.observe_reachable()


def test_who_only_reads_cannot_write_and_a_wrong_secret_does_neither(real_s3: Seaweed) -> None:
    prefix = uuid.uuid4().hex
    open_s3(real_s3, prefix=prefix).ensure_object("a", b"1")
    reader = open_s3(real_s3, credential=READER, prefix=prefix)
    stranger = open_s3(real_s3, credential=(WRITER[0], "guessed"), prefix=prefix)

    assert reader.observe_object("a") == b"1"
    for refused in (reader, stranger):
        with pytest.raises(Permanent, match="does not let this credential store b"):
            refused.ensure_object("b", b"2")
    with pytest.raises(Permanent, match="does not let this credential read a"):
        stranger.observe_object("a")
    with pytest.raises(Permanent, match="does not let this credential list"):
        list(stranger.observe_objects("below"))
    with pytest.raises(Permanent, match="does not let this credential delete a"):
        reader.ensure_absent("a")
    assert reader.observe_object("a") == b"1"


def test_bucket_that_does_not_exist_is_not_reachable(real_s3: Seaweed) -> None:
    store = open_s3(real_s3, bucket="absent")

    with pytest.raises(Permanent, match="its bucket does not exist"):
        store.observe_reachable()
    with pytest.raises(Permanent):
        store.ensure_object("a", b"1")
