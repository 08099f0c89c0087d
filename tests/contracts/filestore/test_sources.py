"""What every filestore in use must do, held against a folder and three buckets: fake, local and SeaweedFS."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeObjectStore
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from recovery.adapters.filestore import BucketSource, FolderSource
from recovery.adapters.filestore.sources import LARGE_BYTES
from recovery.ports.filestore import FileState, FilestoreSource, SourceFile
from tests.recovery.adapters.filestore.scene import AT, OWNER, archive_in, name_for, restored
from tests.seaweed import READER, WRITER, Seaweed, open_s3, seaweed

ODD = ["checklist/ab/abc", "ab/short", "zz/" + "z" * 40, "cd/" + "ab" * 20, "ab" * 20, "ab/" + "AB" * 20, "notes.txt"]
"""What lies beside the files in a filestore, and is none of them."""


@dataclass(frozen=True, slots=True)
class InUse:
    source: FilestoreSource
    put: Callable[[str, bytes], object]
    remove: Callable[[str], object]


@pytest.fixture(scope="module")
def real_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed"), buckets=("filestores", "archive")) as server:
        yield server


def bucket_of(server: Seaweed, *, bucket: str, prefix: str, credential: tuple[str, str] = WRITER) -> ObjectStore:
    return open_s3(f"s3://{bucket}/{prefix}?endpoint={server.url}", credential=credential)


def in_bucket(store: ObjectStore) -> InUse:
    return InUse(
        source=BucketSource(store, prefix="filestore/shop"),
        put=lambda name, content: store.ensure_object(f"filestore/shop/{name}", content),
        remove=lambda name: store.ensure_absent(f"filestore/shop/{name}"),
    )


def in_folder(root: Path) -> InUse:
    root.mkdir()

    def put(name: str, content: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return InUse(source=FolderSource(root), put=put, remove=lambda name: (root / name).unlink())


@pytest.fixture(params=["folder", "fake bucket", "local bucket", "seaweed"])
def filestore(request: pytest.FixtureRequest, tmp_path: Path) -> InUse:
    if request.param == "folder":
        return in_folder(tmp_path / "filestore")
    if request.param == "fake bucket":
        return in_bucket(FakeObjectStore())
    if request.param == "local bucket":
        return in_bucket(open_store(f"file://{tmp_path}/bucket"))
    return in_bucket(bucket_of(request.getfixturevalue("real_s3"), bucket="filestores", prefix=uuid.uuid4().hex))


def contents(count: int) -> dict[str, bytes]:
    return {name_for(content): content for content in (f"content {number}".encode() for number in range(count))}


def test_names_come_sorted_and_only_those_of_odoo_s_layout(filestore: InUse) -> None:
    files = contents(40)
    for name, content in files.items():
        filestore.put(name, content)
    for odd in ODD:
        filestore.put(odd, b"odd")

    assert list(filestore.source.observe_names()) == sorted(files)


def test_filestore_without_files_has_no_names(filestore: InUse) -> None:
    assert list(filestore.source.observe_names()) == []


def test_files_are_read_and_one_that_went_away_is_gone(filestore: InUse) -> None:
    files = {**contents(20), name_for(b""): b""}
    for name, content in files.items():
        filestore.put(name, content)
    names = list(filestore.source.observe_names())
    filestore.remove(names[3])

    read = {file.name: file for file in filestore.source.observe_files(names)}

    assert read == {
        name: SourceFile(name, FileState.GONE)
        if name == names[3]
        else SourceFile(name, FileState.READ, len(files[name]), files[name])
        for name in names
    }


def test_large_file_is_streamed(filestore: InUse) -> None:
    content = bytes(range(256)) * (LARGE_BYTES // 256) + b"more"
    filestore.put(name_for(content), content)
    names = list(filestore.source.observe_names())

    read = list(filestore.source.observe_files(names))
    parts = filestore.source.stream(names[0])

    assert read == [SourceFile(names[0], FileState.LARGE, len(content))]
    assert parts is not None
    assert b"".join(parts) == content
    filestore.remove(names[0])
    assert filestore.source.stream(names[0]) is None


def test_filestore_is_copied_to_a_store_and_back(filestore: InUse, real_s3: Seaweed, tmp_path: Path) -> None:
    files = contents(60)
    for name, content in files.items():
        filestore.put(name, content)
    prefix = uuid.uuid4().hex
    writing = archive_in(bucket_of(real_s3, bucket="archive", prefix=prefix))
    reading = archive_in(bucket_of(real_s3, bucket="archive", prefix=prefix, credential=READER))

    point = writing.ensure_copy(point="p1", source=filestore.source, at=AT).point
    again = writing.ensure_copy(point="p2", source=filestore.source, at=AT)
    read = reading.ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity, named=list(files))

    assert (again.kept_count, again.copied_count) == (60, 0)
    assert reading.observe_damage(point) == ()
    assert (read.file_count, read.findings) == (60, ())
    assert restored(tmp_path / "new") == files


def test_who_may_only_read_the_archive_copies_and_prunes_nothing(real_s3: Seaweed, tmp_path: Path) -> None:
    shop = in_folder(tmp_path / "filestore")
    shop.put(*next(iter(contents(1).items())))
    prefix = uuid.uuid4().hex
    point = archive_in(bucket_of(real_s3, bucket="archive", prefix=prefix)).ensure_copy(
        point="p1", source=shop.source, at=AT
    )
    reading = archive_in(bucket_of(real_s3, bucket="archive", prefix=prefix, credential=READER))

    with pytest.raises(Permanent, match="does not let this credential store"):
        reading.ensure_copy(point="p2", source=shop.source, at=AT)
    with pytest.raises(Permanent, match="does not let this credential delete"):
        reading.ensure_removed(point.point)
    assert reading.observe_damage(point.point) == ()


@pytest.mark.parametrize("error", [Transient("The bucket answered 500."), Permanent("The bucket answered 403.")])
@pytest.mark.parametrize("verb", ["observe_objects", "observe_object"])
def test_failing_bucket_makes_no_point(error: Exception, verb: str) -> None:
    bucket, archive = FakeObjectStore(), FakeObjectStore()
    shop = in_bucket(bucket)
    for name, content in contents(10).items():
        shop.put(name, content)
    bucket.script.fail_before(verb, error)

    with pytest.raises(type(error), match="The bucket answered"):
        archive_in(archive).ensure_copy(point="p1", source=shop.source, at=AT)

    assert [key for key in archive.objects if "/points/" in key] == []
