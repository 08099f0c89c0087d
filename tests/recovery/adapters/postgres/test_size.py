"""Base backups of some size to a real S3 server: their memory, what a killed one leaves, and that no secret shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.postgres.archiving import WalArchiver
from recovery.adapters.postgres.base import observe_base_backup
from recovery.adapters.streams import leftovers
from recovery.ports import Latest
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at, ship_until
from tests.seaweed import WRITER, seaweed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
CONTENT_BYTES = 150_000_000
MOST_BYTES = 300_000_000
BACK_UP = """
import os, resource, sys
from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from recovery.adapters.postgres.base import take_base_backup
from recovery.adapters.postgres.programs import find_programs
url, programs, store, prefix, label, recipient = os.environ["BACK_UP"].split("|")
secrets = FakeSecrets({"env:KEY": os.environ["KEY"], "env:SECRET": os.environ["SECRET"]})
take_base_backup(
    url=url,
    programs=find_programs(major=17, folders=[programs]),
    store=open_store(store, access_key="env:KEY", secret_key="env:SECRET", secrets=secrets),
    prefix=prefix,
    label=label,
    recipients=[recipient],
)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed(tmp_path_factory.mktemp("seaweed"), buckets=("backups",)) as server:
        yield f"s3://backups?endpoint={server.url}"


@pytest.fixture
def large(source: Source, s3: str) -> Iterator[Source]:
    secrets = FakeSecrets({"env:KEY": WRITER[0], "env:SECRET": WRITER[1]})
    source.store = open_store(s3, access_key="env:KEY", secret_key="env:SECRET", secrets=secrets)
    source.prefix = f"shop/{source.slot}"
    source.execute(
        "CREATE UNLOGGED TABLE seed AS SELECT sha512(i::text::bytea) AS hash FROM generate_series(1, 3000) i"
    )
    source.execute(
        "CREATE TABLE large AS SELECT a.hash || b.hash || sha512(a.hash || b.hash) AS hash"
        " FROM seed a, seed b LIMIT 700000"
    )
    source.execute("DROP TABLE seed")
    yield source
    source.execute("DROP TABLE large")


def back_up_elsewhere(source: Source, s3: str, *, label: str) -> subprocess.Popen[str]:
    words = [source.url, str(source.programs.folder), s3, source.prefix, label, KEY.recipient]
    environment = {"BACK_UP": "|".join(words), "KEY": WRITER[0], "SECRET": WRITER[1], "PATH": os.environ["PATH"]}
    return subprocess.Popen(
        [sys.executable, "-c", BACK_UP], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


def command_lines() -> Iterator[bytes]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_bytes()
            except OSError:
                continue


def password_of(source: Source) -> bytes:
    return str(psycopg.conninfo.conninfo_to_dict(source.url)["password"]).encode()


def all_bytes(store: ObjectStore, prefix: str) -> Iterator[tuple[str, bytes]]:
    for found in store.observe_objects(prefix):
        yield found.key, store.observe_object(found.key) or b""


def test_memory_is_bounded_no_password_shows_and_the_copy_comes_back(
    large: Source, archiver: WalArchiver, s3: str
) -> None:
    began = time.monotonic()
    child = back_up_elsewhere(large, s3, label="large")
    seen = []
    while child.poll() is None:
        seen += [line for line in command_lines() if password_of(large) in line]
        time.sleep(0.05)
    assert child.stdout is not None
    with child.stdout as pipe:
        peak = int(pipe.read())
    took = time.monotonic() - began
    base = observe_base_backup(large.store, prefix=large.prefix, label="large")
    ship_until(archiver, now_at(large))
    with large.restore(base, at=Latest.LATEST) as restored, psycopg.connect(restored.url) as connection:
        count = connection.execute("SELECT count(*) FROM large").fetchone()

    print(f"{base.content_bytes / 1e6:.0f} MB in {took:.1f} s, peak {peak / 1e6:.0f} MB, {restored.facts}")
    assert base.content_bytes > CONTENT_BYTES
    assert peak < MOST_BYTES
    assert seen == []
    assert count is not None
    assert count[0] > 100_000
    for key, content in all_bytes(large.store, large.prefix):
        assert password_of(large) not in content, key
        assert KEY.identity.encode() not in content, key


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
    assert list(leftovers(large.store, f"{large.prefix}/base", before=later)) == []
