"""Base backups against `zstd -1 -T2` of the same bytes; restores against `cp -a` and `pg_restore -j2`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from recovery.adapters.postgres.archiving import WalArchiver, ensure_no_slot
from recovery.adapters.postgres.programs import connection_environment, find_programs
from tests.bench.harness import Figure, seconds
from tests.bench.recovery.scene import DATABASE, PREFIX, Scene
from tests.worker import Done, result_of, start

ROUNDS = 3
SLOT = "bench"
CHANGED_SHARE = 500
"""One row of so many is changed after the backup: WAL of about a tenth of the data, most of it pages of indexes."""
NEWEST = "SELECT max(written_at)::text FROM hashes_2"
"""What a restored database is asked: it was changed only after the time of the restore."""
MEGABYTE = 1_000_000
MOST_MEGABYTES = 300


def measure(scene: Scene) -> Iterator[Figure]:
    """Yield the figures of backup and restore: the same backup and its WAL are restored."""
    archiver = _archiver(scene)
    archiver.start()
    try:
        yield from _backups(scene)
        at = _changes(scene, archiver)
    finally:
        archiver.stop()
        ensure_no_slot(scene.url, slot=SLOT)
    yield from _restores(scene, at=at)


def _backups(scene: Scene) -> Iterator[Figure]:
    same_bytes = scene.folder / "same.tar"
    with same_bytes.open("wb") as file:
        subprocess.run(
            [
                scene.server.tool("pg_basebackup"),
                "--pgdata=-",
                "--format=tar",
                "--wal-method=none",
                "--checkpoint=fast",
            ],
            env=connection_environment(scene.url),
            stdout=file,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    done: list[Done] = []
    alone: list[Done] = []
    floors: list[float] = []
    words = {"url": scene.url, "recipient": scene.keys.recipient}
    for number in range(ROUNDS):
        done.append(_worker(scene, "base_backup", label=f"b{number}", **words))
        alone.append(_worker(scene, "base_backup", label=f"b{number}", store=f"file://{scene.folder}/alone", **words))
        shutil.rmtree(scene.folder / "alone")
        floors.append(seconds(lambda: _run(["zstd", "-1", "-T2", "--quiet", "--stdout", same_bytes])))
    size = same_bytes.stat().st_size
    same_bytes.unlink()
    floor = size / min(floors) / MEGABYTE
    yield Figure("base_backup", _rate(done), "MB/s", floor, aim="ratio >= 0.6")
    yield Figure("base_backup_to_folder", _rate(alone), "MB/s", floor)
    yield _peak("base_backup_peak", done)


def _rate(done: list[Done]) -> float:
    return max(float(one.facts["content_bytes"]) / one.seconds for one in done) / MEGABYTE


def _changes(scene: Scene, archiver: WalArchiver) -> datetime:
    """Change rows before and after a time, archive all of it, and return the time."""
    with psycopg.connect(scene.url, dbname=DATABASE, autocommit=True) as shop:
        _change(shop, "hashes_0", "hashes_1")
        at = _now(shop)
        time.sleep(1)
        _change(shop, "hashes_2", "hashes_3")
        shop.execute("SELECT pg_switch_wal()")
        until = _now(shop)
    while (reached_at := archiver.ship().reached_at) is None or reached_at < until:
        time.sleep(0.2)
    return at


def _change(shop: psycopg.Connection, *tables: str) -> None:
    for table in tables:
        statement = sql.SQL(
            "UPDATE {0} SET hash = md5(random()::text), written_at = clock_timestamp()"
            " WHERE id < (SELECT max(id) / %s FROM {0})"
        )
        shop.execute(statement.format(sql.Identifier(table)), [CHANGED_SHARE])


def _now(shop: psycopg.Connection) -> datetime:
    row = shop.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at


def _restores(scene: Scene, *, at: datetime) -> Iterator[Figure]:
    done: list[Done] = []
    copies: list[float] = []
    synced: list[float] = []
    for _ in range(ROUNDS):
        one = _worker(
            scene,
            "restore",
            label=f"b{ROUNDS - 1}",
            identity=scene.keys.identity,
            folder=str(scene.folder),
            at=at.isoformat(),
            database=DATABASE,
            statement=NEWEST,
        )
        assert datetime.fromisoformat(one.facts["answer"]) < at
        done.append(one)
        took = _copied(scene)
        copies.append(took[0])
        synced.append(took[1])
    ours = min(one.seconds for one in done)
    yield Figure("restore_to_copy", ours, "s", min(copies), aim="ratio <= 4")
    yield Figure("restore_to_copy_on_disk", ours, "s", min(synced))
    yield Figure("restore_to_pg_restore", _pg_restored(scene) / ours, "times faster", 1.0, aim="value >= 3")
    yield _peak("restore_peak", done)


def _copied(scene: Scene) -> tuple[float, float]:
    """Return how long `cp -a` of the data takes, and how long until it is on disk as a restore's is."""
    target = scene.folder / "copy"
    began = time.perf_counter()
    _run(["cp", "-a", scene.server.cluster, target])
    copied = time.perf_counter() - began
    _run(["sync", "--file-system", target])
    synced = time.perf_counter() - began
    shutil.rmtree(target)
    return copied, synced


def _pg_restored(scene: Scene) -> float:
    """Return how long `pg_restore -j2` takes for the same database from a dump on the disk."""
    environment = connection_environment(scene.url)
    dump = scene.folder / "dump"
    tool = scene.server.tool
    _run([tool("pg_dump"), "--format=custom", "--compress=zstd:1", f"--file={dump}", DATABASE], environment=environment)
    with psycopg.connect(scene.url, autocommit=True) as owner:
        owner.execute("CREATE DATABASE restored")
        try:
            return seconds(
                lambda: _run([tool("pg_restore"), "--jobs=2", "--dbname=restored", dump], environment=environment)
            )
        finally:
            dump.unlink()
            owner.execute("DROP DATABASE restored WITH (FORCE)")


def _archiver(scene: Scene) -> WalArchiver:
    return WalArchiver(
        url=scene.url,
        slot=SLOT,
        programs=find_programs(major=17, folders=[str(scene.server.tool("pg_basebackup").parent)]),
        store=scene.store(),
        prefix=PREFIX,
        folder=scene.folder / "wal",
        recipients=[scene.keys.recipient],
    )


def _worker(scene: Scene, work: str, *, label: str, **more: str) -> Done:
    return result_of(start(scene.order(work, label=label, **more)))


def _peak(name: str, done: list[Done]) -> Figure:
    most = max(one.peak_bytes for one in done) / MEGABYTE
    return Figure(name, most, "MB", MOST_MEGABYTES, aim=f"value <= {MOST_MEGABYTES}")


def _run(command: list[str | Path], *, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, env=environment or dict(os.environ), stdout=subprocess.DEVNULL, check=True)
