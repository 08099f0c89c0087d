from __future__ import annotations

from pathlib import Path

import pytest

from changecontrol.adapters.fakes.script import Call
from changecontrol.errors import Permanent, Transient
from recovery.adapters.filestore.reading import STATE_FOLDER
from recovery.ports.filestore import FindingKind
from tests.recovery.adapters.filestore.scene import OWNER, Scene, archive_in, name_for, restored


def test_folder_that_is_not_empty_is_refused_and_left_as_it_was(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(5)
    point = scene.copy("p1").point
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "other").write_bytes(b"theirs")

    with pytest.raises(Permanent, match="is not empty"):
        scene.archive.ensure_restored(point, target=tmp_path / "taken", identity=OWNER.identity)

    assert restored(tmp_path / "taken") == {"other": b"theirs"}


def test_finished_restore_is_not_written_over(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(5)
    point = scene.copy("p1").point
    scene.archive.ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity)

    with pytest.raises(Permanent, match="is not empty"):
        scene.archive.ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity)


def test_only_the_files_named_are_restored_and_absent_ones_are_named(scene: Scene, tmp_path: Path) -> None:
    names = scene.filestore.grow(50)
    absent = name_for(b"never there")
    point = scene.copy("p1").point

    read = scene.archive.ensure_restored(
        point, target=tmp_path / "new", identity=OWNER.identity, named=[*names[:3], absent, "../../etc/passwd"]
    )

    assert read.file_count == 3
    assert [(finding.subject, finding.kind) for finding in read.findings] == [
        ("../../etc/passwd", FindingKind.LOST),
        (absent, FindingKind.LOST),
    ]
    found = restored(tmp_path / "new")
    assert {name: found[name] for name in found if not name.startswith(".")} == {
        name: scene.filestore.files[name] for name in names[:3]
    }


def test_restore_that_was_cut_off_goes_on(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(40)
    scene.copy("p1")
    scene.filestore.grow(40)
    point = scene.copy("p2").point
    read_packs: list[str] = []

    def is_second_pack(call: Call) -> bool:
        if call.args[0].endswith(".tar.zst.age"):
            read_packs.append(call.args[0])
        return len(read_packs) == 2

    scene.store.script.fail_before("observe_object", Transient("The store answered 500."), when=is_second_pack)

    with pytest.raises(Transient, match="answered 500"):
        archive_in(scene.store, worker_count=1).ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity)
    half = restored(tmp_path / "new")
    written = next(path for path in (tmp_path / "new").rglob("*") if path.name in {n[3:] for n in half})
    written.write_bytes(b"a write that power cut off")
    read = scene.archive.ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity)

    assert 1 < len(half) < 80
    assert (read.file_count, read.findings) == (80, ())
    assert restored(tmp_path / "new") == scene.filestore.files


def test_restore_of_another_point_does_not_go_on_there(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(10)
    first = scene.copy("p1").point
    scene.filestore.grow(1)
    second = scene.copy("p2").point
    key = scene.keys(ending=".tar.zst.age")[0]
    taken = scene.store.objects.pop(key)
    scene.archive.ensure_restored(first, target=tmp_path / "new", identity=OWNER.identity)
    scene.store.objects[key] = taken

    with pytest.raises(Permanent, match="is not empty"):
        scene.archive.ensure_restored(second, target=tmp_path / "new", identity=OWNER.identity)


def test_damaged_file_is_left_out_named_and_comes_with_the_next_attempt(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(40)
    point = scene.copy("p1").point
    (key,) = scene.keys(ending=".tar.zst.age")
    whole = scene.store.objects[key]
    scene.store.objects[key] = whole[:-100]

    damaged = scene.archive.ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity)
    kept = {name: data for name, data in restored(tmp_path / "new").items() if not name.startswith(".")}
    scene.store.objects[key] = whole
    mended = scene.archive.ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity)

    missing = {finding.subject for finding in damaged.findings}
    assert missing
    assert kept == {name: data for name, data in scene.filestore.files.items() if name not in missing}
    assert (mended.file_count, mended.findings) == (40, ())
    assert restored(tmp_path / "new") == scene.filestore.files


def test_changed_manifest_restores_nothing(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(10)
    point = scene.copy("p1").point
    scene.store.objects[point.key] += b"x"

    with pytest.raises(Permanent, match="holds other bytes than were written"):
        scene.archive.ensure_restored(point, target=tmp_path / "new", identity=OWNER.identity)

    assert not (tmp_path / "new").exists()


def test_target_that_cannot_be_written_says_so(scene: Scene, tmp_path: Path) -> None:
    scene.filestore.grow(3)
    point = scene.copy("p1").point
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(Transient, match="could not be restored to"):
        scene.archive.ensure_restored(point, target=tmp_path / "file" / "new", identity=OWNER.identity)


def test_disk_that_fails_in_the_middle_says_so_and_the_restore_goes_on_later(scene: Scene, tmp_path: Path) -> None:
    (name,) = scene.filestore.grow(1)
    point = scene.copy("p1").point
    target = tmp_path / "new"
    (target / STATE_FOLDER).mkdir(parents=True)
    (target / STATE_FOLDER / "point").write_text(point.sha256)
    in_the_way = target / name[:2]
    in_the_way.write_bytes(b"")

    with pytest.raises(Transient, match=r"could not be restored to .*: File exists\."):
        scene.archive.ensure_restored(point, target=target, identity=OWNER.identity)
    in_the_way.unlink()
    scene.archive.ensure_restored(point, target=target, identity=OWNER.identity)

    assert restored(target) == scene.filestore.files
