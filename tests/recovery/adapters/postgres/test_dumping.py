"""Dumps of one database of a real PostgreSQL by a role that may only read it, restored by one that only owns it."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from changecontrol.errors import Hindered, Permanent, Transient
from changecontrol.processes import processes_working_in
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres import scratch
from recovery.adapters.postgres.dumping import observe_dump, observe_dumps, restore_dump, take_dump, verify_dump
from recovery.adapters.postgres.restoring import Restored
from recovery.adapters.postgres.sandbox import make_sandbox, tear_down
from recovery.adapters.postgres.scratch import start_dump
from recovery.adapters.postgres.verifying import question
from recovery.adapters.streams import leftovers
from recovery.ports.postgres import DatabaseDump
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at

pytestmark = pytest.mark.slow

SECRET = "dump-secret"


@dataclass
class Shop:
    """A database with rows, and who may read it (`reading`)."""

    source: Source
    name: str
    reading: str

    def dump(self, label: str = "only", *, url: str = "") -> DatabaseDump:
        return take_dump(
            url=url or self.reading,
            programs=self.source.programs,
            store=self.source.store,
            prefix=self.source.prefix,
            label=label,
            recipients=[KEY.recipient],
        )

    def restore(self, dump: DatabaseDump, *, database: str = "", identity: str = KEY.identity) -> str:
        name = database or f"{self.name}_again"
        restore_dump(
            store=self.source.store,
            dump=dump,
            identities=[identity],
            programs=self.source.programs,
            url=self.source.url,
            database=name,
        )
        return make_conninfo(self.source.url, dbname=name)

    def verify(self, dump: DatabaseDump, *, identity: str = KEY.identity) -> None:
        verify_dump(store=self.source.store, dump=dump, identities=[identity], programs=self.source.programs)

    def databases(self) -> set[str]:
        with psycopg.connect(self.source.url) as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{self.name}%"])
            return {name for (name,) in found}

    def parts(self, label: str = "only") -> list[Path]:
        folder = self.source.folder / "objects" / self.source.prefix / "dump" / label
        return sorted(path for path in folder.rglob("*.parts/*/*") if path.is_file())


@pytest.fixture
def shop(source: Source) -> Iterator[Shop]:
    name = f"shop_{uuid.uuid4().hex[:8]}"
    source.execute(f"CREATE ROLE {name}_reader LOGIN PASSWORD '{SECRET}'")
    source.execute(f"CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    shop = Shop(
        source=source,
        name=name,
        reading=make_conninfo(source.url, dbname=name, user=f"{name}_reader", password=SECRET),
    )
    with psycopg.connect(source.url, dbname=name, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
        connection.execute("CREATE TABLE stock (id serial PRIMARY KEY, name text, filler bytea)")
        connection.execute(
            "INSERT INTO stock (name, filler) SELECT 'Jacke ' || i, sha512(i::text::bytea)"
            " FROM generate_series(1, 60000) i"
        )
        connection.execute("CREATE INDEX ON stock USING gin (name gin_trgm_ops)")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}_reader")
        connection.execute(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {name}_reader")
        connection.execute("CREATE PUBLICATION everything FOR TABLE stock")
    yield shop
    for database in shop.databases():
        source.execute(f"DROP DATABASE {database} WITH (FORCE)")
    source.execute(f"DROP ROLE {name}_reader")


def test_dump_comes_back_whole_and_belongs_to_a_role_that_is_no_superuser(shop: Shop) -> None:
    before = now_at(shop.source)
    dump = shop.dump()

    shop.verify(dump)
    url = shop.restore(dump)

    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT count(*), max(name), md5(string_agg(filler, '' ORDER BY id)) FROM stock")
        found = rows.fetchone()
        owner = connection.execute(
            "SELECT rolsuper, datdba = pg_roles.oid FROM pg_tables JOIN pg_roles ON rolname = tableowner, pg_database"
            " WHERE tablename = 'stock' AND datname = current_database()"
        ).fetchone()
        links = connection.execute("SELECT count(*) FROM pg_publication").fetchone()
        kind = connection.execute(
            "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    with psycopg.connect(shop.source.url, dbname=shop.name) as connection:
        rows = connection.execute("SELECT count(*), max(name), md5(string_agg(filler, '' ORDER BY id)) FROM stock")
        assert found == rows.fetchone()
    assert owner == (False, True)
    assert links == (0,)
    assert kind == ("C", "UTF8")
    assert before <= dump.started_at <= dump.finished_at
    assert (dump.database, dump.server_major) == (shop.name, 17)
    assert dump.content_bytes > 5_000_000
    assert observe_dump(shop.source.store, prefix=shop.source.prefix, label="only") == dump
    assert list(observe_dumps(shop.source.store, prefix=shop.source.prefix)) == [dump]


def test_database_that_exists_stays_as_it_is(shop: Shop) -> None:
    dump = shop.dump()
    with psycopg.connect(shop.source.url, dbname=shop.name, autocommit=True) as connection:
        connection.execute("DELETE FROM stock WHERE id > 1")

        with pytest.raises(Permanent, match=f"There is a database {shop.name} on the server already"):
            shop.restore(dump, database=shop.name)

        assert connection.execute("SELECT count(*) FROM stock").fetchone() == (1,)


@pytest.mark.parametrize("how", ["removed", "cut", "flipped"])
def test_damaged_dump_is_refused_and_leaves_no_database(shop: Shop, how: str) -> None:
    dump = shop.dump()
    victim = random.choice(shop.parts())
    if how == "removed":
        victim.unlink()
    elif how == "cut":
        os.truncate(victim, random.randrange(victim.stat().st_size))
    else:
        content = bytearray(victim.read_bytes())
        content[random.randrange(len(content))] ^= 1
        victim.write_bytes(content)

    for read in (shop.verify, shop.restore):
        with pytest.raises(Permanent, match=r"dump\.pgdump"):
            read(dump)
    assert shop.databases() == {shop.name}


def test_other_dump_in_its_place_and_a_wrong_key_are_refused(shop: Shop) -> None:
    dump = shop.dump()
    other = shop.dump("other")
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: shop.restore(replace(dump, key=other.key)), "is not the one that was written"),
        (lambda: shop.restore(dump, identity=make_key_pair().identity), "encrypted to other recipients"),
        (lambda: shop.verify(dump, identity=make_key_pair().identity), "encrypted to other recipients"),
        (lambda: shop.restore(replace(dump, content_bytes=1)), "should hold 1"),
        (lambda: shop.restore(replace(dump, server_major=18)), "of PostgreSQL 18, the programs are of 17"),
    ]

    for refused, words in cases:
        with pytest.raises(Permanent, match=words):
            refused()

    assert shop.databases() == {shop.name}


def test_dump_that_fails_is_none_and_its_sentence_holds_no_password(shop: Shop) -> None:
    with psycopg.connect(shop.source.url, dbname=shop.name, autocommit=True) as connection:
        connection.execute("CREATE TABLE hidden (id int)")

    with pytest.raises(Permanent, match=r"pg_dump did not succeed: .*permission denied for table hidden") as refused:
        shop.dump()
    with pytest.raises((Permanent, Transient)) as away:
        shop.dump(url=make_conninfo(shop.reading, dbname="nowhere"))
    with pytest.raises(Permanent, match="There is no dump only in the store"):
        observe_dump(shop.source.store, prefix=shop.source.prefix, label="only")

    assert SECRET not in str(refused.value) + str(away.value)
    later = now_at(shop.source).replace(year=2100)
    assert list(leftovers(shop.source.store, f"{shop.source.prefix}/dump", before=later)) == []


def test_label_is_used_once_and_changed_facts_are_told(shop: Shop) -> None:
    dump = shop.dump()

    with pytest.raises(Permanent, match="exists with other content"):
        shop.dump()
    facts = shop.source.folder / "objects" / shop.source.prefix / "dump" / "only" / "facts.json"
    assert observe_dump(shop.source.store, prefix=shop.source.prefix, label="only") == dump
    facts.write_text("{}")
    with pytest.raises(Permanent, match="The facts of the dump only were changed"):
        observe_dump(shop.source.store, prefix=shop.source.prefix, label="only")


def test_older_programs_are_refused(shop: Shop) -> None:
    shop.source.programs = replace(shop.source.programs, major=16)

    with pytest.raises(Permanent, match="The server is PostgreSQL 17, the programs are of 16"):
        shop.dump()


def test_dump_that_was_killed_before_its_facts_is_taken_anew(shop: Shop) -> None:
    shop.dump()
    (shop.source.folder / "objects" / shop.source.prefix / "dump" / "only" / "facts.json").unlink()

    dump = shop.dump()

    shop.verify(dump)
    later = now_at(shop.source).replace(year=2100)
    assert list(leftovers(shop.source.store, f"{shop.source.prefix}/dump", before=later)) == []


def test_facts_that_were_changed_or_are_another_dump_s_are_told(shop: Shop) -> None:
    shop.dump()
    shop.dump("other")
    folder = shop.source.folder / "objects" / shop.source.prefix / "dump"
    facts = folder / "only" / "facts.json"
    cases = [
        (facts.read_text().replace('"server_major": 17', '"server_major": 16'), "The facts of the dump only were"),
        ((folder / "other" / "facts.json").read_text(), "The facts of the dump only are those of shop/production/dump"),
    ]

    for text, words in cases:
        facts.write_text(text)
        with pytest.raises(Permanent, match=words):
            observe_dump(shop.source.store, prefix=shop.source.prefix, label="only")


def brought_back(shop: Shop, dump: DatabaseDump, *, run_id: str = "scratch") -> Restored:
    return start_dump(
        make_sandbox(shop.source.runs, run_id=run_id),
        store=shop.source.store,
        dump=dump,
        identities=[KEY.identity],
        programs=shop.source.programs,
        role="postgres",
    )


def test_dump_comes_back_on_a_server_of_its_own_that_archives_nothing_and_is_gone_with_its_sandbox(shop: Shop) -> None:
    dump = shop.dump()

    with brought_back(shop, dump) as restored:
        with psycopg.connect(restored.url_of(shop.name)) as connection:
            found = connection.execute(
                "SELECT count(*), current_setting('archive_mode'), current_setting('listen_addresses') FROM stock"
            ).fetchone()
        databases = question(restored, programs=shop.source.programs)

    assert found == (60_000, "off", "")
    assert databases == ("postgres", shop.name, "template1")
    assert not restored.is_running()
    assert shop.databases() == {shop.name}
    tear_down(shop.source.runs, run_id="scratch")
    assert list(shop.source.runs.iterdir()) == []


def test_what_this_machine_lacks_says_nothing_of_the_dump(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = shop.dump()

    with pytest.raises(Hindered, match=r"This machine lacks what the database needs: .*xx_XX"):
        brought_back(shop, replace(dump, collation="xx_XX.UTF-8"))
    monkeypatch.setattr(scratch, "SPARE_BYTES", 2**60)
    with pytest.raises(Hindered, match="GB free"):
        brought_back(shop, dump, run_id="full")

    assert processes_working_in(shop.source.runs / "scratch" / "data") == []


KEPT = (
    'CREATE SCHEMA "Apart of"',
    'CREATE EXTENSION hstore SCHEMA "Apart of"',
    "COMMENT ON EXTENSION hstore IS 'Keys and values.'",
    """CREATE TABLE "Apart of".bins (id int PRIMARY KEY, held "Apart of".hstore)""",
    """INSERT INTO "Apart of".bins SELECT i, "Apart of".hstore('a', 'b') FROM generate_series(1, 10) i""",
    'ALTER TABLE "Apart of".bins ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY',
    'CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS bins FROM "Apart of".bins',
    "SELECT lo_from_bytea(4711, 'large')",
    "CREATE EXTENSION postgres_fdw",
    "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
    "CREATE FOREIGN TABLE beyond (id int) SERVER far",
    "COMMENT ON SCHEMA public IS 'Ours.'",
)
SUPERUSERS = (
    "CREATE FUNCTION watched() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
    "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watched()",
    "COMMENT ON EVENT TRIGGER watch IS 'Watches.'",
    "CREATE OPERATOR FAMILY unused USING btree",
)


def altered(shop: Shop, *statements: str) -> None:
    """Change the shop's database, and let it be dumped by a superuser."""
    with psycopg.connect(shop.source.url, dbname=shop.name, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    shop.reading = make_conninfo(shop.source.url, dbname=shop.name)


def test_all_that_an_owner_may_have_comes_back_and_the_rest_is_told(shop: Shop) -> None:
    altered(shop, *KEPT, *SUPERUSERS)
    dump = shop.dump()

    with brought_back(shop, dump) as restored, psycopg.connect(restored.url_of(shop.name)) as connection:
        bins = connection.execute('SELECT count(*), min(held::text) FROM "Apart of".bins').fetchone()
        counted = connection.execute("SELECT bins FROM counted").fetchone()
        large = connection.execute("SELECT lo_get(4711)").fetchone()
        beyond = connection.execute("SELECT ftserver <> 0 FROM pg_foreign_table").fetchone()
        superusers = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relowner = 10 AND oid >= 16384 AND relnamespace <> 99"
        ).fetchone()

    assert (bins, counted, large, beyond) == ((10, '"a"=>"b"'), (10,), (b"large",), (True,))
    assert superusers == (0,)
    (told,) = restored.facts.left_out
    assert told.startswith("Left out, for a superuser alone could make it: ")
    assert {"EVENT TRIGGER watch", "COMMENT EVENT TRIGGER watch"} <= set(
        told.removesuffix(".").split(": ")[1].split(", ")
    )


