"""A dump holds no roles, and names some: in policies of row security, in user mappings, in settings of a role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from changecontrol.models import User
from recovery import doors
from tests.factories.recovery import recovery_owner
from tests.recovery.workflows.conftest import DATABASE, Shop
from tests.recovery.workflows.test_another_tool import dump_of, elsewhere, registered
from tests.recovery.workflows.test_drill import drilled
from tests.recovery.workflows.test_restore import asked, databases, over, rows
from tests.recovery.workflows.test_upkeep import back_up

__all__ = ["elsewhere"]

pytestmark = pytest.mark.slow

ODD = '"Of ""Nor, th"" TO"'
POLICY = f'CREATE POLICY "to, them" ON sale_order FOR SELECT TO shop_till, {ODD} USING (true)'
FOREIGN = ("CREATE EXTENSION postgres_fdw", "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw")
NAMED: dict[str, tuple[str, ...]] = {
    "a policy": (POLICY,),
    "a user mapping": (*FOREIGN, "CREATE USER MAPPING FOR shop_till SERVER far"),
    "a setting": (f"ALTER ROLE shop_till IN DATABASE {DATABASE} SET statement_timeout TO '5min'",),
}


@pytest.fixture
def rio(dumped: Shop) -> User:
    return recovery_owner(dumped.estate)


@pytest.fixture
def with_roles(dumped: Shop) -> Iterator[Shop]:
    with roles_on(dumped):
        yield dumped


@contextmanager
def roles_on(shop: Shop) -> Iterator[None]:
    """Let the shop's server have the roles; at the end nothing is left that names them."""
    shop.server.run_sql(f"CREATE ROLE shop_till; CREATE ROLE {ODD};")
    yield
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        for name in databases(shop):
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f"DROP ROLE IF EXISTS shop_till, {ODD}")


def run(shop: Shop, *statements: str) -> None:
    url = doors.url_of(shop.server.superuser_url, database=DATABASE)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.mark.parametrize("named", ["a policy", "a user mapping"])
def test_a_dump_that_names_a_role_is_restored_and_verified(with_roles: Shop, rio: User, named: str) -> None:
    with_roles.sell()
    run(with_roles, *NAMED[named])
    point = back_up(with_roles, rio)

    drill = drilled(with_roles, rio, level=2, target_at=point.consistent_at)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, wrong) == ("passed", "", [])
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 2)


@pytest.mark.parametrize("named", NAMED)
def test_a_dump_of_another_tool_that_names_a_role_is_verified(
    elsewhere: Shop, with_roles: Shop, rio: User, named: str
) -> None:
    elsewhere.sell()
    run(elsewhere, *NAMED[named])
    at = elsewhere.now()
    point = registered(elsewhere, rio, at=at, files={"database.dump": dump_of(elsewhere)})

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, wrong) == ("passed", "", [])
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 2)


def test_a_restore_to_a_server_without_the_role_names_it_and_leaves_nothing(with_roles: Shop, rio: User) -> None:
    name, _ = with_roles.sell()
    run(with_roles, POLICY)
    point = back_up(with_roles, rio)
    run(with_roles, 'DROP POLICY "to, them" ON sale_order', "DROP ROLE shop_till")

    without = over(with_roles, asked(with_roles, rio, target_at=point.consistent_at))
    left = databases(with_roles)
    with_roles.server.run_sql("CREATE ROLE shop_till;")
    again = over(with_roles, asked(with_roles, rio, target_at=point.consistent_at))

    assert without.state == "failed"
    assert "has no role “shop_till”, which a policy or a user mapping of the database names" in without.sentence
    assert left == ["northwind"]
    assert again.state == "succeeded", again.sentence
    assert rows(with_roles, "northwind_yesterday", "SELECT name FROM sale_order") == [name]
