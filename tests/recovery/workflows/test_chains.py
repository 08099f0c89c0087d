"""A full backup that somebody wrote anew below an incremental one: in the store everything fits, and nothing counts."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from changecontrol import clock
from changecontrol.errors import Permanent
from changecontrol.models import User
from recovery import doors
from recovery.actions.drills import drill_point
from recovery.adapters.postgres.base import observe_base_backup
from recovery.adapters.postgres.facts import facts_of
from recovery.adapters.postgres.packing import PackingWriter, UnpackingReader
from recovery.adapters.streams import StoredStream, StreamReader, StreamWriter
from recovery.jobs.elsewhere import copy_onward
from recovery.models import BackupPolicy, BackupRun, Drill, RecoveryPoint
from recovery.models.point import PartKind
from recovery.queries.points import coverage_of
from recovery.workflows.backup import Backup
from tests.factories.estate import actor
from tests.recovery.workflows.conftest import INDEX, OWNER, Shop
from tests.recovery.workflows.test_adoption import asked as adopted
from tests.recovery.workflows.test_adoption import forget
from tests.recovery.workflows.test_comparison import HOUR, compared, later
from tests.recovery.workflows.test_copies import be_still
from tests.recovery.workflows.test_restore import asked, databases, over
from tests.recovery.workflows.test_upkeep import back_up

pytestmark = pytest.mark.slow

BELOW = "northwind/production"
TAMPERED = "0123456789abcdef" * 2
CHECKSUM = re.compile(r', "Checksum-Algorithm": "[^"]*", "Checksum": "[^"]*"')


@pytest.fixture(autouse=True)
def real_time() -> Iterator[None]:
    yield
    clock.set_offset(timedelta())


@dataclass
class Chain:
    """A full backup with an order that is called `name` in the table's `file`, and one that builds upon it."""

    shop: Shop
    name: str
    file: str
    full: RecoveryPoint
    child: RecoveryPoint

    def tampered(self) -> None:
        """Put another order into the full backup, and write anew all that tells of it, by what is no secret."""
        store = doors.open_store(self.shop.policy)
        full = observe_base_backup(store, prefix=BELOW, label=self.full.key)
        child = observe_base_backup(store, prefix=BELOW, label=self.child.key)
        content, kept = self._written_anew(full.key, self._other_order)
        _, listed = self._written_anew(full.manifest_key, self._without_its_checksum)
        told = facts_of(
            replace(full, sha256=kept.sha256, manifest_sha256=listed.sha256, content_bytes=content,
                    stored_bytes=kept.size + listed.size)
        )  # fmt: skip
        self._facts(full.label).write_bytes(told)
        self._facts(child.label).write_bytes(facts_of(replace(child, parent_sha256=hashlib.sha256(told).hexdigest())))

    def _facts(self, label: str) -> Path:
        return self.shop.objects / BELOW / "base" / label / "facts.json"

    def _written_anew(self, key: str, change: Callable[[bytes], bytes]) -> tuple[int, StoredStream]:
        store, objects = doors.open_store(self.shop.policy), self.shop.objects
        with StreamReader(store, key) as stored:
            reader = UnpackingReader(stored, identities=[OWNER.identity])
            data = change(b"".join(iter(lambda: reader.read(1 << 20), b"")))
        with StreamWriter(store, f"{key}.new") as stream:
            with PackingWriter(stream, recipients=[OWNER.recipient, INDEX.recipient]) as packing:
                packing.write(data)
            kept = stream.close()
        shutil.rmtree(objects / f"{key}.parts")
        (objects / f"{key}.new.parts").rename(objects / f"{key}.parts")
        (objects / f"{key}.new").replace(objects / key)
        return len(data), kept

    def _other_order(self, data: bytes) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w") as new:
            for member in old:
                content = old.extractfile(member) if member.isreg() else None
                if member.name == self.file and content is not None:
                    content = io.BytesIO(content.read().replace(self.name.encode(), TAMPERED.encode()))
                new.addfile(member, content)
        return out.getvalue()

    def _without_its_checksum(self, data: bytes) -> bytes:
        """PostgreSQL's manifest need not have one of every file."""
        lines = [CHECKSUM.sub("", one) if f'"{self.file}"' in one else one for one in data.decode().split("\n")]
        text = "\n".join(lines)
        text = text[: text.rindex('"Manifest-Checksum"')]
        return f'{text}"Manifest-Checksum": "{hashlib.sha256(text.encode()).hexdigest()}"}}\n'.encode()


