"""What a database or a role sets for itself: it says how the shop is entered, and nothing of the backup."""

from __future__ import annotations

from datetime import datetime

import psycopg
import pytest

from changecontrol.models import User
from recovery import doors
from recovery.queries.points import coverage_of
from tests.recovery.workflows.conftest import DATABASE, Shop
from tests.recovery.workflows.test_drill import drilled
from tests.recovery.workflows.test_restore import asked, over, rows
from tests.recovery.workflows.test_upkeep import back_up

pytestmark = pytest.mark.slow

OLD = "northwind_old"
SET = (
    f"CREATE DATABASE {OLD}",
    # As the guide asks of what a cut-over replaced.
    f"ALTER DATABASE {OLD} SET default_transaction_read_only TO on",
    f"ALTER DATABASE {OLD} CONNECTION LIMIT 0",
    f"ALTER DATABASE {DATABASE} SET default_transaction_read_only TO on",
    f"ALTER DATABASE {DATABASE} SET statement_timeout TO '1ms'",
    f"ALTER DATABASE {DATABASE} SET datestyle TO 'German'",
    f"ALTER DATABASE {DATABASE} SET client_encoding TO 'LATIN1'",
    f"ALTER DATABASE {DATABASE} SET session_preload_libraries TO 'of_another_machine'",
    "ALTER ROLE ALL SET lock_timeout TO '1ms'",
    f"ALTER ROLE {{superuser}} IN DATABASE {DATABASE} SET idle_in_transaction_session_timeout TO '1ms'",
)


def set_for_a_moment(shop: Shop) -> datetime:
    """Let the shop's server have these settings at the moment that is returned, and no longer."""
    url = doors.url_of(shop.server.superuser_url, database="postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        superuser = psycopg.sql.Identifier(connection.info.user).as_string(connection)
        try:
            for statement in SET:
                connection.execute(statement.format(superuser=superuser).encode())
            row = connection.execute("SELECT clock_timestamp()").fetchone()
            assert row is not None
        finally:
            connection.execute("SET lock_timeout = 0")
            connection.execute(f"ALTER ROLE {superuser} IN DATABASE {DATABASE} RESET ALL")
            connection.execute("ALTER ROLE ALL RESET ALL")
            connection.execute(f"ALTER DATABASE {DATABASE} RESET ALL")
    at: datetime = row[0]
    return at


def test_what_a_database_sets_breaks_no_point_and_hinders_no_restore(shop: Shop, rio: User) -> None:
    shop.sell()
    point = back_up(shop, rio)
    at = set_for_a_moment(shop)
    shop.sell()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))

    drill = drilled(shop, rio, level=2, target_at=at)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, wrong) == ("passed", "", [])
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 2)
    restore = over(shop, asked(shop, rio, target_at=at))
    assert restore.state == "succeeded", restore.sentence
    assert rows(shop, "northwind_yesterday", "SELECT active FROM ir_mail_server WHERE name = 'out'") == [False]
