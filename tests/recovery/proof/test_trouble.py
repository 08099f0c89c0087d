"""What goes wrong around a backup or a restore: killed workers, full disks, servers that restart, slots that are lost.

Nothing is ever half-visible, what is left over is found and cleared away, and the work is gone on with.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest

from changecontrol.errors import Hindered, Permanent, Transient
from changecontrol.project.local.postgres import Postgres
from recovery.adapters.postgres.archiving import WalArchiver
from recovery.adapters.postgres.base import observe_base_backup, observe_base_backups
from recovery.adapters.postgres.sandbox import make_sandbox, tear_down
from recovery.adapters.postgres.verifying import verify_stored
from recovery.adapters.postgres.wal import coverage_of, needed_until
from recovery.adapters.streams import leftovers
from recovery.ports.postgres import BaseBackup
from tests.recovery.adapters.postgres.conftest import KEY, Marks, Source, now_at, ship_until
from tests.recovery.proof.worker import WatchedStore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
NEXT_MARK = "INSERT INTO marks SELECT coalesce(max(number), 0) + 1 FROM marks"
FAR = datetime(2100, 1, 1, tzinfo=UTC)


def numbers_in(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM marks ORDER BY number")]


def holds_exactly(source: Source, base: BaseBackup, *, at: datetime, marks: Marks) -> bool:
    with source.restore(base, at=at) as restored:
        return numbers_in(restored.url) == marks.before(at)


# --- A full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a file system of so many bytes."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = Path("/tmp") / f"disk-{os.getpid()}-{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "proof", folder], check=False)
        if done.returncode != 0:
            folder.rmdir()
            pytest.skip("only root can mount a small file system")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def fill(folder: Path, *, but: int) -> None:
    """Take what is free but for so many bytes, whoever else takes some meanwhile."""
    with (folder / "filling").open("wb") as file:
        while (free := shutil.disk_usage(folder).free) > but:
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + free - but)


MOMENTS = {
    "unpacking": (
        lambda base: f"{base.key}.parts/",
        6_000_000,
        "Unpacking the base backup did not succeed: .*No space left on device",
    ),
    "its manifest": (lambda base: base.manifest_key, 0, "cannot be written to: No space left on device"),
    # WAL is fetched beside the base backup: whichever finds no room first.
    "WAL": (lambda base: "/wal/", 300_000, "(cannot be written to|backup did not succeed): .*No space left on device"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_disk_that_fills_while_a_copy_is_fetched_is_a_sentence_and_nothing_stays(
    source: Source, archiver: WalArchiver, small_disk: Callable[[int], Path], moment: str
) -> None:
    base = source.back_up()
    source.execute("SELECT pg_switch_wal()")
    at = now_at(source)
    ship_until(archiver, at)
    disk = small_disk(base.content_bytes + 420 * 1024**2)
    key_of, room, words = MOMENTS[moment]

    def before(act: str, key: str) -> None:
        if act == "observe_object" and key_of(base) in key and not (disk / "filling").exists():
            fill(disk, but=room)

    full = replace(source, runs=disk, store=WatchedStore(source.store, before))
    with pytest.raises(Hindered, match=words):
        full.restore(base, at=at)

    assert [path.name for path in disk.iterdir()] == ["filling"]
    with pytest.raises(Hindered, match=r"The restore needs 0\.\d GB and the disk below .* has 0\.[01] GB free"):
        full.restore(base, at=at)
    (disk / "filling").unlink()
    with replace(source, runs=disk).restore(base, at=at) as restored:
        assert restored.is_running()


@pytest.mark.parametrize("room", [200_000, 20_000_000, 40_000_000])
def test_disk_that_fills_while_wal_is_replayed_never_costs_a_commit(
    source: Source, archiver: WalArchiver, marks: Callable[[], Marks], small_disk: Callable[[int], Path], room: int
) -> None:
    writing = marks()
    base = source.back_up()
    for _ in range(5):
        source.execute("SELECT pg_switch_wal()")
        time.sleep(0.2)
    at = now_at(source)
    ship_until(archiver, at)
    needed = {one.start // base.segment_bytes for one in coverage_of(base, archive=source.archive()).needed}
    disk = small_disk(base.content_bytes + (300 + 2 * 16 * len(needed)) * 1024**2)
    last = list(needed_until(coverage_of(base, archive=source.archive()), at=at, base=base))[-1]

    def before(act: str, key: str) -> None:
        if act == "observe_object" and key == last.key:
            fill(disk, but=room)

    refused, held = "", writing.before(at)
    try:
        with replace(source, runs=disk, store=WatchedStore(source.store, before)).restore(base, at=at) as restored:
            held = numbers_in(restored.url)
    except Hindered as refusal:
        refused = refusal.reason

    assert held == writing.before(at)
    assert not refused or "No space left on device" in refused or "is full" in refused


# --- A worker that is killed -----------------------------------------------------------------------------------------


def bulk(source: Source, *, megabytes: int = 24) -> None:
    """Fill the source with what does not compress, so that a backup has several parts."""
    rows = megabytes * 1024 * 1024 // 96
    four = " || ".join(["uuid_send(gen_random_uuid())"] * 4)
    source.execute(f"DROP TABLE IF EXISTS bulk; CREATE TABLE bulk AS SELECT {four} FROM generate_series(1, {rows})")  # noqa: S608


@contextmanager
def worker(source: Source, **order: object) -> Iterator[subprocess.Popen[str]]:
    """Give a worker its order; what is left of it is killed with the block."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.recovery.proof.worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    words = {"store": f"file://{source.folder}/objects", "prefix": source.prefix, "url": source.url}
    words |= {"programs": str(source.programs.folder), "recipient": KEY.recipient, "identity": KEY.identity}
    with child, child.stdin:
        json.dump(words | order, child.stdin)
        child.stdin.close()
        hear(child, "begun")
        try:
            yield child
        finally:
            child.kill()


