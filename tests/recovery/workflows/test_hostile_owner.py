"""Whoever owns something in a database that is backed up runs no program where it is brought back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from changecontrol.models import User
from recovery import doors
from recovery.queries.points import coverage_of
from tests.factories.recovery import recovery_owner
from tests.recovery.hostile import OWNER, TRIGGER, Hostile, hostile_on
from tests.recovery.workflows.conftest import DATABASE, Shop
from tests.recovery.workflows.test_another_tool import dump_of, elsewhere, registered
from tests.recovery.workflows.test_drill import drilled
from tests.recovery.workflows.test_restore import asked, databases, over, rows
from tests.recovery.workflows.test_upkeep import back_up

__all__ = ["elsewhere"]

pytestmark = pytest.mark.slow

KEEPER = "shop_keeper"
SENTINELS = (
    "CREATE VIEW public.changecontrol_sentinel AS"
    " SELECT clock_timestamp() - interval '1 minute' * public.called(0) AS at"
)
EVENT_TRIGGER = (
    "CREATE FUNCTION watched() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.called(1); END $$",
    "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watched()",
)


def dropped(shop: Shop) -> None:
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        for name in databases(shop):
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def hostile_dumped(dumped: Shop) -> Iterator[Hostile]:
    with hostile_on(dumped.server.superuser_url) as hostile:
        yield hostile
        dropped(dumped)


@pytest.fixture
def hostile(shop: Shop) -> Iterator[Hostile]:
    # Who restores to the other server is no superuser there.
    shop.server.run_sql(f"CREATE ROLE {KEEPER} LOGIN PASSWORD '{KEEPER}' CREATEDB;")
    with hostile_on(shop.server.superuser_url) as hostile:
        yield hostile
        dropped(shop)
    shop.server.run_sql(f"DROP ROLE {KEEPER};")


def test_a_dump_is_restored_and_verified_and_runs_no_program(dumped: Shop, hostile_dumped: Hostile) -> None:
    rio = recovery_owner(dumped.estate)
    dumped.sell()
    with psycopg.connect(dumped.url, autocommit=True) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO shop_reader")
        connection.execute("ALTER ROLE shop_reader BYPASSRLS")
    hostile_dumped.leave_code(dumped.url)
    with psycopg.connect(dumped.url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
        connection.execute("COMMENT ON EXTENSION pg_trgm IS 'Words that are alike.'")
        for statement in EVENT_TRIGGER:
            connection.execute(statement.encode())
        connection.execute("ALTER EVENT TRIGGER watch DISABLE")
    point = back_up(dumped, rio)

    drill = drilled(dumped, rio, level=2, target_at=point.consistent_at)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, wrong) == ("passed", "", [])
    sentence = drill.checks.get(name="Restored and started").sentence
    assert sentence.endswith("Left out, for a superuser alone could make it: EVENT TRIGGER watch.")
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 2)
    assert not hostile_dumped.proof.exists()
    assert hostile_dumped.is_armed(dumped.url)


def test_a_dump_of_another_tool_runs_no_program(elsewhere: Shop, hostile_dumped: Hostile) -> None:
    rio = recovery_owner(elsewhere.estate)
    elsewhere.sell()
    hostile_dumped.leave_code(elsewhere.url)
    at = elsewhere.now()
    point = registered(elsewhere, rio, at=at, files={"database.dump": dump_of(elsewhere)})

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, wrong) == ("passed", "", [])
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 2)
    assert not hostile_dumped.proof.exists()


def test_a_base_backup_is_questioned_and_made_harmless_and_runs_no_program(
    shop: Shop, rio: User, hostile: Hostile
) -> None:
    name, _ = shop.sell()
    hostile.leave_code(shop.url)
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE ir_mail_server OWNER TO {OWNER}")
    hostile.run(shop.url, TRIGGER)
    point = back_up(shop, rio)
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE changecontrol_sentinel RENAME TO apart")
        hostile.run(shop.url, SENTINELS)
        at = shop.now()
        connection.execute("DROP VIEW changecontrol_sentinel")
        connection.execute("ALTER TABLE apart RENAME TO changecontrol_sentinel")
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))

    with_right = make_conninfo(shop.server.superuser_url, user=KEEPER, password=KEEPER)
    (shop.folder / "target").write_text(with_right)

    drill = drilled(shop, rio, level=2, target_at=at)
    restore = over(shop, asked(shop, rio, target_at=at))

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, wrong) == ("passed", "", [])
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 2)
    assert not hostile.proof.exists()
    assert restore.state == "succeeded", restore.sentence
    assert rows(shop, "northwind_yesterday", "SELECT name FROM sale_order") == [name]
    assert rows(shop, "northwind_yesterday", "SELECT active FROM ir_mail_server WHERE name = 'out'") == [False]
    assert hostile.is_armed(doors.url_of(shop.server.superuser_url, database=DATABASE))
