"""Each other major version of PostgreSQL that this machine has: backed up, archived, restored to a time, dumped.

Everything else here is proved with the version that tests bring along.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from changecontrol.processes import unprivileged_account
from changecontrol.project.local.distribution import PostgresDistribution, postgres_distribution
from changecontrol.project.local.postgres import Postgres
from recovery.adapters.postgres.archiving import ensure_no_slot
from recovery.adapters.postgres.dumping import take_dump, verify_dump
from recovery.adapters.postgres.incremental import take_incremental_backup
from recovery.adapters.postgres.programs import OLDEST_MAJOR, find_programs
from recovery.adapters.postgres.rights import ensure_granted
from recovery.adapters.postgres.sandbox import make_sandbox
from recovery.adapters.postgres.scratch import start_dump
from recovery.adapters.postgres.verifying import question, verify_stored
from recovery.jobs.restore import place_copy
from recovery.ports.postgres import Latest
from tests.recovery.adapters.postgres.conftest import KEY, Marks, Source, now_at, ship_until
from tests.recovery.adapters.postgres.test_rights import GRANTS, OBJECTS, ZOO, as_owner, rights_in, run
from tests.recovery.hostile import OWNER, hostile_on

pytestmark = pytest.mark.slow

NEWEST_MAJOR = 25
RANDOM_TIMES = 3


def other_majors() -> list[int]:
    ours = postgres_distribution(unprivileged_account()).major
    return [major for major in range(OLDEST_MAJOR, NEWEST_MAJOR) if major != ours and folder_of(major) is not None]


def folder_of(major: int) -> Path | None:
    """Return the folder of a version of which a server can be made, too."""
    try:
        folder = find_programs(major=major).folder
    except Permanent:
        return None
    return folder if (folder / "initdb").is_file() and (folder / "postgres").is_file() else None


MAJORS: list[Any] = [*other_majors()] or [
    pytest.param(0, marks=pytest.mark.skip("this machine has one major of PostgreSQL"))
]


@pytest.fixture(scope="module", params=MAJORS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    folder = folder_of(request.param)
    assert folder is not None
    distribution = PostgresDistribution(bin_folder=folder, major=request.param)
    server = Postgres(tmp_path_factory.mktemp("other"), durable=False, distribution=distribution).start()
    server.run_sql("ALTER SYSTEM SET track_commit_timestamp = on; ALTER SYSTEM SET full_page_writes = on;")
    server.restart()
    yield server
    server.destroy()


@pytest.fixture
def source(server: Postgres, tmp_path: Path, runs: Path) -> Iterator[Source]:
    with psycopg.connect(server.superuser_url) as connection:
        major = connection.info.server_version // 10_000
    source = Source(
        server=server,
        programs=find_programs(major=major),
        store=open_store(f"file://{tmp_path}/objects"),
        prefix="shop/production",
        folder=tmp_path,
        runs=runs,
    )
    yield source
    ensure_no_slot(source.url, slot=source.slot)


def test_every_time_comes_back_exactly_with_the_programs_of_its_version(
    source: Source, marks: Callable[[], Marks]
) -> None:
    archiver = source.archiver()
    archiver.start()
    try:
        writing = marks()
        base = source.back_up("first")
        for _ in range(3):
            source.execute("SELECT pg_switch_wal()")
            archiver.ship()
        ends_at = now_at(source)
        ship_until(archiver, ends_at)
    finally:
        archiver.stop()

    coverage = verify_stored(store=source.store, base=base, archive=source.archive(), identities=[KEY.identity])
    span = ends_at - base.finished_at
    for at in (base.finished_at, ends_at, *(base.finished_at + span * random.random() for _ in range(RANDOM_TIMES))):
        with source.restore(base, at=at) as restored, psycopg.connect(restored.url) as connection:
            held = [number for (number,) in connection.execute("SELECT number FROM marks ORDER BY number")]
            major = connection.info.server_version // 10_000
            databases = question(restored, programs=source.programs)

        assert held == writing.before(at), at
        assert major == base.server_major == source.programs.major
        assert "postgres" in databases
    assert coverage.gaps == ()


def test_a_dump_comes_back_on_a_server_of_its_version(source: Source) -> None:
    source.execute("DROP TABLE IF EXISTS marks; CREATE TABLE marks AS SELECT generate_series(1, 500) AS number")
    url = psycopg.conninfo.make_conninfo(source.url, dbname="changecontrol")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE stock AS SELECT generate_series(1, 500) AS number")
    words: dict[str, Any] = {"store": source.store, "programs": source.programs}

    dump = take_dump(url=url, prefix=source.prefix, label="only", recipients=[KEY.recipient], **words)
    verify_dump(dump=dump, identities=[KEY.identity], **words)
    sandbox = make_sandbox(source.runs, run_id=uuid.uuid4().hex[:8])
    with (
        start_dump(sandbox, dump=dump, identities=[KEY.identity], role="postgres", **words) as restored,
        psycopg.connect(restored.url_of("changecontrol")) as connection,
    ):
        found = connection.execute("SELECT count(*) FROM stock").fetchone()
        major = connection.info.server_version // 10_000

    assert (found, major) == ((500,), dump.server_major)


def test_what_was_restored_is_moved_beside_what_is_in_use(source: Source) -> None:
    source.execute("DROP TABLE IF EXISTS marks; CREATE TABLE marks AS SELECT generate_series(1, 500) AS number")
    archiver = source.archiver()
    archiver.start()
    try:
        base = source.back_up("first")
        ship_until(archiver, now_at(source))
    finally:
        archiver.stop()
    name = f"beside_{uuid.uuid4().hex[:8]}"

    with source.restore(base, at=Latest.LATEST) as restored:
        counts = place_copy(
            restored.url,
            dumping_url=restored.url,
            target=source.url,
            name=name,
            mark="of this test",
            programs=source.programs,
            sandbox=restored.sandbox,
        )

    with psycopg.connect(psycopg.conninfo.make_conninfo(source.url, dbname=name)) as connection:
        found = connection.execute("SELECT count(*) FROM marks").fetchone()
    source.execute(f"DROP DATABASE {name}")
    assert found == (500,)
    assert counts[1] == 500


def test_questioning_runs_no_program_of_an_owner_s(source: Source) -> None:
    with hostile_on(source.url) as hostile:
        hostile.leave_code(source.url)
        archiver = source.archiver()
        archiver.start()
        try:
            base = source.back_up("first")
            ship_until(archiver, now_at(source))
        finally:
            archiver.stop()

        with source.restore(base, at=Latest.LATEST) as restored:
            databases = question(restored, programs=source.programs)

        is_run = hostile.proof.exists()
        is_armed = hostile.is_armed(source.url)
        source.execute(f"DROP OWNED BY {OWNER}")
    assert "postgres" in databases
    assert (is_run, is_armed) == (False, True)


def test_an_incremental_backup_of_a_version_that_has_none_is_a_sentence(source: Source) -> None:
    if source.programs.major >= 17:
        pytest.skip("this version takes incremental backups")

    with pytest.raises(Permanent, match="PostgreSQL 17"):
        take_incremental_backup(
            url=source.url,
            programs=source.programs,
            store=source.store,
            prefix=source.prefix,
            label="next",
            parent="first",
            recipients=[KEY.recipient],
            index_identity=KEY.identity,
        )


@pytest.mark.parametrize("is_newer", [True, False])
def test_rights_come_along_to_a_server_of_another_version(server: Postgres, tmp_path: Path, is_newer: bool) -> None:
    ours = Postgres(tmp_path / "ours", durable=False).start()
    try:
        source, new = (server, ours) if is_newer else (ours, server)
        for one in (source, new):
            run(
                one.superuser_url,
                *(f"CREATE ROLE {role}" for role in ZOO),
                "CREATE DATABASE zoo OWNER zoo_odoo TEMPLATE template0",
            )
        urls = [make_conninfo(one.superuser_url, dbname="zoo") for one in (source, new)]
        as_owner(urls[0], *OBJECTS, *GRANTS)
        as_owner(urls[1], *OBJECTS)

        left = ensure_granted(urls[1], source=urls[0], owner="zoo_odoo")

        wanted, found = ([one for one in rights_in(url) if not str(one[1]).startswith("zoo_odoo=")] for url in urls)
        assert (left, found) == ([], wanted)
        with psycopg.connect(urls[1]) as connection:
            rights = "SELECT relacl::text FROM pg_class WHERE relname IN ('sale_order', 'newest')"
            owners = {acl.partition("zoo_odoo=")[2].partition("/")[0] for (acl,) in connection.execute(rights)}
        # What only the newer of them knows is neither revoked from the owner nor granted.
        assert owners == ({"arwdxtm", "arwdDxtm"} if is_newer else {"arwdxt", "arwdDxt"})
    finally:
        ours.destroy()
        run(server.superuser_url, "DROP DATABASE zoo", *(f"DROP ROLE {role}" for role in ZOO))
