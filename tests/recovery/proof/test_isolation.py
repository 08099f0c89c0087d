"""One environment's backups never meet another's, a restore never aims at what is in use, no secret is ever told."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from recovery.adapters.encryption import recipient_of
from recovery.adapters.filestore import FolderSource
from recovery.adapters.postgres.archiving import WalArchiver, ensure_no_slot, observe_slot
from recovery.adapters.postgres.base import observe_base_backups
from recovery.adapters.postgres.programs import observe_server
from recovery.adapters.postgres.verifying import question, verify_stored
from recovery.adapters.streams import leftovers
from recovery.ports.filestore import FilestorePoint
from recovery.ports.postgres import BaseBackup, Latest
from recovery.rules.restores import check_target
from tests.recovery.adapters.filestore.scene import Filestore
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at, ship_until
from tests.recovery.proof.scene import INDEX_KEY, filestores
from tests.recovery.proof.test_trouble import bulk
from tests.recovery.proof.worker import WatchedStore
from tests.seaweed import WRITER, Seaweed

pytestmark = pytest.mark.slow

FAR = datetime(2100, 1, 1, tzinfo=UTC)
NEIGHBOURS = ("acme/production", "acme/production-eu", "acme/prod", "acme-eu/production")
"""Each one's name begins like another's."""
CANARY = "canary-5b1e-of-the-database"


@dataclass(frozen=True)
class Backup:
    source: Source
    base: BaseBackup
    point: FilestorePoint


@pytest.fixture
def neighbours(source: Source, tmp_path: Path) -> Iterator[list[Backup]]:
    """Return a backup of each neighbour, all in one store, beside what an upload of each left when it was killed."""
    filestore = Filestore(tmp_path / "filestore")
    filestore.grow(20)
    backups, begun = [], []
    for number, prefix in enumerate(NEIGHBOURS):
        own = replace(source, prefix=prefix, slot=f"{source.slot}_{number}", folder=tmp_path / str(number))
        own.folder.mkdir()
        archiver = own.archiver()
        archiver.start()
        begun.append(own)
        try:
            base = own.back_up("sunday")
            ship_until(archiver, now_at(own))
        finally:
            archiver.stop()
        copied = filestores(own).ensure_copy(point="p1", source=filestore.source, at=datetime.now(UTC))
        for key in ("base/killed/base.tar.zst.age.parts/0/00000000", f"filestore/packs/{'0' * 32}.tar.zst.age"):
            own.store.ensure_object(f"{prefix}/{key}", b"left over")
        backups.append(Backup(own, base, copied.point))
    yield backups
    for own in begun:
        ensure_no_slot(own.url, slot=own.slot)


def everything_done_with(backup: Backup) -> None:
    """List, verify, restore, read and prune all that an environment has."""
    source, prefix = backup.source, backup.source.prefix
    archive = filestores(source)

    assert list(observe_base_backups(source.store, prefix=prefix)) == [backup.base]
    assert len(list(leftovers(source.store, f"{prefix}/base", before=FAR))) == 1
    verify_stored(store=source.store, base=backup.base, archive=source.archive(), identities=[KEY.identity])
    with source.restore(backup.base, at=Latest.LATEST) as restored:
        assert restored.is_running()
    assert archive.observe_damage(backup.point) == ()
    assert archive.observe_contents(backup.point, identity=KEY.identity).file_count == 20
    pruned = archive.ensure_pruned(at=datetime.now(UTC) + timedelta(days=9), grace=timedelta(days=2))
    assert len(list(pruned)) == 1
    archive.ensure_removed(backup.point)


def noted(asked: list[str], act: str, key: str) -> None:
    asked.append(key)


def test_no_environment_lists_reads_or_prunes_what_is_another_s(neighbours: list[Backup]) -> None:
    for backup in neighbours[:2]:
        asked: list[str] = []
        watched = WatchedStore(backup.source.store, partial(noted, asked))
        others = {
            one.key
            for one in backup.source.store.observe_objects(backup.source.prefix.split("/")[0])
            if not one.key.startswith(f"{backup.source.prefix}/")
        }

        everything_done_with(replace(backup, source=replace(backup.source, store=watched)))

        left = {one.key for one in backup.source.store.observe_objects(backup.source.prefix.split("/")[0])}
        assert others
        assert others <= left
        assert [key for key in asked if not key.startswith(f"{backup.source.prefix}/")] == []


def test_point_of_another_environment_is_refused_by_every_verb(neighbours: list[Backup], tmp_path: Path) -> None:
    ours, theirs = neighbours[0], neighbours[1]
    archive = filestores(ours.source)
    before = {one.key for one in ours.source.store.observe_objects("acme")}
    verbs: list[Callable[[], object]] = [
        lambda: archive.observe_damage(theirs.point),
        lambda: archive.observe_contents(theirs.point, identity=KEY.identity),
        lambda: archive.ensure_restored(theirs.point, target=tmp_path / "new", identity=KEY.identity),
        lambda: archive.ensure_removed(theirs.point),
    ]

    for verb in verbs:
        with pytest.raises(Permanent, match="The point p1 is not one of acme/production"):
            verb()

    assert {one.key for one in ours.source.store.observe_objects("acme")} == before
    assert not (tmp_path / "new").exists()


def test_restore_aimed_at_any_database_in_use_is_refused(source: Source) -> None:
    with psycopg.connect(source.url) as connection:
        in_use = [name for (name,) in connection.execute("SELECT datname FROM pg_database")]

    assert len(in_use) >= 4
    for name in (*in_use, *(one.upper() for one in in_use)):
        assert check_target(name, in_use=in_use) != ""
    assert check_target("changecontrol_restored", in_use=in_use) == ""


@dataclass
class Told:
    """All that anybody gets to see: words, by where they were found."""

    words: dict[str, str]

    def refused(self, name: str, act: Callable[..., object], *given: object) -> None:
        try:
            act(*given)
        except (Permanent, Transient) as refusal:
            error = refusal
        else:
            pytest.fail(f"{name} was not refused")
        self.words[name] = "\n".join([*traceback.format_exception(error), repr(error), str(error), error.reason])

    def secrets_in(self, canaries: dict[str, str]) -> list[tuple[str, str]]:
        return [
            (place, name) for place, text in self.words.items() for name, secret in canaries.items() if secret in text
        ]


def files_below(folder: Path) -> dict[str, str]:
    return {str(path): path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()}


def command_lines(pid: int | None = None) -> str:
    """Return the command lines of all that this process has started, as anybody on the machine may read them."""
    children = [_read(path).split() for path in Path(f"/proc/{pid or os.getpid()}/task").glob("*/children")]
    own = [int(child) for found in children for child in found]
    return "\n".join(_read(Path(f"/proc/{child}/cmdline")) + command_lines(child) for child in own)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def s3(server: Seaweed, *, prefix: str, secret: str = WRITER[1]) -> ObjectStore:
    return open_store(
        f"s3://backups/{prefix}?endpoint={server.url}",
        credential="env:STORE",
        secrets=FakeSecrets({"env:STORE": f"{WRITER[0]}:{secret}"}),
    )


@pytest.fixture
def canary_source(source: Source) -> Iterator[Source]:
    """Return the source as a role sees it whose password is a canary."""
    source.execute(f"CREATE ROLE canary SUPERUSER REPLICATION LOGIN PASSWORD '{CANARY}'")
    yield CanarySource(**vars(source))
    source.execute("DROP OWNED BY canary; DROP ROLE canary")


class CanarySource(Source):
    @property
    def url(self) -> str:
        return make_conninfo(self.server.superuser_url, user="canary", password=CANARY)


def test_no_secret_is_ever_logged_raised_or_stored(
    canary_source: Source,
    real_s3: Seaweed,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = Told({})
    plain = s3(real_s3, prefix=tmp_path.name)

    def before(act: str, key: str) -> None:
        told.words["command lines"] = told.words.get("command lines", "") + command_lines()

    source = replace(canary_source, store=WatchedStore(plain, before))
    filestore = Filestore(tmp_path / "filestore")
    filestore.grow(5)
    caplog.set_level("DEBUG")
    bulk(source)
    archiver = source.archiver()
    archiver.start()
    try:
        base = source.back_up("sunday")
        ship_until(archiver, now_at(source))
        facts = [base, archiver, archiver.ship(), observe_slot(source.url, slot=source.slot)]
        told.words |= files_below(archiver.folder)
    finally:
        archiver.stop()
    archive = filestores(source)
    copied = archive.ensure_copy(point="p1", source=FolderSource(filestore.root), at=datetime.now(UTC))
    with source.restore(base, at=Latest.LATEST) as restored:
        facts += [restored.facts, question(restored, programs=source.programs)]
        told.words |= files_below(restored.sandbox.folder)
    facts += [copied, archive.observe_contents(copied.point, identity=KEY.identity)]
    for number, fact in enumerate(facts):
        told.words[f"fact {number}"] = repr(fact)

    troubles(told, source, base=base, archive_of=copied.point, real_s3=real_s3)

    for found in plain.observe_objects(source.prefix):
        told.words[f"object {found.key}"] = found.key + (plain.observe_object(found.key) or b"").decode("latin-1")
    told.words["log"] = caplog.text
    told.words["output"] = "".join(capfd.readouterr())
    canaries = {
        "password": CANARY,
        "wrong password": f"{CANARY}-wrong"[-20:],
        "identity": KEY.identity,
        "index identity": INDEX_KEY.identity,
        "beginning of an identity": KEY.identity[:40],
        "S3 secret": WRITER[1],
        "wrong S3 secret": "guessed-secret",
    }
    assert len(told.words) > 30
    assert all(program in told.words["command lines"] for program in ("pg_basebackup", "pg_receivewal"))
    assert told.secrets_in(canaries) == []


def troubles(told: Told, source: Source, *, base: BaseBackup, archive_of: FilestorePoint, real_s3: Seaweed) -> None:
    """Let everything fail that is given a secret, once with a wrong one and once with one that is none."""
    parts = conninfo_to_dict(source.url)
    wrong = make_conninfo(source.url, password=f"{CANARY}-wrong")
    away = make_conninfo(source.url, port="1")
    broken = KEY.identity[:-1] + ("Q" if KEY.identity[-1] != "Q" else "P")
    assert parts["password"] == CANARY
    for name, url in (("wrong password", wrong), ("server away", away)):
        told.refused(name, observe_server, url)
        told.refused(f"{name}, archiving", archiver_at(source, url).start)
    told.refused("broken identity", lambda: recipient_of(broken))
    told.refused("restore", lambda: source.restore(base, at=Latest.LATEST, identities=[broken]))
    told.refused("stranger", lambda: source.restore(base, at=Latest.LATEST, identities=[INDEX_KEY.identity]))
    archive = filestores(source)
    for identity in (broken, INDEX_KEY.identity):
        told.refused(f"filestore {identity[-2:]}", partial(archive.observe_contents, identity=identity), archive_of)
    guessed = s3(real_s3, prefix="anywhere", secret="guessed-secret")
    told.refused("S3, write", lambda: guessed.ensure_object("a", b"b"))
    told.refused("S3, read", lambda: guessed.observe_object("a"))
    told.refused("S3, list", lambda: list(guessed.observe_objects("a")))
    told.refused("backup", lambda: replace(source, store=guessed).back_up("refused"))


def archiver_at(source: Source, url: str) -> WalArchiver:
    archiver = source.archiver()
    archiver.url = url
    return archiver


def test_address_that_is_none_is_refused_without_quoting_it() -> None:
    told = Told({})

    told.refused("address", lambda: observe_server(f"host=127.0.0.1 password=with {CANARY}"))

    assert told.secrets_in({"password": CANARY}) == []
