"""Incremental base backups of a real PostgreSQL 17: chains that come back, and chains that are refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from changecontrol.errors import Permanent
from changecontrol.project.local.postgres import Postgres
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres.archiving import WalArchiver
from recovery.adapters.postgres.base import observe_base_backup, take_base_backup
from recovery.adapters.postgres.fetching import fetch_copy, verify_copy
from recovery.adapters.postgres.incremental import FaultIn, chain_of, take_incremental_backup
from recovery.adapters.postgres.sandbox import make_sandbox
from recovery.adapters.postgres.verifying import verify_stored
from recovery.ports.postgres import BaseBackup, Latest
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at, ship_until

pytestmark = pytest.mark.slow

INDEX = make_key_pair()
ROWS = 50_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of this module's own, which summarises its WAL."""
    server = Postgres(tmp_path_factory.mktemp("summarised"), durable=False).start()
    server.run_sql("ALTER SYSTEM SET full_page_writes = on; ALTER SYSTEM SET summarize_wal = on;")
    server.restart()
    yield server
    server.destroy()


@pytest.fixture
def filled(source: Source) -> Iterator[Source]:
    source.execute("CREATE TABLE stock (id int PRIMARY KEY, quantity int, filler text)")
    source.execute(f"INSERT INTO stock SELECT i, 0, repeat('x', 200) FROM generate_series(1, {ROWS}) i")  # noqa: S608
    yield source
    source.execute("DROP TABLE stock")


def full(source: Source, label: str = "full", *, index_identity: str = INDEX.identity) -> BaseBackup:
    return take_base_backup(**_words(source, label), index_identity=index_identity)


def incremental(source: Source, label: str, *, parent: str, index_identity: str = INDEX.identity) -> BaseBackup:
    return take_incremental_backup(**_words(source, label), parent=parent, index_identity=index_identity)


def _words(source: Source, label: str) -> dict[str, Any]:
    return {
        "url": source.url,
        "programs": source.programs,
        "store": source.store,
        "prefix": source.prefix,
        "label": label,
        "recipients": [KEY.recipient],
    }


def sell(source: Source, *, quantity: int) -> None:
    source.execute(f"UPDATE stock SET quantity = {quantity} WHERE id <= 100")  # noqa: S608


def three(source: Source) -> list[BaseBackup]:
    made = [full(source)]
    for number, label in enumerate(("first", "second"), start=1):
        sell(source, quantity=number)
        made.append(incremental(source, label, parent=made[-1].label))
    return made


def facts_of(source: Source, label: str) -> Path:
    return source.folder / "objects" / source.prefix / "base" / label / "facts.json"


def rewrite(path: Path, **facts: object) -> None:
    """Change what facts say, as somebody would who knows how they are written."""
    changed = {name: value for name, value in json.loads(path.read_text()).items() if name != "digest"} | facts
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(changed | {"digest": digest}))


def parts_of(source: Source, label: str) -> Sequence[Path]:
    folder = facts_of(source, label).parent / "base.tar.zst.age.parts"
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_chain_comes_back_whole_with_what_was_committed_after_it(filled: Source, archiver: WalArchiver) -> None:
    base, first, second = three(filled)
    sell(filled, quantity=3)
    ship_until(archiver, now_at(filled))

    coverage = verify_stored(store=filled.store, base=second, archive=filled.archive(), identities=[KEY.identity])
    found = []
    for member in (first, second):
        with filled.restore(member, at=Latest.LATEST) as restored, psycopg.connect(restored.url) as connection:
            found.append(connection.execute("SELECT count(*), sum(quantity) FROM stock").fetchone())
            assert list(restored.sandbox.folder.glob("chain")) == []

    assert found == [(ROWS, 300), (ROWS, 300)]
    assert chain_of(filled.store, second) == (base, first, second)
    assert (base.parent, first.parent, second.parent) == ("", "full", "first")
    assert second.content_bytes < base.content_bytes / 2
    assert coverage.gaps == ()
    assert observe_base_backup(filled.store, prefix=filled.prefix, label="second") == second


def test_restored_chain_is_held_against_manifest_and_wal(filled: Source, archiver: WalArchiver) -> None:
    second = three(filled)[-1]
    ship_until(archiver, now_at(filled))
    sandbox = make_sandbox(filled.runs, run_id="checked")

    fetch_copy(
        store=filled.store,
        base=second,
        archive=filled.archive(),
        at=Latest.LATEST,
        identities=[KEY.identity],
        sandbox=sandbox,
        programs=filled.programs,
    )

    verify_copy(sandbox, programs=filled.programs)


