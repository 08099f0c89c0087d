"""Base backups of some size to a real S3 server: their memory, what a killed one leaves, and that no secret shows."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres.archiving import WalArchiver
from recovery.adapters.postgres.base import observe_base_backup
from recovery.adapters.streams import leftovers
from recovery.ports.postgres import Latest
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at, ship_until
from tests.seaweed import open_s3, seaweed
from tests.worker import Order, result_of, start

pytestmark = pytest.mark.slow

CONTENT_BYTES = 310_000_000
"""More than may be held: what kept all of it in memory would be seen."""
MOST_BYTES = 300_000_000


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed(tmp_path_factory.mktemp("seaweed"), buckets=("backups",)) as server:
        yield f"s3://backups?endpoint={server.url}"


@pytest.fixture
def large(source: Source, s3: str) -> Iterator[Source]:
    source.store = open_s3(s3)
    source.prefix = f"shop/{source.slot}"
    source.execute(
        "CREATE UNLOGGED TABLE seed AS SELECT sha512(i::text::bytea) AS hash FROM generate_series(1, 3000) i"
    )
    source.execute(
        "CREATE TABLE large AS SELECT a.hash || b.hash || sha512(a.hash || b.hash) AS hash"
        " FROM seed a, seed b LIMIT 1500000"
    )
    source.execute("DROP TABLE seed")
    yield source
    source.execute("DROP TABLE large")


def back_up_elsewhere(source: Source, s3: str, *, label: str) -> subprocess.Popen[str]:
    return start(
        Order(
            work="base_backup",
            store=s3,
            prefix=source.prefix,
            label=label,
            programs=str(source.programs.folder),
            url=source.url,
            recipient=KEY.recipient,
        )
    )


def command_lines() -> Iterator[bytes]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_bytes()
            except OSError:
                continue


def attempt_of(key: str) -> str:
    return key.split("/")[-2]


def password_of(source: Source) -> bytes:
    return str(psycopg.conninfo.conninfo_to_dict(source.url)["password"]).encode()


def all_bytes(store: ObjectStore, prefix: str) -> Iterator[tuple[str, bytes]]:
    for found in store.observe_objects(prefix):
        yield found.key, store.observe_object(found.key) or b""


def test_memory_is_bounded_no_password_shows_and_the_copy_comes_back(
    large: Source, archiver: WalArchiver, s3: str
) -> None:
    child = back_up_elsewhere(large, s3, label="large")
    seen = []
    while child.poll() is None:
        seen += [line for line in command_lines() if password_of(large) in line]
        time.sleep(0.05)
    done = result_of(child)
    base = observe_base_backup(large.store, prefix=large.prefix, label="large")
    ship_until(archiver, now_at(large))
    with large.restore(base, at=Latest.LATEST) as restored, psycopg.connect(restored.url) as connection:
        count = connection.execute("SELECT count(*) FROM large").fetchone()

    assert base.content_bytes > CONTENT_BYTES
    assert done.peak_bytes < MOST_BYTES
    assert seen == []
    assert count is not None
    assert count[0] > 100_000
    for key, content in all_bytes(large.store, large.prefix):
        assert password_of(large) not in content, key
        assert KEY.identity.encode() not in content, key


def test_memory_of_a_restore_is_bounded(large: Source, archiver: WalArchiver, s3: str) -> None:
    base = large.back_up("brought-back")
    at = now_at(large)
    ship_until(archiver, at)

    done = result_of(
        start(
            Order(
                work="restore",
                store=s3,
                prefix=large.prefix,
                label=base.label,
                programs=str(large.programs.folder),
                identity=KEY.identity,
                folder=str(large.runs),
                at=at.isoformat(),
                statement="SELECT count(*) FROM large",
            )
        )
    )

    assert base.content_bytes > CONTENT_BYTES
    assert done.facts["answer"] > 100_000
    assert done.peak_bytes < MOST_BYTES


def test_memory_of_a_copy_of_attachments_is_bounded(s3: str, tmp_path: Path) -> None:
    content = random.Random(8).randbytes(CONTENT_BYTES // 2) * 2
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    place = tmp_path / "filestore" / digest[:2] / digest
    place.parent.mkdir(parents=True)
    place.write_bytes(content)

    done = result_of(
        start(
            Order(
                work="copy_filestore",
                store=s3,
                prefix=f"shop/{uuid.uuid4().hex[:8]}",
                label="p1",
                recipient=KEY.recipient,
                identity=make_key_pair().identity,
                folder=str(tmp_path / "filestore"),
            )
        )
    )

    assert done.facts == {"copied_count": 1, "kept_count": 0}
    assert done.peak_bytes < MOST_BYTES


def test_killed_backup_is_no_backup_and_what_it_left_is_found(large: Source, archiver: WalArchiver, s3: str) -> None:
    child = back_up_elsewhere(large, s3, label="killed")
    while not list(large.store.observe_objects(f"{large.prefix}/base")):
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()
    later = datetime.now(tz=UTC) + timedelta(hours=1)

    with pytest.raises(Permanent, match="There is no base backup killed"):
        observe_base_backup(large.store, prefix=large.prefix, label="killed")
    left = list(leftovers(large.store, f"{large.prefix}/base", before=later))
    for key in left:
        large.store.ensure_absent(key)
    base = large.back_up("killed")
    ship_until(archiver, now_at(large))

    assert left
    with large.restore(base, at=Latest.LATEST) as restored:
        assert restored.is_running()
    # A part that was on its way may arrive after the kill, and is found as well.
    still = list(leftovers(large.store, f"{large.prefix}/base", before=later))
    assert {attempt_of(key) for key in still} <= {attempt_of(key) for key in left}
