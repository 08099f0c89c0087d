"""Ten kinds of corruption, each at ten random places: none is ever verified, each is named; clean copies never alarm.

What makes "verified" is done in its order: all that is stored is read (level 1), a copy is fetched, held against its
manifest, replayed, started and questioned (level 2), and the filestore is verified and read (levels 1 and 3).
"""

from __future__ import annotations

import os
import random
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from changecontrol.project.local.postgres import Postgres
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.filestore import FolderSource
from recovery.adapters.postgres.base import observe_base_backup
from recovery.adapters.postgres.facts import FACTS
from recovery.adapters.postgres.fetching import fetch_copy, verify_copy
from recovery.adapters.postgres.programs import find_programs
from recovery.adapters.postgres.restoring import start_copy
from recovery.adapters.postgres.sandbox import make_sandbox, tear_down
from recovery.adapters.postgres.verifying import question, verify_stored
from recovery.adapters.postgres.wal import check_covered, coverage_of, observe_archive
from recovery.adapters.streams import observe_stream
from recovery.ports.filestore import FilestorePoint
from recovery.ports.postgres import BaseBackup, WalArchive, WalObject
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at, ship_until
from tests.recovery.proof.scene import INDEX_KEY, Odoo, filestores, names_in, place_for_restores

pytestmark = pytest.mark.slow

PLACES = 10
CLEAN_RUNS = 20
MARKS = 300


@dataclass(frozen=True)
class Kept:
    """What the catalogue knows of a tenant's backups, and what the source held: `named`, and when `marks` came."""

    source: Source
    filestore: Path
    base: BaseBackup
    earlier: FilestorePoint
    point: FilestorePoint
    ends_at: datetime
    named: tuple[str, ...]
    marks: tuple[datetime, ...]

    def read_from(self, folder: Path) -> Kept:
        return replace(self, source=replace(self.source, store=open_store(f"file://{folder}")))

    def archive(self) -> WalArchive:
        return observe_archive(
            self.source.store,
            prefix=self.source.prefix,
            system_identifier=self.base.system_identifier,
            segment_bytes=self.base.segment_bytes,
        )

    def wal(self) -> list[WalObject]:
        return list(coverage_of(self.base, archive=self.archive()).needed)

    def packs(self) -> list[str]:
        found = self.source.store.observe_objects(f"{self.source.prefix}/filestore/packs")
        return sorted(one.key for one in found if one.key.endswith(".tar.zst.age"))

    def objects_of(self, stream: str) -> list[str]:
        """Return the keys of a stream's head and parts."""
        parts = observe_stream(self.source.store, stream).parts
        return [stream, *(f"{stream}.parts/{part.name}" for part in parts)]


def backed_up(server: Postgres, *, prefix: str, folder: Path, runs: Path) -> Kept:
    """Back a tenant up: a base backup, finished segments of WAL and one begun, and two points of the filestore."""
    source = Source(
        server=server,
        programs=find_programs(major=17, folders=[str(server.tool("pg_basebackup").parent)]),
        store=open_store(f"file://{folder}/objects"),
        prefix=prefix,
        folder=folder / prefix.partition("/")[0],
        runs=runs,
    )
    source.folder.mkdir()
    odoo = Odoo(source, filestore=source.folder / "filestore", chance=random.Random(prefix))
    archiver = source.archiver()
    archiver.start()
    try:
        with psycopg.connect(source.url, autocommit=True) as connection:
            for number in range(40):
                odoo.attach(connection, number)
            earlier = odoo.copy("p1").point
            base = source.back_up("sunday")
            for number in range(40, 100):
                odoo.attach(connection, number)
            point = odoo.copy("p2").point
            for number in range(MARKS):
                connection.execute("INSERT INTO marks VALUES (%s, repeat(md5(random()::text), 50))", [number])
                if number % 50 == 25:
                    archiver.ship()
                if number % 100 == 99:
                    connection.execute("SELECT pg_switch_wal()")
            connection.execute("INSERT INTO marks VALUES (%s)", [MARKS])
        ends_at = now_at(source)
        ship_until(archiver, ends_at)
    finally:
        archiver.stop()
    times = tuple(at for _, at in odoo.marks())
    return Kept(source, odoo.filestore, base, earlier, point, ends_at, tuple(odoo.names()), times)


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Kept, Kept]]:
    """Two tenants with servers of their own in one store, encrypted to the same recipient."""
    folder = tmp_path_factory.mktemp("estate")
    tenants, servers = [], []
    with place_for_restores() as runs:
        try:
            for prefix in ("acme/production", "other/production"):
                servers.append(Postgres(folder / prefix.replace("/", "-"), durable=False).start())
                servers[-1].run_sql("ALTER SYSTEM SET track_commit_timestamp = on;")
                servers[-1].restart()
                tenants.append(backed_up(servers[-1], prefix=prefix, folder=folder, runs=runs))
            yield folder / "objects", tenants[0], tenants[1]
        finally:
            for server in servers:
                server.destroy()


