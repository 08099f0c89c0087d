"""Every kind of damage, each at ten places that a seed chooses: none is ever verified, and each is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from changecontrol.errors import Permanent
from recovery.adapters.filestore import packs
from recovery.ports.filestore import FilestoreFinding, FilestorePoint, FindingKind
from tests.recovery.adapters.filestore.scene import AT, OWNER, STRANGER, Scene, archive_in

SEEDS = range(10)


@dataclass(slots=True)
class Damaged:
    """A scene with a point to be damaged: `second` of two, beside a point of another tenant."""

    scene: Scene
    random: random.Random
    first: FilestorePoint
    second: FilestorePoint
    theirs: FilestorePoint
    named: list[str]

    def pack(self) -> str:
        return self.random.choice(self.packs("acme/production/"))

    def packs(self, prefix: str) -> list[str]:
        return [key for key in self.scene.keys(ending=".tar.zst.age") if key.startswith(prefix)]

    def change(self, key: str, how: Callable[[bytes], bytes]) -> str:
        before = self.scene.store.objects[key]
        self.scene.store.objects[key] = how(before)
        assert self.scene.store.objects[key] != before
        return key

    def truncated(self, data: bytes) -> bytes:
        return data[: self.random.randrange(len(data))]

    def flipped(self, data: bytes) -> bytes:
        place, bit = self.random.randrange(len(data)), 1 << self.random.randrange(8)
        return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]

    def verdict(self) -> tuple[tuple[FilestoreFinding, ...], tuple[FilestoreFinding, ...]]:
        archive = self.scene.archive
        contents = archive.observe_contents(self.second, identity=OWNER.identity, named=self.named)
        return archive.observe_damage(self.second), contents.findings


@pytest.fixture(params=SEEDS)
def damaged(request: pytest.FixtureRequest, scene: Scene) -> Damaged:
    chance = random.Random(request.param)
    scene.filestore.random = chance
    scene.filestore.grow(40)
    first = scene.copy("p1").point
    scene.filestore.grow(25)
    second = scene.copy("p2").point
    theirs = archive_in(scene.store, prefix="other/production").ensure_copy(
        point="p2", source=scene.filestore.source, at=AT
    )
    return Damaged(scene, chance, first, second, theirs.point, named=sorted(scene.filestore.files))


def subjects(findings: tuple[FilestoreFinding, ...]) -> dict[str, FindingKind]:
    return {finding.subject: finding.kind for finding in findings}


def test_undamaged_point_raises_no_alarm(damaged: Damaged) -> None:
    assert damaged.verdict() == ((), ())


def test_truncated_pack_is_named_and_the_files_it_costs(damaged: Damaged) -> None:
    key = damaged.change(damaged.pack(), damaged.truncated)

    objects, files = damaged.verdict()

    assert subjects(objects) == {key: FindingKind.TRUNCATED}
    assert set(subjects(files)) <= set(damaged.named)
    assert files


def test_flipped_bit_in_a_pack_is_named(damaged: Damaged) -> None:
    key = damaged.change(damaged.pack(), damaged.flipped)

    objects, files = damaged.verdict()

    assert subjects(objects) == {key: FindingKind.CHANGED}
    assert set(subjects(files)) <= set(damaged.named)


def test_missing_pack_is_named_with_every_file_of_it(damaged: Damaged) -> None:
    key = damaged.pack()
    del damaged.scene.store.objects[key]

    objects, files = damaged.verdict()

    assert subjects(objects) == {key: FindingKind.MISSING}
    assert len(files) in (25, 40)
    assert all(f"{key} is not in the store." in finding.sentence for finding in files)


def test_packs_in_each_other_s_place_are_named(damaged: Damaged) -> None:
    one, other = damaged.packs("acme/production/")
    objects = damaged.scene.store.objects
    objects[one], objects[other] = objects[other], objects[one]

    found, files = damaged.verdict()

    assert subjects(found) == {one: FindingKind.SWAPPED, other: FindingKind.SWAPPED}
    assert set(subjects(files)) <= set(damaged.named)
    assert files


def test_pack_of_another_tenant_is_named(damaged: Damaged) -> None:
    theirs = damaged.scene.store.objects[damaged.packs("other/production/")[0]]
    key = damaged.change(damaged.pack(), lambda data: theirs)

    objects, files = damaged.verdict()

    assert set(subjects(objects)) == {key}
    assert set(subjects(files)) <= set(damaged.named)
    assert files


def test_truncated_manifest_is_named(damaged: Damaged) -> None:
    key = damaged.change(damaged.second.key, damaged.truncated)

    objects, files = damaged.verdict()

    assert subjects(objects) == subjects(files) == {key: FindingKind.TRUNCATED}


def test_flipped_bit_in_a_manifest_is_named(damaged: Damaged) -> None:
    key = damaged.change(damaged.second.key, damaged.flipped)

    objects, files = damaged.verdict()

    assert subjects(objects) == subjects(files) == {key: FindingKind.CHANGED}


def test_missing_manifest_is_named(damaged: Damaged) -> None:
    del damaged.scene.store.objects[damaged.second.key]

    objects, files = damaged.verdict()

    assert subjects(objects) == subjects(files) == {damaged.second.key: FindingKind.MISSING}


@pytest.mark.parametrize("owner", ["another moment", "another tenant"])
def test_manifest_of_another_moment_or_tenant_is_named(damaged: Damaged, owner: str) -> None:
    other = damaged.first if owner == "another moment" else damaged.theirs
    planted = damaged.scene.store.objects[other.key]
    damaged.change(damaged.second.key, lambda data: planted)

    objects, files = damaged.verdict()

    assert subjects(objects) == subjects(files) == {damaged.second.key: FindingKind.SWAPPED}


def test_filestore_of_another_moment_lacks_what_the_database_names(damaged: Damaged) -> None:
    held = damaged.scene.archive.observe_contents(damaged.first, identity=OWNER.identity)

    read = damaged.scene.archive.observe_contents(damaged.first, identity=OWNER.identity, named=damaged.named)

    assert (held.file_count, held.findings) == (40, ())
    assert len(read.findings) == 25
    assert {finding.kind for finding in read.findings} == {FindingKind.LOST}


def test_wrong_key_verifies_nothing(damaged: Damaged) -> None:
    with pytest.raises(Permanent, match="None of the keys given opens"):
        damaged.scene.archive.observe_contents(damaged.second, identity=STRANGER.identity)


def test_content_that_was_wrong_when_it_was_sealed_is_named(damaged: Damaged) -> None:
    """Digests of objects cannot show it: only reading every file back does."""
    scene = damaged.scene
    name = damaged.random.choice(damaged.named)
    content = scene.filestore.files[name]

    class Forging(packs.PackWriter):
        def add(self, digest: str, given: bytes) -> None:
            super().add(digest, damaged.flipped(given) if given == content else given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recovery.adapters.filestore.copying.PackWriter", Forging)
        forged = archive_in(scene.store, prefix="forged").ensure_copy(point="p1", source=scene.filestore.source, at=AT)
    archive = archive_in(scene.store, prefix="forged")

    read = archive.observe_contents(forged.point, identity=OWNER.identity, named=damaged.named)

    assert archive.observe_damage(forged.point) == ()
    assert subjects(read.findings) == {name: FindingKind.CHANGED}
    assert read.file_count == 64


def test_damage_at_the_source_is_named_and_never_copied(damaged: Damaged) -> None:
    name = damaged.random.choice(damaged.named)
    how = damaged.random.choice([damaged.flipped, damaged.truncated])
    place = damaged.scene.filestore.root / name
    place.write_bytes(how(place.read_bytes()))

    # An archive that has it already keeps the right content; one that begins names it.
    kept = damaged.scene.copy("p3")
    begun = archive_in(damaged.scene.store, prefix="new/production").ensure_copy(
        point="p1", source=damaged.scene.filestore.source, at=AT
    )

    assert (kept.wrong, kept.copied_count) == ((), 0)
    assert subjects(begun.wrong) == {name: FindingKind.CHANGED}