def test_missing_parent_is_refused_before_anything_is_made(filled: Source, archiver: WalArchiver) -> None:
    second = three(filled)[-1]
    ship_until(archiver, now_at(filled))
    facts_of(filled, "first").unlink()

    for refused in (
        lambda: filled.restore(second, at=Latest.LATEST),
        lambda: verify_stored(store=filled.store, base=second, archive=filled.archive(), identities=[KEY.identity]),
        lambda: incremental(filled, "third", parent="second"),
    ):
        with pytest.raises(Permanent, match="second builds upon first: There is no base backup first in the store"):
            refused()
    with pytest.raises(Permanent, match="There is no base backup first in the store"):
        incremental(filled, "third", parent="first")
    assert list(filled.runs.iterdir()) == []
    assert not facts_of(filled, "third").exists()


def test_other_backup_in_the_place_of_a_parent_is_refused(filled: Source, archiver: WalArchiver) -> None:
    second = three(filled)[-1]
    other = full(filled, "other")
    ship_until(archiver, now_at(filled))
    first = json.loads(facts_of(filled, "first").read_text())
    facts_of(filled, "first").write_bytes(facts_of(filled, "other").read_bytes())
    rewrite(facts_of(filled, "first"), label="first", key=first["key"])

    with pytest.raises(Permanent, match="second builds upon first, which was changed or has another in its place"):
        filled.restore(second, at=Latest.LATEST)

    assert list(filled.runs.iterdir()) == []
    with filled.restore(other, at=Latest.LATEST) as restored:
        assert restored.is_running()


@pytest.mark.parametrize("label", ["full", "first", "second"])
@pytest.mark.parametrize("how", ["removed", "cut", "flipped"])
def test_damage_to_any_member_is_never_restored(filled: Source, archiver: WalArchiver, label: str, how: str) -> None:
    second = three(filled)[-1]
    ship_until(archiver, now_at(filled))
    victim = random.choice(parts_of(filled, label))
    if how == "removed":
        victim.unlink()
    elif how == "cut":
        os.truncate(victim, random.randrange(victim.stat().st_size))
    else:
        content = bytearray(victim.read_bytes())
        content[random.randrange(len(content))] ^= 1
        victim.write_bytes(content)

    for refused in (
        lambda: filled.restore(second, at=Latest.LATEST),
        lambda: verify_stored(store=filled.store, base=second, archive=filled.archive(), identities=[KEY.identity]),
    ):
        with pytest.raises(FaultIn, match=f"/{label}/base.tar") as fault:
            refused()
        assert fault.value.label == label
    assert list(filled.runs.iterdir()) == []


def test_parent_that_was_killed_is_none(filled: Source) -> None:
    full(filled)
    for path in parts_of(filled, "full")[-1:]:
        killed = facts_of(filled, "killed").parent / "base.tar.zst.age.parts" / "0" / path.name
        killed.parent.mkdir(parents=True)
        killed.write_bytes(path.read_bytes())

    with pytest.raises(Permanent, match="There is no base backup killed in the store"):
        incremental(filled, "next", parent="killed")


def test_parent_whose_manifest_cannot_be_opened_or_is_of_another_server_asks_for_a_full_one(filled: Source) -> None:
    full(filled, "closed", index_identity="")
    full(filled, "foreign")
    rewrite(facts_of(filled, "foreign"), system_identifier="1")
    full(filled, "lost")
    manifest = facts_of(filled, "lost").parent / "backup_manifest.zst.age"
    manifest.unlink()

    for parent, words in (
        ("closed", r"manifest of the base backup closed: None of the keys .* Take a full one"),
        ("foreign", r"foreign is of another server\. Take a full one"),
        ("lost", r"backup_manifest\.zst\.age in the store"),
    ):
        with pytest.raises(Permanent, match=words):
            incremental(filled, uuid.uuid4().hex[:8], parent=parent)


def test_server_that_does_not_summarise_its_wal_is_a_sentence(filled: Source) -> None:
    full(filled)
    filled.execute("ALTER SYSTEM SET summarize_wal = off")
    filled.execute("SELECT pg_reload_conf()")
    try:
        with pytest.raises(Permanent, match="set summarize_wal = on there"):
            incremental(filled, "refused", parent="full")
    finally:
        filled.execute("ALTER SYSTEM SET summarize_wal = on")
        filled.execute("SELECT pg_reload_conf()")


def test_summaries_that_are_gone_ask_for_a_full_one(filled: Source) -> None:
    full(filled)
    sell(filled, quantity=1)
    filled.execute("CHECKPOINT")
    summaries = filled.server.cluster / "pg_wal" / "summaries"
    incremental(filled, "before", parent="full")
    for path in summaries.iterdir():
        path.unlink()

    with pytest.raises(Permanent, match=r"no summaries of its WAL back to the base backup full\. Take a full one"):
        incremental(filled, "refused", parent="full")
    assert not facts_of(filled, "refused").exists()


def test_programs_of_another_version_are_refused(filled: Source) -> None:
    full(filled)
    filled.programs = replace(filled.programs, major=16)

    with pytest.raises(Permanent, match="The server is PostgreSQL 17, the programs are of 16"):
        incremental(filled, "refused", parent="full")