@dataclass
class Copy:
    """A copy of the store, to be damaged. `ours` and `theirs` are read from it; `archive` is the WAL listed before."""

    folder: Path
    ours: Kept
    theirs: Kept
    archive: WalArchive
    chance: random.Random

    def change(self, key: str, how: Callable[[bytes], bytes]) -> str:
        place = self.folder / key
        before = place.read_bytes()
        after = how(before)
        assert after != before
        # As a new file: the old one is the original's, too.
        place.unlink()
        place.write_bytes(after)
        return key

    def plant(self, key: str, other: str) -> str:
        data = (self.folder / other).read_bytes()
        return self.change(key, lambda _: data)

    def truncated(self, data: bytes) -> bytes:
        return data[: self.chance.randrange(len(data))]

    def flipped(self, data: bytes) -> bytes:
        place, bit = self.chance.randrange(len(data)), 1 << self.chance.randrange(8)
        return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]

    def any_object(self) -> str:
        """Choose an object that a restore needs: first of which kind, since there are many more of some."""
        kinds = [
            self.ours.objects_of(self.ours.base.key),
            self.ours.objects_of(self.ours.base.manifest_key),
            [one.key for one in self.ours.wal()],
            self.ours.packs(),
            [self.ours.point.key],
        ]
        return self.chance.choice(self.chance.choice(kinds))


@pytest.fixture
def copies(estate: tuple[Path, Kept, Kept], tmp_path: Path, chance: random.Random) -> Iterator[Copy]:
    """Return a copy of the store for each place."""
    original, ours, theirs = estate

    def made() -> Iterator[Copy]:
        for number in range(PLACES):
            folder = tmp_path / f"copy{number}"
            shutil.copytree(original, folder, copy_function=os.link)
            yield Copy(folder, ours.read_from(folder), theirs.read_from(folder), ours.archive(), chance)

    return made()


@dataclass
class Verdict:
    """What each of the checks said is wrong, in sentences; and what the restored copy held, where it came up."""

    sentences: dict[str, list[str]] = field(default_factory=dict)
    marks: int = 0
    named: tuple[str, ...] = ()

    def note(self, check: str, act: Callable[[], list[str] | None]) -> None:
        try:
            self.sentences[check] = act() or []
        except Permanent as error:
            self.sentences[check] = [error.reason]

    def unsaid(self, words: str) -> list[str]:
        """Return the checks that let it pass, or did not name it."""
        return [check for check, said in self.sentences.items() if not any(words in one for one in said)]


def judge_database(
    kept: Kept, *, at: datetime, identity: str = KEY.identity, archive: WalArchive | None = None
) -> Verdict:
    """Do both what a verification does and what a restore does: neither relies on the other having been done."""
    verdict = Verdict()
    listed = archive or kept.archive()
    words: dict[str, Any] = {"store": kept.source.store, "base": kept.base, "archive": listed, "identities": [identity]}
    verdict.note("verified", lambda: check_covered(verify_stored(**words), at=at))
    verdict.note("restored", lambda: restore_and_question(kept, verdict, at=at, **words))
    return verdict


def restore_and_question(kept: Kept, verdict: Verdict, *, at: datetime, **words: Any) -> None:
    source, run_id = kept.source, uuid.uuid4().hex[:8]
    sandbox = make_sandbox(source.runs, run_id=run_id)
    try:
        coverage = fetch_copy(**words, at=at, sandbox=sandbox)
        verify_copy(sandbox, programs=source.programs)
        with start_copy(
            sandbox, programs=source.programs, base=kept.base, coverage=coverage, at=at, role="postgres"
        ) as restored:
            question(restored, programs=source.programs)
            with psycopg.connect(restored.url) as connection:
                verdict.marks = len(connection.execute("SELECT FROM marks").fetchall())
                verdict.named = tuple(names_in(connection))
    finally:
        tear_down(source.runs, run_id=run_id)