NOT_AN_OWNERS = {
    "a function in C": ("CREATE FUNCTION cosine(float8) RETURNS float8 LANGUAGE internal AS 'dcos'",),
    "an operator class": (
        "CREATE OPERATOR CLASS as_text FOR TYPE text USING btree AS OPERATOR 3 =, FUNCTION 1 bttextcmp(text, text)",
        "CREATE INDEX ON stock USING btree (name as_text)",
    ),
}


@pytest.mark.parametrize("what", NOT_AN_OWNERS)
def test_what_a_superuser_alone_could_restore_says_nothing_of_the_dump(shop: Shop, what: str) -> None:
    altered(shop, *NOT_AN_OWNERS[what])
    dump = shop.dump()

    with pytest.raises(Hindered, match=r"pg_restore did not succeed: "):
        brought_back(shop, dump)


def test_damage_is_told_as_such_and_leaves_no_server(shop: Shop) -> None:
    dump = shop.dump()
    content = bytearray(shop.parts()[-1].read_bytes())
    content[-1] ^= 1
    shop.parts()[-1].write_bytes(content)

    with pytest.raises(Permanent, match="was changed") as refused:
        brought_back(shop, dump)

    assert not isinstance(refused.value, Hindered)
    assert processes_working_in(shop.source.runs / "scratch" / "data") == []
