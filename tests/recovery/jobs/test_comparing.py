"""The job that compares, against a real S3 server: every page of a listing counts, and no trouble is a loss."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from recovery.actions.points import NewPart
from recovery.jobs.comparing import compare
from recovery.jobs.elsewhere import copy_onward
from recovery.models import BackupPolicy, PointCopy, RecoveryPoint
from recovery.rules.comparison import LISTS
from tests.factories import small_estate
from tests.factories.estate import NOW
from tests.factories.recovery import HOUR, backup_policy, recorded_point, recovery_owner
from tests.seaweed import READER, WRITER, Seaweed, open_s3, seaweed

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

PLACE = "northwind/production"
PARTS = 1_050
"""More than one page of a listing."""


@pytest.fixture(scope="session")
def real_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed"), buckets=("backups",)) as running:
        yield running


@dataclass
class Scene:
    policy: BackupPolicy
    point: RecoveryPoint
    store: ObjectStore
    folder: Path

    def compared(self, *goes: str) -> Mapping[str, Any]:
        order = {"policy": self.policy.pk, "goes": [(self.policy.store, name) for name in goes]}
        found = compare(order, lambda _: None)["stores"]
        assert [one["store"] for one in found] == [self.policy.store]
        return dict(found[0])

    def told(self, *goes: str) -> list[tuple[str, str, str]]:
        return [(one["kind"], one["name"], one["sentence"]) for one in self.compared(*goes)["found"]]


def put_stream(store: ObjectStore, key: str, *, parts: int) -> int:
    rows = []
    for number in range(parts):
        name = f"a/{number:08d}"
        data = b"%08d" % number
        store.ensure_object(f"{key}.parts/{name}", data)
        rows.append({"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    head = {"format": "changecontrol.parts/1", "size": 8 * parts, "parts": rows}
    store.ensure_object(key, json.dumps(head).encode())
    return 8 * parts


@pytest.fixture
def scene(db: None, real_s3: Seaweed, tmp_path: Path) -> Iterator[Scene]:
    estate = small_estate()
    address = f"s3://backups/{uuid.uuid4().hex}?endpoint={real_s3.url}"
    store = open_s3(address)
    write_secret(tmp_path / "credential", ":".join(WRITER))
    policy = backup_policy(
        estate.production, store=address, store_credential=f"file:{tmp_path}/credential", copy_store=""
    )
    folder = f"{PLACE}/base/p1"
    size = put_stream(store, f"{folder}/base.tar.zst.age", parts=PARTS)
    size += put_stream(store, f"{folder}/backup_manifest.zst.age", parts=1)
    store.ensure_object(f"{folder}/facts.json", b"{}")
    store.ensure_object(f"{PLACE}/sets/p1-0123456789ab.json.zst.age", b"described")
    at = NOW - HOUR
    parts = [
        ("database", f"{folder}/base.tar.zst.age", size),
        ("database_manifest", f"{folder}/backup_manifest.zst.age", 0),
        ("configuration", f"{PLACE}/sets/p1-0123456789ab.json.zst.age", 9),
    ]
    point = recorded_point(
        estate.production,
        "p1",
        at,
        by=recovery_owner(estate),
        store=address,
        filestore_at=None,
        parts=tuple(NewPart(kind, key, size, digest_of(store, key), at, at) for kind, key, size in parts),
    )
    # What lies there is as old as it has to be to count.
    clock.set_offset(clock._offset + 3 * HOUR)
    yield Scene(policy, point, store, tmp_path)
    clock.set_offset(timedelta())


def digest_of(store: ObjectStore, key: str) -> str:
    return hashlib.sha256(store.observe_object(key) or b"").hexdigest()


def write_secret(path: Path, secret: str) -> None:
    path.write_text(secret)
    path.chmod(0o600)


def test_a_point_of_many_pages_is_as_recorded(scene: Scene) -> None:
    assert scene.told() == []


def test_the_part_that_is_missing_is_named(scene: Scene) -> None:
    key = f"{PLACE}/base/p1/base.tar.zst.age"
    scene.store.ensure_absent(f"{key}.parts/a/{PARTS - 1:08d}")

    assert scene.told() == [("missing", "p1", f"Part {PARTS:,} of {key} is missing from the store.".replace(",", ""))]


def test_what_no_row_names_is_found_and_goes_when_it_is_to_go(scene: Scene) -> None:
    for number in range(3):
        scene.store.ensure_object(f"{PLACE}/base/killed/base.tar.zst.age.parts/a/{number:08d}", b"rest")
    scene.store.ensure_object(f"{PLACE}/{LISTS}/between-1-1.files.zst.age", b"list")
    clock.set_offset(clock._offset + 2 * HOUR)

    assert [(kind, name) for kind, name, _ in scene.told()] == [("orphan", "killed"), ("orphan", LISTS)]
    gone = scene.compared("killed", "p1")

    assert gone["collected"] == ["killed"]
    assert [one["name"] for one in gone["found"]] == [LISTS]
    assert list(scene.store.observe_objects(f"{PLACE}/base/killed")) == []
    assert scene.told() == [("orphan", LISTS, "Nothing names 1 list of attachments.")]


def test_who_may_not_delete_is_told_and_what_was_found_stays_found(scene: Scene) -> None:
    scene.store.ensure_object(f"{PLACE}/base/killed/base.tar.zst.age", b"rest")
    clock.set_offset(clock._offset + 2 * HOUR)
    write_secret(scene.folder / "credential", ":".join(READER))

    found = scene.compared("killed")

    assert found["collected"] == []
    sentence = found["found"][0]["sentence"]
    assert sentence.startswith("The backup killed ended before it was a whole point. It could not be removed: ")


def test_a_store_that_refuses_ends_the_job_and_is_no_loss(scene: Scene) -> None:
    write_secret(scene.folder / "credential", "nobody:knows")

    with pytest.raises(Permanent, match="does not let this credential list"):
        scene.compared()


def test_a_store_that_does_not_answer_ends_the_job_and_is_no_loss(scene: Scene) -> None:
    BackupPolicy.objects.update(store="s3://backups/x?endpoint=http://127.0.0.1:9")
    scene.policy.refresh_from_db()

    with pytest.raises(Transient):
        scene.compared()


def test_what_is_removed_while_the_store_is_listed_is_no_loss(scene: Scene) -> None:
    scene.store.ensure_absent(f"{PLACE}/base/p1/facts.json")
    assert [kind for kind, _, _ in scene.told()] == ["missing"]

    RecoveryPoint.objects.update(removing_at=clock.now())

    assert scene.told() == []


def test_what_was_copied_to_another_prefix_is_as_recorded_there_too(scene: Scene) -> None:
    scene.store.ensure_object(f"{PLACE}/wal/1.1000000/00000001/000000010000000000000001/full-5.zst.age", b"wal")
    elsewhere = scene.policy.store.replace("?", "-copy?")
    BackupPolicy.objects.update(copy_store=elsewhere, copy_credential=scene.policy.store_credential)

    copied = copy_onward({"policy": scene.policy.pk}, lambda _: None)

    other = open_s3(elsewhere)
    assert copied["points"] == [scene.point.pk]
    assert {(one.key, one.size) for one in other.observe_objects(PLACE)} == {
        (one.key, one.size) for one in scene.store.observe_objects(PLACE)
    }
    PointCopy.objects.create(point=scene.point, store=elsewhere, stored_at=NOW)
    found = compare({"policy": scene.policy.pk, "goes": []}, lambda _: None)["stores"]
    assert [(one["store"], one["found"]) for one in found] == [(scene.policy.store, []), (elsewhere, [])]


def test_lists_that_may_belong_to_a_whole_set_are_not_collected_though_their_time_has_come(scene: Scene) -> None:
    for key in ("base/lost/facts.json", "sets/lost-0123456789ab.json.zst.age", f"{LISTS}/between-1.files.zst.age"):
        scene.store.ensure_object(f"{PLACE}/{key}", b"{}")
    clock.set_offset(clock._offset + 100 * HOUR)

    kept = scene.compared(LISTS)
    scene.store.ensure_absent(f"{PLACE}/sets/lost-0123456789ab.json.zst.age")
    gone = scene.compared(LISTS)

    assert [(one["kind"], one["name"]) for one in kept["found"]] == [("unknown_set", "lost"), ("orphan", LISTS)]
    assert (kept["collected"], gone["collected"]) == ([], [LISTS])
