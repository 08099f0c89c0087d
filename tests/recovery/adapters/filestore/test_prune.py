from __future__ import annotations

from datetime import timedelta

import pytest

from changecontrol.errors import Permanent, Transient
from recovery.adapters.filestore.archive import REUSE_FOR
from tests.recovery.adapters.filestore.scene import AT, OWNER, Scene, archive_in

GRACE = timedelta(days=2)
LATER = AT + GRACE


def leave_orphans(scene: Scene) -> set[str]:
    """Kill a copy between its packs and its manifest."""
    before = set(scene.store.objects)
    scene.store.script.fail_before("ensure_object", Transient("Killed."), when=lambda call: "/points/" in call.args[0])
    with pytest.raises(Transient, match="Killed"):
        scene.copy("killed")
    return set(scene.store.objects) - before


def test_what_a_point_names_is_no_orphan(scene: Scene) -> None:
    scene.filestore.grow(10)
    scene.copy("p1")

    assert scene.archive.observe_orphans(at=LATER, grace=GRACE) == ()


def test_orphans_are_listed_at_once_and_collected_after_their_grace(scene: Scene) -> None:
    scene.filestore.grow(10)
    point = scene.copy("p1").point
    scene.filestore.grow(5)
    left = leave_orphans(scene)

    early = scene.archive.observe_orphans(at=LATER - timedelta(seconds=1), grace=GRACE)
    kept = scene.archive.ensure_pruned(at=LATER - timedelta(seconds=1), grace=GRACE)
    late = scene.archive.ensure_pruned(at=LATER, grace=GRACE)

    assert {orphan.key for orphan in early} == left
    assert kept == ()
    assert {orphan.is_due for orphan in early} == {False}
    assert {orphan.key for orphan in late} == left
    assert not left & set(scene.store.objects)
    assert scene.archive.observe_contents(point, identity=OWNER.identity).file_count == 10


def test_packs_go_with_the_last_point_that_names_them(scene: Scene) -> None:
    names = scene.filestore.grow(10)
    first = scene.copy("p1").point
    old_pack = scene.keys(ending=".tar.zst.age")
    second = scene.copy("p2").point
    for name in names:
        scene.filestore.remove(name)
    scene.filestore.grow(3)
    # What is gone is held by two more.
    third, fourth, last = (scene.copy(point).point for point in ("p3", "p4", "p5"))
    scene.archive.ensure_removed(third)
    scene.archive.ensure_removed(fourth)

    scene.archive.ensure_removed(first)
    after_first = scene.archive.ensure_pruned(at=LATER, grace=GRACE)
    scene.archive.ensure_removed(second)
    scene.archive.ensure_removed(second)
    after_second = scene.archive.ensure_pruned(at=LATER, grace=GRACE)

    assert after_first == ()
    assert {orphan.key for orphan in after_second if orphan.key.endswith(".tar.zst.age")} == set(old_pack)
    assert scene.archive.observe_contents(last, identity=OWNER.identity).file_count == 3


def test_manifest_that_cannot_be_read_stops_the_collection(scene: Scene) -> None:
    scene.filestore.grow(10)
    point = scene.copy("p1").point
    leave_orphans(scene)
    scene.store.objects[point.key] = scene.store.objects[point.key][:-1]
    before = dict(scene.store.objects)

    with pytest.raises(Permanent, match="cannot be read"):
        scene.archive.ensure_pruned(at=LATER, grace=GRACE)

    assert scene.store.objects == before


def test_other_tenants_objects_are_never_touched(scene: Scene) -> None:
    scene.filestore.grow(10)
    scene.copy("p1")
    other = archive_in(scene.store, prefix="acme/production-eu")
    other.ensure_copy(point="p1", source=scene.filestore.source, at=AT)
    inner = archive_in(scene.store, prefix="acme")
    scene.store.objects["acme/production/wal/0001"] = b"x"
    before = dict(scene.store.objects)

    assert inner.ensure_pruned(at=LATER, grace=GRACE) == ()
    assert other.ensure_pruned(at=LATER, grace=GRACE) == ()

    assert scene.store.objects == before


def test_copy_goes_on_from_young_orphans_only(scene: Scene) -> None:
    scene.filestore.grow(10)
    leave_orphans(scene)

    scene.store.modified_at = AT - REUSE_FOR
    old = scene.copy("p1")

    assert (old.copied_count, old.kept_count) == (10, 0)


def test_short_grace_is_refused(scene: Scene) -> None:
    with pytest.raises(Permanent, match="kept for a day at least"):
        scene.archive.observe_orphans(at=AT, grace=timedelta(hours=23))