@pytest.fixture
def chain(shop: Shop, rio: User) -> Chain:
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET summarize_wal = on")
        connection.execute("SELECT pg_reload_conf()")
    BackupPolicy.objects.update(incrementals=2)
    name, _ = shop.sell()
    with psycopg.connect(shop.url) as connection:
        found = connection.execute("SELECT pg_relation_filepath('sale_order')").fetchone()
    assert found is not None
    full = back_up(shop, rio)
    Backup().find(clock.now() + timedelta(days=1))
    BackupRun.objects.filter(state="queued").update(next_due_at=clock.now())
    shop.work(lambda: RecoveryPoint.objects.count() == 2)
    child = RecoveryPoint.objects.latest("pk")
    assert child.parent == full
    shop.work(lambda: coverage_of(shop.estate.production).holds(child.consistent_at))
    return Chain(shop, name, found[0], full, child)


def test_what_an_incremental_backup_builds_upon_is_held_against_what_was_recorded(chain: Chain, rio: User) -> None:
    shop, child = chain.shop, chain.child
    chain.tampered()
    told = f"The base backup {chain.full.key} in the store is not the one that was recorded."

    restore = over(shop, asked(shop, rio, target_at=child.consistent_at))
    drill = drill_point(actor=actor(rio), point_id=child.pk, level=2, at=clock.now())
    shop.work(lambda: Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists())

    assert (restore.state, databases(shop)) == ("failed", ["northwind"])
    assert told in restore.sentence
    assert list(drill.checks.values_list("name", "is_passed", "sentence")) == [("Base backup", False, told)]
    states = RecoveryPoint.objects.filter(pk__in=[chain.full.pk, child.pk]).values_list("state", flat=True)
    assert list(states) == ["broken", "broken"]


def test_what_was_never_recorded_takes_no_parents_place(chain: Chain, rio: User) -> None:
    objects, child = chain.shop.objects / BELOW / "base", chain.child
    shutil.copytree(objects / chain.full.key, objects / "20260101T000000Z-1")
    told = json.loads((objects / child.key / "facts.json").read_text())
    told.pop("digest")
    told["parent"] = "20260101T000000Z-1"
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    (objects / child.key / "facts.json").write_text(json.dumps(told | {"digest": digest}))

    drill = drill_point(actor=actor(rio), point_id=child.pk, level=1, at=clock.now())
    chain.shop.work(lambda: Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists())

    assert drill.checks.filter(is_passed=False).count() == 1
    # Of the full one nothing was found wrong.
    states = RecoveryPoint.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == ["copied", "broken"]


def test_nothing_is_taken_in_that_builds_upon_what_is_not_as_it_was_recorded(chain: Chain, rio: User) -> None:
    shop, child = chain.shop, chain.child
    chain.tampered()
    forget(shop, child)
    later(shop, 2 * HOUR)
    assert ("unknown_set", child.key) in compared(shop)

    row = adopted(shop, rio, child.key)

    assert row.refusal == f"The base backup {chain.full.key} in the store is not the one that was recorded."


@pytest.mark.parametrize("kind", [PartKind.DATABASE, PartKind.FILESTORE_MANIFEST, PartKind.CONFIGURATION])
def test_what_is_not_as_it_was_recorded_is_not_copied_elsewhere(shop: Shop, rio: User, kind: PartKind) -> None:
    point = back_up(shop, rio)
    be_still(shop)
    key = point.parts.get(kind=kind).key
    shutil.rmtree(shop.folder / "elsewhere/northwind")
    (shop.objects / key).write_bytes((shop.objects / key).read_bytes() + b" ")

    with pytest.raises(Permanent) as refused:
        copy_onward({"policy": shop.policy.pk}, lambda _: None)

    assert refused.value.reason == (f"{key} is not copied: it is not the one that was recorded, its digest is another.")
    assert not (shop.folder / "elsewhere" / key).exists()
