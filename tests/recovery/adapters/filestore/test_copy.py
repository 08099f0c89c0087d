from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import zstandard

from changecontrol.errors import Hindered, Permanent, Transient
from recovery.adapters.encryption import DecryptingReader
from recovery.adapters.filestore import FolderSource
from recovery.adapters.filestore.copying import PACK_BYTES
from recovery.ports.filestore import FilestoreFinding, FindingKind, SourceFile
from tests.recovery.adapters.filestore.scene import AT, OWNER, STRANGER, WORKER, Scene, archive_in, name_for, restored


def test_copy_is_restored_byte_for_byte(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(300)
    scene.filestore.add(b"")

    copied = scene.copy("p1")
    read = scene.archive.ensure_restored(copied.point, target=tmp_path / "new", identity=OWNER.identity)

    total = sum(map(len, scene.filestore.files.values()))
    assert restored(tmp_path / "new") == scene.filestore.files
    assert (read.file_count, read.byte_count, read.findings) == (301, total, ())
    assert (copied.copied_count, copied.copied_bytes, copied.kept_count, copied.wrong) == (301, total, 0, ())
    assert (copied.point.file_count, copied.point.byte_count, copied.point.taken_at) == (301, total, AT)
    assert scene.archive.observe_damage(copied.point) == ()


def test_empty_filestore_makes_a_point(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.root.mkdir()

    copied = scene.copy("p1")

    assert (copied.point.file_count, copied.stored_bytes) == (0, 0)
    assert scene.archive.ensure_restored(copied.point, target=tmp_path / "new", identity=OWNER.identity).findings == ()


def test_only_what_the_archive_lacks_is_copied(scene: Scene, tmp_path: Path) -> None:
    old = scene.filestore.grow(200)
    scene.copy("p1")
    packs = scene.keys(ending=".tar.zst.age")
    gone = scene.filestore.files[old[3]]
    scene.filestore.remove(old[3])
    new = scene.filestore.grow(2)

    same_but_three = scene.copy("p2")
    unchanged = scene.copy("p3")

    assert (same_but_three.copied_count, same_but_three.kept_count) == (2, 200)
    assert same_but_three.copied_bytes == sum(len(scene.filestore.files[name]) for name in new)
    assert (unchanged.copied_count, unchanged.kept_count, unchanged.stored_bytes) == (0, 202, 0)
    assert len(scene.keys(ending=".tar.zst.age")) == len(packs) + 1
    scene.archive.ensure_restored(unchanged.point, target=tmp_path / "new", identity=OWNER.identity)
    assert restored(tmp_path / "new") == scene.filestore.files | {old[3]: gone}


def test_many_small_files_share_a_pack_and_full_packs_are_closed(scene: Scene) -> None:
    scene.filestore.grow(50, most_bytes=2_000_000)

    copied = scene.copy("p1")

    total = sum(map(len, scene.filestore.files.values()))
    packs = scene.keys(ending=".tar.zst.age")
    assert total // (PACK_BYTES * 2) < len(packs) <= total // PACK_BYTES + 2
    assert copied.stored_bytes == sum(len(scene.store.objects[key]) for key in packs)


def test_large_file_is_stored_in_parts_and_restored(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(5)
    name = scene.filestore.add(scene.filestore.random.randbytes(70_000_000))

    copied = scene.copy("p1")
    read = scene.archive.ensure_restored(copied.point, target=tmp_path / "new", identity=OWNER.identity, named=[name])

    assert len([key for key in scene.store.objects if ".tar.zst.age." in key]) == 2
    assert (read.file_count, read.findings) == (1, ())
    assert restored(tmp_path / "new") == {name: scene.filestore.files[name]}
    assert scene.archive.observe_damage(copied.point) == ()


def test_packs_open_without_this_program(scene: Scene) -> None:
    scene.filestore.grow(40)
    scene.filestore.add(scene.filestore.random.randbytes(5_000_000))
    scene.copy("p1")

    found: dict[str, bytes] = {}
    for key in scene.keys(ending=".tar.zst.age"):
        compressed = DecryptingReader(io.BytesIO(scene.store.objects[key]), identities=[OWNER.identity]).readall()
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(compressed or b"")
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            found |= {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]

    assert found == scene.filestore.files


def test_whoever_copies_knows_the_names_and_reads_no_content(scene: Scene, tmp_path: Path) -> None:
    canary = b"the canary sings in clear text" * 50
    name = scene.filestore.add(canary)
    copied = scene.copy("p1")

    stored = b"".join(scene.store.objects.values())

    assert name[3:].encode() not in stored
    assert canary[:30] not in stored
    for key in scene.keys(ending=".tar.zst.age"):
        with pytest.raises(Permanent, match="None of the keys"):
            DecryptingReader(io.BytesIO(scene.store.objects[key]), identities=[WORKER.identity])
    for identity in (WORKER.identity, STRANGER.identity):
        with pytest.raises(Permanent, match=r"None of the keys|none of the files"):
            scene.archive.ensure_restored(copied.point, target=tmp_path / "new", identity=identity)
    assert not (tmp_path / "new").exists()


def test_file_with_content_its_name_does_not_fit_is_named_and_left_out(scene: Scene) -> None:
    names = scene.filestore.grow(30)
    large = scene.filestore.add(scene.filestore.random.randbytes(5_000_000))
    (scene.filestore.root / names[4]).write_bytes(scene.filestore.files[names[4]][:-1])
    (scene.filestore.root / large).write_bytes(bytes(5_000_000))

    copied = scene.copy("p1")

    sentence = "has content at the source that its name, its SHA-1, does not fit; it is not in the point."
    assert copied.wrong == tuple(
        FilestoreFinding(name, FindingKind.CHANGED, f"{name} {sentence}") for name in sorted([names[4], large])
    )
    assert copied.copied_count == 29


class BeingWritten:
    """A filestore in which files are still being written: each look finds more of them."""

    def __init__(self, folder: FolderSource, *, content: dict[str, bytes], root: Path, step: int) -> None:
        self._folder, self._content, self._root, self._step = folder, content, root, step
        self._written = 0

    def observe_names(self) -> Iterator[str]:
        return self._folder.observe_names()

    def observe_files(self, names: Collection[str]) -> Iterator[SourceFile]:
        for name in set(names) & set(self._content):
            (self._root / name).write_bytes(self._content[name][: self._written])
        self._written += self._step
        return self._folder.observe_files(names)

    def stream(self, name: str) -> Iterator[bytes] | None:
        return self._folder.stream(name)


@pytest.mark.parametrize("size", [900, 6_000_000])
def test_file_that_is_being_written_is_waited_for(scene: Scene, tmp_path: Path, size: int) -> None:
    scene.filestore.grow(20)
    slow = scene.filestore.add(scene.filestore.random.randbytes(size))
    source = BeingWritten(
        scene.filestore.source, content={slow: scene.filestore.files[slow]}, root=scene.filestore.root, step=size // 3
    )

    copied = scene.archive.ensure_copy(point="p1", source=source, at=AT)
    scene.archive.ensure_restored(copied.point, target=tmp_path / "new", identity=OWNER.identity)

    assert (copied.wrong, copied.copied_count) == ((), 21)
    assert restored(tmp_path / "new") == scene.filestore.files


def test_file_that_cannot_be_read_is_named_and_does_not_stop_the_rest(scene: Scene) -> None:
    names = scene.filestore.grow(10)
    (scene.filestore.root / names[0]).unlink()
    (scene.filestore.root / names[0]).symlink_to("/dev/zero")
    pipe = scene.filestore.root / name_for(b"a pipe blocks its reader")
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)

    class Listing(FolderSource):
        """Names what is no plain file too, as if it became one after the look."""

        def observe_names(self) -> Iterator[str]:
            yield from sorted([*super().observe_names(), names[0], pipe.relative_to(scene.filestore.root).as_posix()])

    copied = scene.archive.ensure_copy(point="p1", source=Listing(scene.filestore.root), at=AT)

    assert [finding.kind for finding in copied.wrong] == [FindingKind.UNREADABLE] * 2
    assert copied.copied_count == 9


def test_stop_in_the_middle_of_a_large_file_is_no_fault_of_the_file(scene: Scene) -> None:
    scene.filestore.add(scene.filestore.random.randbytes(5_000_000))

    class Stopped(FolderSource):
        """Somebody stops the copy while it reads a large file."""

        def stream(self, name: str) -> Iterator[bytes] | None:
            raise Hindered("Stopped because somebody asked for it.")

    with pytest.raises(Hindered, match="Stopped"):
        scene.archive.ensure_copy(point="p1", source=Stopped(scene.filestore.root), at=AT)


class Collecting(FolderSource):
    """Odoo's garbage collection takes files between the look and the read."""

    taken: Collection[str] = ()

    def observe_files(self, names: Collection[str]) -> Iterator[SourceFile]:
        for name in set(self.taken) & set(names):
            (self._root / name).unlink()
        yield from super().observe_files(names)


def test_file_that_vanishes_is_a_fact_and_the_shops_loss_where_the_database_names_it(scene: Scene) -> None:
    names = scene.filestore.grow(20)
    source = Collecting(scene.filestore.root)
    source.taken = names[:2]

    copied = scene.archive.ensure_copy(point="p1", source=source, at=AT)
    read = scene.archive.observe_contents(copied.point, identity=OWNER.identity, named=names[1:])

    assert copied.vanished == tuple(sorted(names[:2]))
    assert copied.wrong == ()
    words = "is named by the database and is not in the point: it was not there, or not whole, when it was copied."
    assert read.findings == (FilestoreFinding(names[1], FindingKind.LOST, f"{names[1]} {words}"),)


def test_file_collected_since_the_copy_before_is_held_by_two_more_and_then_no_longer(scene: Scene) -> None:
    names = scene.filestore.grow(20)
    scene.copy("p1")
    for name in (names[0], names[1]):
        scene.filestore.remove(name)

    second = scene.copy("p2")
    scene.filestore.add(scene.filestore.random.randbytes(10))
    third, fourth, fifth = scene.copy("p3"), scene.copy("p4"), scene.copy("p5")

    held = [
        scene.archive.observe_contents(copied.point, identity=OWNER.identity, named=names).file_count
        for copied in (second, third, fourth, fifth)
    ]
    assert held == [20, 20, 18, 18]
    assert (second.kept_count, second.copied_count) == (20, 0)
    assert (third.kept_count, third.copied_count) == (20, 1)
    assert (fourth.kept_count, fifth.kept_count) == (19, 19)


def test_file_that_was_gone_and_is_written_again_stays(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(20)
    content = scene.filestore.random.randbytes(100)
    name = scene.filestore.add(content)
    scene.copy("p1")
    scene.filestore.remove(name)
    scene.copy("p2")
    scene.filestore.add(content)

    third, fourth = scene.copy("p3"), scene.copy("p4")

    scene.archive.ensure_restored(fourth.point, target=tmp_path / "new", identity=OWNER.identity)
    assert (third.copied_count, fourth.kept_count) == (0, 21)
    assert restored(tmp_path / "new") == scene.filestore.files


def test_point_that_exists_is_returned_as_it_is(scene: Scene) -> None:
    scene.filestore.grow(20)
    first = scene.copy("p1")
    scene.filestore.grow(1)

    again = scene.copy("p1")

    assert again.point == first.point
    assert again.copied_count == 0


def test_files_of_a_distrusted_or_missing_pack_are_copied_anew(scene: Scene) -> None:
    scene.filestore.grow(300)
    first = scene.copy("p1")
    packs = scene.keys(ending=".tar.zst.age")
    scene.store.objects[packs[0]] = bytes(len(scene.store.objects[packs[0]]))
    damage = scene.archive.observe_damage(first.point)

    healed = scene.copy("p2", distrusted=[finding.subject for finding in damage])

    assert healed.copied_count > 0
    assert scene.archive.observe_damage(healed.point) == ()
    for key in scene.keys(ending=".tar.zst.age"):
        del scene.store.objects[key]
    assert scene.copy("p3").copied_count == 300


def test_unreadable_manifest_is_named_and_the_one_before_is_built_upon(scene: Scene) -> None:
    scene.filestore.grow(30)
    scene.copy("p1")
    second = scene.copy("p2").point
    scene.store.objects[second.key] = b"nonsense"

    copied = scene.copy("p3")

    assert [finding.subject for finding in copied.unreadable] == [second.key]
    assert (copied.kept_count, copied.wrong) == (30, ())


def test_tenants_with_like_names_do_not_meet(scene: Scene) -> None:
    scene.filestore.grow(30)
    other = archive_in(scene.store, prefix="acme/production-eu")
    theirs = other.ensure_copy(point="p1", source=scene.filestore.source, at=AT)

    ours = scene.copy("p1")

    assert (ours.copied_count, theirs.copied_count) == (30, 30)
    for refused in (
        lambda: scene.archive.observe_damage(theirs.point),
        lambda: scene.archive.ensure_removed(theirs.point),
        lambda: scene.archive.observe_contents(theirs.point, identity=OWNER.identity),
        lambda: scene.archive.ensure_restored(theirs.point, target=Path("/nowhere"), identity=OWNER.identity),
    ):
        with pytest.raises(Permanent, match="is not one of acme/production"):
            refused()
    for prefix in ("", "acme/", "/acme", "acme/../other", "a//b", "."):
        with pytest.raises(Permanent, match="plain words"):
            archive_in(scene.store, prefix=prefix)
    for point in ("", "../p1", "a/b", ".p"):
        with pytest.raises(Permanent, match="A point's name"):
            scene.copy(point)


def test_filestore_that_is_not_there_makes_no_point(scene: Scene) -> None:
    with pytest.raises(Permanent, match="is not there or cannot be read"):
        scene.copy("p1")

    assert scene.store.objects == {}


@pytest.mark.parametrize("error", [Transient("The store answered 500."), Permanent("The store answered 403.")])
def test_failing_store_leaves_no_point_and_the_next_copy_goes_on(scene: Scene, error: Exception) -> None:
    scene.filestore.grow(60, most_bytes=1_500_000)
    # Of two packs each with its index, the second pack fails.
    scene.store.script.fail_before(
        "ensure_object",
        error,
        when=lambda call: call.args[0].endswith(".tar.zst.age") and "ensure_object" in scene.store.script.verbs()[:-1],
    )

    with pytest.raises(type(error), match="The store answered"):
        scene.copy("p1")
    stored = len(scene.keys(ending=".files.zst.age"))
    again = scene.copy("p1")

    assert stored > 0
    assert 0 < again.kept_count < 60
    assert again.kept_count + again.copied_count == 60
    assert scene.archive.observe_contents(again.point, identity=OWNER.identity).file_count == 60


def test_store_that_lost_a_pack_gets_no_manifest(scene: Scene) -> None:
    scene.filestore.grow(20)
    short = scene.store.objects

    class Shortening(dict[str, bytes]):
        def setdefault(self, key: str, default: bytes = b"") -> bytes:
            super().setdefault(key, default[:-1] if key.endswith(".tar.zst.age") else default)
            return default

    scene.store.objects = Shortening(short)

    with pytest.raises(Transient, match="is not in the store as written"):
        scene.copy("p1")

    assert [key for key in scene.store.objects if "/points/" in key] == []