def judge_filestore(kept: Kept, *, point: FilestorePoint | None = None, identity: str = KEY.identity) -> Verdict:
    verdict, archive, point = Verdict(), filestores(kept.source), point or kept.point
    verdict.note("objects", lambda: [one.sentence for one in archive.observe_damage(point)])

    def read() -> list[str]:
        return [one.sentence for one in archive.observe_contents(point, identity=identity, named=kept.named).findings]

    verdict.note("contents", read)
    return verdict


def judge(copy: Copy, key: str, *, archive: WalArchive | None = None) -> list[str]:
    """Return the checks that let a damaged object pass or did not name it."""
    if "/filestore/points/" in key:
        return judge_filestore(copy.ours).unsaid(key)
    if "/filestore/packs/" in key:
        # Who reads the files names those that it costs. Damage behind the last of them costs none.
        verdict = judge_filestore(copy.ours)
        assert names_said(verdict.sentences["contents"]) <= set(copy.ours.named)
        return [check for check in verdict.unsaid(key) if check == "objects"]
    verdict = judge_database(copy.ours, at=copy.ours.ends_at, archive=archive)
    return verdict.unsaid(key.split("/")[-2] if "/wal/" in key else key.partition(".parts/")[0])


def names_said(sentences: list[str]) -> set[str]:
    return {sentence.partition(" ")[0] for sentence in sentences}


def flip_in(*chosen: Callable[[Copy], list[str]]) -> Callable[[Copy], list[str]]:
    def flip(copy: Copy) -> list[str]:
        key = copy.chance.choice(copy.chance.choice(chosen)(copy))
        return judge(copy, copy.change(key, copy.flipped))

    return flip


def truncate(copy: Copy) -> list[str]:
    return judge(copy, copy.change(copy.any_object(), copy.truncated))


def lose_segment(copy: Copy) -> list[str]:
    """Lose all of a segment: the times behind it are no more covered, and the last safe one is said."""
    folder = (copy.folder / copy.chance.choice(copy.ours.wal()).key).parent
    shutil.rmtree(folder)
    verdict = judge_database(copy.ours, at=copy.ours.ends_at)
    is_named = any("WAL is missing from" in one for said in verdict.sentences.values() for one in said)
    return verdict.unsaid("WAL is missing from" if is_named else "no WAL reaches it. The last safe time is")


def lose_attachment(copy: Copy) -> list[str]:
    name = copy.chance.choice(copy.ours.named)
    filestore = copy.folder.with_name(f"{copy.folder.name}-filestore")
    shutil.copytree(copy.ours.filestore, filestore, copy_function=os.link)
    (filestore / name).unlink()
    # What copies before had is held by two more: after those nobody has it any more.
    for point in ("held", "held once more", "lacking"):
        copied = filestores(copy.ours.source).ensure_copy(
            point=point.replace(" ", "-"), source=FolderSource(filestore), at=copy.ours.ends_at
        )
    # Every object is as it was written: only who knows what the database names can tell.
    verdict = judge_filestore(copy.ours, point=copied.point)
    assert verdict.sentences["objects"] == []
    return [check for check in verdict.unsaid(name) if check == "contents"]


def read_with_another_key(copy: Copy) -> list[str]:
    identity, words = copy.chance.choice(
        [
            (make_key_pair().identity, "it was encrypted to other recipients"),
            (INDEX_KEY.identity, "opens the list of files and none of the files"),
        ]
    )
    filestore = judge_filestore(copy.ours, identity=identity)
    database = judge_database(copy.ours, at=copy.ours.ends_at, identity=identity)
    unsaid = database.unsaid("it was encrypted to other recipients") + filestore.unsaid(words)
    # The worker's own key shows that every object is there; that is all that it may say.
    assert filestore.sentences["objects"] == []
    return [check for check in unsaid if check != "objects"]