def hear(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdout is not None
    assert child.stderr is not None
    said = child.stdout.readline().strip()
    if said != word:
        # What it has to say ends with it.
        child.kill()
    assert said == word, child.stderr.read()


def working_below(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(entry / "cwd").startswith(str(folder)):
                found.append((entry / "cmdline").read_text())
    return found


def is_clear(folder: Path) -> bool:
    return working_below(folder) == []


def wait_for(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


STAGES: dict[str, dict[str, object]] = {
    "nothing fetched": {"act": "observe_object", "key": "/base.tar.zst.age"},
    "half unpacked": {"act": "observe_object", "key": "/base.tar.zst.age.parts/", "after": 2},
    "manifest": {"act": "observe_object", "key": "/backup_manifest.zst.age"},
    "WAL": {"act": "observe_object", "key": "/wal/", "after": 1},
    "replaying": {},
    "answering": {},
}


def test_restore_that_is_killed_at_any_stage_is_found_torn_down_by_its_id_and_done_again(
    source: Source, archiver: WalArchiver, marks: Callable[[], Marks], chance: random.Random
) -> None:
    bulk(source)
    base = source.back_up("only")
    writing = marks()
    source.execute("SELECT pg_switch_wal()")
    at = now_at(source)
    ship_until(archiver, at)
    theirs = make_sandbox(source.runs, run_id="theirs")

    for number, (stage, order) in enumerate(STAGES.items()):
        run_id = f"run{number}"
        folder = source.runs / run_id
        with worker(
            source, work="restore", label="only", at=at.isoformat(), runs=str(source.runs), run_id=run_id, **order
        ) as child:
            if stage == "replaying":
                wait_for((folder / "postgres.log").exists)
                time.sleep(chance.uniform(0, 0.1))
            else:
                hear(child, "here")
            child.kill()
            child.wait()

        assert (folder / "run").read_text() == run_id, stage
        with pytest.raises(Hindered, match="has a folder already: tear it down first"):
            make_sandbox(source.runs, run_id=run_id)
        tear_down(source.runs, run_id=run_id)
        assert not folder.exists(), stage
        wait_for(partial(is_clear, folder))

    assert theirs.folder.is_dir()
    assert holds_exactly(source, base, at=at, marks=writing)


def test_backup_that_is_killed_at_random_is_never_seen_and_what_it_left_is_found(
    source: Source, archiver: WalArchiver, chance: random.Random
) -> None:
    bulk(source)
    began = time.monotonic()
    source.back_up("whole")
    takes = time.monotonic() - began
    killed = 0

    for number in range(5):
        folder = f"{source.prefix}/base/killed{number}"
        with worker(source, work="back_up", label=f"killed{number}") as child:
            time.sleep(chance.uniform(0, takes))
            child.kill()
        found = {one.key for one in source.store.observe_objects(folder)}
        whole = {one.label for one in observe_base_backups(source.store, prefix=source.prefix)}
        if f"killed{number}" in whole:
            continue
        killed += 1
        # A stream that has its head is whole; all parts of one that has none are found.
        parts = {key for key in found if ".parts/" in key and key.partition(".parts/")[0] not in found}
        assert set(leftovers(source.store, folder, before=FAR)) == parts
        with pytest.raises(Permanent, match=f"There is no base backup killed{number}"):
            observe_base_backup(source.store, prefix=source.prefix, label=f"killed{number}")

    assert killed > 0
    again = source.back_up("again")
    ship_until(archiver, now_at(source))
    assert verify_stored(store=source.store, base=again, archive=source.archive(), identities=[KEY.identity]).start_at
    with psycopg.connect(source.url) as connection:
        names = connection.execute("SELECT application_name FROM pg_stat_replication").fetchall()
    assert ("pg_basebackup",) not in names


@pytest.mark.parametrize("key", ["/backup_manifest.zst.age", "/facts.json"])
def test_backup_that_was_killed_after_its_stream_is_gone_on_with_under_its_label(source: Source, key: str) -> None:
    with worker(source, work="back_up", label="same", act="ensure_object", key=key) as child:
        hear(child, "here")

    assert source.back_up("same").label == "same"


def test_archiver_that_is_killed_at_random_goes_on_without_a_gap(
    source: Source, marks: Callable[[], Marks], chance: random.Random
) -> None:
    last = source.archiver()
    last.start()
    base = source.back_up()
    last.stop()
    writing = marks()

    for _ in range(4):
        with worker(source, work="archive", slot=source.slot, folder=f"{source.folder}/wal") as child:
            hear(child, "here")
            time.sleep(chance.uniform(0.0, 0.7))
            source.execute("SELECT pg_switch_wal()")
            time.sleep(chance.uniform(0.0, 0.3))
            child.kill()
    last = source.archiver()
    last.start()
    at = now_at(source)
    try:
        ship_through(last, at)
    finally:
        last.stop()

    coverage = coverage_of(base, archive=source.archive())
    assert (coverage.start_at, coverage.gaps) == (base.finished_at, ())
    assert holds_exactly(source, base, at=at, marks=writing)
    assert holds_exactly(source, base, at=base.finished_at + (at - base.finished_at) * chance.random(), marks=writing)


# --- A server that restarts, and a slot that is lost -----------------------------------------------------------------


def ship_through(archiver: WalArchiver, at: datetime, *, seconds: float = 150) -> list[str]:
    """Ship until every commit before a time is in the store; return what was in the way meanwhile."""
    ends_at, reached_at = time.monotonic() + seconds, None
    troubles: list[str] = []
    while reached_at is None or reached_at < at:
        assert time.monotonic() < ends_at, (reached_at, troubles)
        try:
            reached_at = archiver.ship().reached_at
        except Transient as trouble:
            troubles.append(trouble.reason)
        time.sleep(0.1)
    return troubles


def restart(server: Postgres, *, is_crash: bool) -> None:
    if is_crash:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGQUIT)
    server.restart()


@pytest.mark.parametrize("is_crash", [False, True], ids=["restarted", "crashed"])
def test_server_that_restarts_while_it_is_backed_up_leaves_nothing_and_is_backed_up_again(
    source: Source, server: Postgres, is_crash: bool
) -> None:
    bulk(source)
    uploading, restarted = threading.Event(), threading.Event()
    ended: list[BaseException] = []

    def before(act: str, key: str) -> None:
        if act == "ensure_object" and ".parts/" in key and not uploading.is_set():
            uploading.set()
            restarted.wait(150)

    def back_up() -> None:
        try:
            replace(source, store=WatchedStore(source.store, before)).back_up("cut")
        except (Permanent, Transient) as error:
            ended.append(error)

    thread = threading.Thread(target=back_up)
    thread.start()
    assert uploading.wait(150)
    restart(server, is_crash=is_crash)
    restarted.set()
    thread.join()

    assert [type(error) for error in ended] == [Transient], ended
    assert list(source.store.observe_objects(f"{source.prefix}/base")) == []
    assert source.back_up("cut").label == "cut"


@pytest.mark.parametrize("is_crash", [False, True], ids=["restarted", "crashed"])
def test_server_that_restarts_while_it_is_archived_leaves_no_gap(
    source: Source, server: Postgres, archiver: WalArchiver, is_crash: bool
) -> None:
    source.execute("DROP TABLE IF EXISTS marks; CREATE TABLE marks (number int)")
    base = source.back_up()
    source.execute("INSERT INTO marks SELECT generate_series(0, 19)")
    archiver.ship()
    restart(server, is_crash=is_crash)
    source.execute("INSERT INTO marks SELECT generate_series(20, 39)")
    at = now_at(source)

    troubles = ship_through(archiver, at)

    assert len(troubles) <= 5, troubles
    assert coverage_of(base, archive=source.archive()).gaps == ()
    with source.restore(base, at=at) as restored:
        assert numbers_in(restored.url) == list(range(40))


def test_slot_that_the_server_gave_up_is_said_its_gap_is_named_and_a_new_backup_covers_again(
    source: Source, archiver: WalArchiver
) -> None:
    source.execute("DROP TABLE IF EXISTS marks; CREATE TABLE marks (number int)")
    old = source.back_up("old")
    source.execute(NEXT_MARK)
    safe_at = now_at(source)
    ship_until(archiver, safe_at)
    archiver.stop()
    source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    try:
        source.execute("SELECT pg_reload_conf()")
        for _ in range(4):
            source.execute(NEXT_MARK)
            source.execute("SELECT pg_switch_wal()")
        source.execute("CHECKPOINT")
        with pytest.raises(Permanent, match=f"gave up the WAL of the slot {source.slot}: the archive has a gap"):
            archiver.ship()
    finally:
        source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        source.execute("SELECT pg_reload_conf()")

    archiver.start()
    new = source.back_up("new")
    source.execute(NEXT_MARK)
    at = now_at(source)
    ship_through(archiver, at)

    before, after = (coverage_of(base, archive=source.archive()) for base in (old, new))
    assert len(before.gaps) == 1
    assert before.end_at is not None
    assert safe_at <= before.end_at < new.finished_at
    assert (after.start_at, after.gaps) == (new.finished_at, ())
    with pytest.raises(Permanent, match=f"WAL is missing from .* The last safe time is {before.end_at:%Y-%m-%d %H:%M}"):
        source.restore(old, at=at)
    with source.restore(old, at=safe_at) as restored:
        assert numbers_in(restored.url) == [1]
    with source.restore(new, at=at) as restored:
        assert numbers_in(restored.url) == [1, 2, 3, 4, 5, 6]
