"""Measures every figure, or those whose names begin as the arguments say: `python -m tests.bench audit_ list_`.

The database is a durable one of its own, as in production: every commit is forced to disk, in what is measured and in
its floor. Figures go to standard output, one line of JSON each; the load of the machine goes to standard error.
"""

from __future__ import annotations

import os
import sys
import time

import psycopg
from psycopg import sql

from changecontrol.project.local.postgres import Postgres
from tests.plugin import ROOT, TestDatabase, with_name


def main(prefixes: list[str]) -> None:
    import django

    django.setup()
    from django.db import connections

    from tests.bench import audit, commands, engine, lists, verify, wave

    measures = {
        "list_": lists.measure,
        "create_": commands.measure_create,
        "vote_": commands.measure_vote,
        "audit_": audit.measure,
        "engine_": engine.measure,
        "wave_": wave.measure,
        "verify_": verify.measure,
    }
    postgres = Postgres(ROOT / ".local" / "bench").start()
    _forget_earlier_runs(postgres)
    database = TestDatabase(postgres)
    try:
        database.create()
        connections["default"].settings_dict.update(_settings(database.url), CONN_MAX_AGE=None)
        for name, measure in measures.items():
            if not prefixes or any(name.startswith(prefix) or prefix.startswith(name) for prefix in prefixes):
                began = time.monotonic()
                for figure in measure(database):
                    figure.print()
                _note(f"{name} took {time.monotonic() - began:.0f} s")
    finally:
        connections.close_all()
        database.drop()
        postgres.stop()


def _forget_earlier_runs(postgres: Postgres) -> None:
    """Drop what a run that was killed left behind; the migrated template stays."""
    with psycopg.connect(with_name(postgres.owner_url, "postgres"), autocommit=True) as owner:
        for (name,) in owner.execute(r"SELECT datname FROM pg_database WHERE datname LIKE 'test\_%'").fetchall():
            owner.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _note(text: str) -> None:
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{text}; load {load} on {os.cpu_count()} cores", file=sys.stderr, flush=True)


def _settings(url: str) -> dict[str, object]:
    from changecontrol.project import env

    return {key: value for key, value in env.database(url).items() if key != "OPTIONS"}


if __name__ == "__main__":
    main(sys.argv[1:])
