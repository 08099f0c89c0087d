"""Measures every figure, or those whose names begin as the arguments say: `python -m tests.bench audit_ list_`.

The database is a durable one, as in production: every commit is forced to disk, in what is measured and in its floor.
"""

from __future__ import annotations

import sys

from changecontrol.project.local.postgres import Postgres
from tests.plugin import ROOT, TestDatabase


def main(prefixes: list[str]) -> None:
    import django

    django.setup()
    from django.db import connections

    from tests.bench import audit, engine

    postgres = Postgres(ROOT / ".local" / "bench").start()
    database = TestDatabase(postgres)
    try:
        database.create()
        connections["default"].settings_dict.update(_settings(database.url), CONN_MAX_AGE=None)
        for name, measure in {"audit_": audit.measure, "engine_": engine.measure}.items():
            if not prefixes or any(name.startswith(prefix) or prefix.startswith(name) for prefix in prefixes):
                for figure in measure(database):
                    figure.print()
        connections.close_all()
        database.drop()
    finally:
        postgres.stop()


def _settings(url: str) -> dict[str, object]:
    from changecontrol.project import env

    return {key: value for key, value in env.database(url).items() if key != "OPTIONS"}


if __name__ == "__main__":
    main(sys.argv[1:])
