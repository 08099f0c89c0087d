"""A busy platform: 100,000 changes, four in five of one tenant and the others of another between them, made by SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import psycopg

from changecontrol import clock
from changecontrol.actions.tokens import create_token
from changecontrol.models import User
from changecontrol.rules.roles import Role
from tests.factories import SmallEstate, actor, add_person, authorized_change, grant, small_estate, stranger_estate
from tests.plugin import TestDatabase, with_name

HOST = "127.0.0.1"
CHANGES = 100_000
DAY = timedelta(days=1)
_TABLE = "changecontrol_changerequest"


@dataclass(frozen=True)
class Crowd:
    """The estate, and two people's tokens: one with roles on the tenant, one with a role on one environment."""

    estate: SmallEstate
    token: str
    narrow_token: str

    @classmethod
    @cache
    def of(cls, database: TestDatabase) -> Crowd:
        estate = small_estate()
        kite, _ = stranger_estate()
        _fill(database, [estate, kite])
        narrow = add_person("gil")
        grant(narrow, Role.ENGINEER, estate.staging)
        return cls(estate=estate, token=token_of(estate.ada), narrow_token=token_of(narrow))


def token_of(person: User) -> str:
    at = clock.now()
    return create_token(actor=actor(person, at=at), name="bench", expires_at=at + DAY, at=at).secret


def _fill(database: TestDatabase, estates: list[SmallEstate]) -> None:
    """Copy an authorised change of each tenant with its revision; one in ten is not over, one in ten staging's too."""
    ours, theirs = (authorized_change(one, by=one.ada, at=clock.now()) for one in estates)
    superuser = with_name(database.server.superuser_url, database.name)  # type: ignore[attr-defined]
    with psycopg.connect(superuser, autocommit=True) as owner:
        # Foreign keys are right by the way the rows are made; asking them one by one takes a minute.
        owner.execute("SET session_replication_role = replica")
        columns = [name for (name,) in owner.execute(_COLUMNS, [_TABLE])]
        made = {
            "id": "%(after)s + n",
            "title": "one.title || ' ' || n",
            "state": "CASE WHEN n %% 10 = 0 THEN 'scheduled' ELSE 'closed' END",
            "close_code": "CASE WHEN n %% 10 = 0 THEN '' ELSE 'successful' END",
            "revision_id": "%(after)s + n",
            "plan_id": "NULL",
            "created_at": "one.created_at - (200000 - n) * interval '1 minute'",
            "planned_start_at": "one.created_at - (200000 - n) * interval '1 minute'",
            "closed_at": "CASE WHEN n %% 10 = 0 THEN NULL ELSE one.created_at END",
        }
        words = {"after": max(ours.pk, theirs.pk), "ours": ours.pk, "theirs": theirs.pk, "count": CHANGES}
        values = ", ".join(made.get(name, f"one.{name}") for name in columns)
        copies = "generate_series(1, %(count)s) AS n WHERE {} = CASE WHEN n %% 5 = 0 THEN %(theirs)s ELSE %(ours)s END"
        owner.execute(
            f"INSERT INTO {_TABLE} ({', '.join(columns)})"  # noqa: S608
            f" SELECT {values} FROM {_TABLE} AS one, {copies.format('one.id')}",
            words,
        )
        owner.execute(
            "INSERT INTO changecontrol_revision (id, change_id, number, author_id, created_at, content)"  # noqa: S608
            " SELECT %(after)s + n, %(after)s + n, 1, author_id, created_at, content"
            f" FROM changecontrol_revision AS one, {copies.format('one.change_id')}",
            words,
        )
        for stage, every in (("production", 1), ("staging", 10)):
            places = {"here": getattr(estates[0], stage).pk, "there": getattr(estates[1], stage).pk, "every": every}
            owner.execute(
                f"INSERT INTO {_TABLE}_environments (changerequest_id, environment_id)"  # noqa: S608
                " SELECT %(after)s + n, CASE WHEN n %% 5 = 0 THEN %(there)s ELSE %(here)s END"
                " FROM generate_series(1, %(count)s) AS n WHERE n %% %(every)s = %(every)s - 1",
                words | places,
            )
        for table in (_TABLE, "changecontrol_revision"):
            owner.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")  # noqa: S608
        # What autovacuum would have done by the time a database holds as many.
        owner.execute("VACUUM ANALYZE")


_COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
