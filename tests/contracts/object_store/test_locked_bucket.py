"""A bucket that keeps versions and locks each object for a day (SeaweedFS): backups go there as anywhere, and stay."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.filestore import StoredFilestores
from recovery.adapters.streams import StreamReader, StreamWriter, ensure_stream_absent, leftovers, verify_stream
from tests.recovery.adapters.filestore.scene import OWNER as READS_ALL
from tests.recovery.adapters.filestore.scene import WORKER, Filestore
from tests.seaweed import OWNER, READER, WRITER, Seaweed, asked, make_locked_bucket, open_s3, seaweed

pytestmark = pytest.mark.slow

BUCKET = "vault"
DATA = random.Random(7).randbytes(300_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed"), buckets=()) as server:
        make_locked_bucket(server, BUCKET)
        assert "<Status>Enabled</Status>" in asked(server, "GET", f"{BUCKET}?versioning").text
        yield server


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex[:8]


@pytest.fixture
def store(server: Seaweed, prefix: str) -> ObjectStore:
    return open_s3(f"s3://{BUCKET}/{prefix}?endpoint={server.url}")


def versions_below(server: Seaweed, prefix: str, kind: str) -> list[tuple[str, str]]:
    """Return key and version of what is kept below a prefix: `Version`, or `DeleteMarker` for what hides one."""
    listed = asked(server, "GET", f"{BUCKET}?versions")
    assert listed.status_code == 200
    found = re.findall(rf"<{kind}><Key>([^<]+)</Key><VersionId>([^<]+)</VersionId>", listed.text)
    return [(key, version) for key, version in found if key.startswith(f"{prefix}/")]


def written(store: ObjectStore, key: str) -> None:
    with StreamWriter(store, key, part_bytes=100_000) as writer:
        writer.write(DATA)


def test_a_stream_is_written_once_and_read_back(store: ObjectStore) -> None:
    written(store, "base/monday")

    with pytest.raises(Permanent):
        written(store, "base/monday")
    with pytest.raises(Permanent, match="exists with other content, and is never overwritten"):
        store.ensure_object("base/monday", b"other")

    assert StreamReader(store, "base/monday").readall() == DATA
    assert verify_stream(store, "base/monday").size == len(DATA)
    # What the second attempt had uploaded is taken back, whatever the bucket keeps of it.
    assert list(leftovers(store, "base", before=datetime.now(UTC) + timedelta(hours=1))) == []


def test_each_object_is_locked_as_long_as_the_bucket_says(server: Seaweed, store: ObjectStore, prefix: str) -> None:
    before = datetime.now(UTC)

    written(store, "base/monday")

    kept = versions_below(server, prefix, "Version")
    assert len(kept) == 4
    for key, _ in kept:
        told = asked(server, "GET", f"{BUCKET}/{key}?retention").text
        assert "<Mode>COMPLIANCE</Mode>" in told
        [until] = re.findall(r"<RetainUntilDate>([^<]+)</RetainUntilDate>", told)
        assert datetime.fromisoformat(until) >= before + timedelta(hours=23)


@pytest.mark.parametrize("who", [WRITER, READER], ids=["writer", "reader"])
def test_lock_of_each_object_is_told_to_whoever_may_read_it(
    server: Seaweed, store: ObjectStore, prefix: str, who: tuple[str, str]
) -> None:
    before = datetime.now(UTC)
    written(store, "base/monday")
    keys = [one.key for one in store.observe_objects("base")]

    asks = open_s3(f"s3://{BUCKET}/{prefix}?endpoint={server.url}", credential=who)
    told = [asks.observe_lock(key) for key in keys]

    assert len(told) == 4
    ends = [one.until - before for one in told if one is not None and one.until is not None]
    assert len(ends) == 4
    assert all(timedelta(hours=23, minutes=59) < one < timedelta(hours=24, minutes=5) for one in ends)


def test_what_is_removed_has_no_lock_for_us(store: ObjectStore) -> None:
    written(store, "base/monday")
    ensure_stream_absent(store, "base/monday")

    assert store.observe_lock("base/monday") is None


def test_what_is_removed_is_gone_for_us_and_comes_back_from_the_bucket(
    server: Seaweed, store: ObjectStore, prefix: str
) -> None:
    written(store, "base/monday")

    ensure_stream_absent(store, "base/monday")
    gone = list(store.observe_objects("base"))
    kept = versions_below(server, prefix, "Version")
    refused = [
        asked(server, "DELETE", f"{BUCKET}/{key}?versionId={version}", credential=one).status_code
        for key, version in kept
        for one in (WRITER, OWNER)
    ]
    for key, version in versions_below(server, prefix, "DeleteMarker"):
        assert asked(server, "DELETE", f"{BUCKET}/{key}?versionId={version}").status_code == 204

    assert gone == []
    assert len(kept) == 4
    assert set(refused) == {403}
    assert StreamReader(store, "base/monday").readall() == DATA


def test_attachments_are_copied_pruned_and_restored(store: ObjectStore, tmp_path: Path) -> None:
    filestore = Filestore(tmp_path / "filestore", random=random.Random(3))
    names = filestore.grow(300)
    archive = StoredFilestores(
        store, prefix="acme/production", recipients=[READS_ALL.recipient], index_identity=WORKER.identity
    )
    at = datetime.now(UTC)

    point = archive.ensure_copy(point="p1", source=filestore.source, at=at).point
    other = archive.ensure_copy(point="p2", source=filestore.source, at=at).point
    archive.ensure_removed(other)
    pruned = list(archive.ensure_pruned(at=at + timedelta(days=9), grace=timedelta(days=2)))
    archive.ensure_restored(point, target=tmp_path / "new", identity=READS_ALL.identity, named=names)

    assert pruned == []
    assert archive.observe_damage(point) == ()
    assert {name: (tmp_path / "new" / name).read_bytes() for name in names} == filestore.files