def swap_tenant(copy: Copy) -> list[str]:
    ours, theirs = copy.ours, copy.theirs
    key, planted = copy.chance.choice(
        [
            (ours.objects_of(ours.base.key), theirs.objects_of(theirs.base.key)),
            (ours.objects_of(ours.base.manifest_key), theirs.objects_of(theirs.base.manifest_key)),
            ([one.key for one in ours.wal()], [one.key for one in theirs.wal()]),
            (ours.packs(), theirs.packs()),
            ([ours.point.key], [theirs.point.key]),
        ]
    )
    return judge(copy, copy.plant(copy.chance.choice(key), copy.chance.choice(planted)))


def filestore_of_another_moment(copy: Copy) -> list[str]:
    """Either lies in the place of the right one, or was taken for it when the restore was put together."""
    if copy.chance.random() < 0.5:
        return judge(copy, copy.plant(copy.ours.point.key, copy.ours.earlier.key))
    verdict = judge_filestore(copy.ours, point=copy.ours.earlier)
    lacking = names_said(verdict.sentences["contents"])
    return [] if len(lacking) == 60 and lacking < set(copy.ours.named) else ["contents"]


def expire(copy: Copy) -> list[str]:
    """Let the store's own rule delete an object that was there when all was listed."""
    key = copy.any_object()
    (copy.folder / key).unlink()
    return judge(copy, key, archive=copy.archive)


KINDS: dict[str, Callable[[Copy], list[str]]] = {
    "truncation": truncate,
    "bit flip in the base backup": flip_in(lambda copy: copy.ours.objects_of(copy.ours.base.key)),
    "bit flip in WAL": flip_in(lambda copy: [one.key for one in copy.ours.wal()]),
    "bit flip in a pack": flip_in(lambda copy: copy.ours.packs()),
    "bit flip in a manifest": flip_in(
        lambda copy: copy.ours.objects_of(copy.ours.base.manifest_key), lambda copy: [copy.ours.point.key]
    ),
    "missing segment": lose_segment,
    "missing attachment": lose_attachment,
    "wrong key": read_with_another_key,
    "swapped tenant": swap_tenant,
    "filestore of another moment": filestore_of_another_moment,
    "expired object": expire,
}


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_is_never_verified_and_always_named(copies: Iterator[Copy], kind: str) -> None:
    for place, copy in enumerate(copies):
        assert KINDS[kind](copy) == [], f"place {place}"


def test_clean_copies_raise_no_alarm(estate: tuple[Path, Kept, Kept], chance: random.Random) -> None:
    _, ours, _ = estate

    for _ in range(CLEAN_RUNS):
        at = ours.base.finished_at + (ours.ends_at - ours.base.finished_at) * chance.random()
        database, filestore = judge_database(ours, at=at), judge_filestore(ours)

        assert database.sentences == {"verified": [], "restored": []}, at
        assert filestore.sentences == {"objects": [], "contents": []}
        assert database.marks == sum(committed_at <= at for committed_at in ours.marks)
        assert set(database.named) <= set(ours.named)


@pytest.mark.parametrize("whose", ["another tenant", "another backup"])
def test_facts_that_are_another_s_are_refused(copies: Iterator[Copy], whose: str) -> None:
    copy = next(copies)
    folder = f"{copy.ours.source.prefix}/base"
    if whose == "another tenant":
        copy.plant(f"{folder}/sunday/{FACTS}", f"{copy.theirs.source.prefix}/base/sunday/{FACTS}")
    else:
        shutil.copytree(copy.folder / folder / "sunday", copy.folder / folder / "monday")
    label = "sunday" if whose == "another tenant" else "monday"

    with pytest.raises(Permanent, match=label):
        observe_base_backup(copy.ours.source.store, prefix=copy.ours.source.prefix, label=label)


def test_facts_with_a_changed_digit_are_refused(copies: Iterator[Copy]) -> None:
    taken = []
    for copy in copies:

        def changed(data: bytes, chance: random.Random = copy.chance) -> bytes:
            place = chance.choice([place for place, byte in enumerate(data) if chr(byte).isdigit()])
            return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

        key = copy.change(f"{copy.ours.source.prefix}/base/sunday/{FACTS}", changed)
        with suppress(Permanent):
            found = observe_base_backup(copy.ours.source.store, prefix=copy.ours.source.prefix, label="sunday")
            taken += [key] if found != copy.ours.base else []

    assert taken == []
