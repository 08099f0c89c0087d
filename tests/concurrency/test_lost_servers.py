"""The broker forgets everything, the database restarts: nothing is lost but time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter

import psycopg
import pytest

from changecontrol import clock
from changecontrol.project.local.postgres import Postgres
from changecontrol.project.local.valkey import Valkey
from tests.changecontrol.workflow.toy import FolderFarSide, expected_effects, make_runs, unfinished_count
from tests.concurrency.conftest import Workshop, stretched, until
from tests.plugin import ROOT, TestDatabase

MAKE_RUNS = """
import django
django.setup()
from changecontrol import clock
from tests.changecontrol.workflow.toy import expected_effects, make_runs
print("\\n".join(expected_effects(make_runs(30, at=clock.now(), targets=5))))
"""


@pytest.mark.slow
def test_a_flushed_broker_loses_nothing(fresh_db: TestDatabase, workshop: Workshop) -> None:
    valkey = Valkey(workshop.folder / "valkey").start()
    try:
        workshop.environment |= {"REDIS_URL": valkey.url, "SWEEP_SECONDS": "1"}
        celery = ("-m", "celery", "-A", "changecontrol.project.celery")
        workshop.start(*celery, "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "WARNING")
        workshop.start(*celery, "beat", "--schedule", str(workshop.folder / "beat"), "--loglevel", "WARNING")
        runs = make_runs(40, at=clock.now(), targets=5)
        far_side = FolderFarSide(workshop.far_side)
        until(lambda: len(far_side.counts()) > 20, seconds=40, log=lambda: workshop.log)
        assert unfinished_count(runs) > 0

        for _ in range(5):
            valkey.flush()
            time.sleep(0.2)

        until(lambda: not unfinished_count(runs), seconds=60, log=lambda: workshop.log)
        assert far_side.counts() == expected_effects(runs)
    finally:
        workshop.end()
        valkey.stop()


@pytest.mark.slow
def test_a_restarted_database_loses_nothing(workshop: Workshop) -> None:
    postgres = Postgres(workshop.folder / "postgres", durable=False).start()
    try:
        workshop.environment |= {"DATABASE_URL": postgres.app_url, "MIGRATION_DATABASE_URL": postgres.owner_url}
        environment = {**os.environ, **workshop.environment}
        for command in (["manage.py", "migrate", "--verbosity", "0"], ["-c", MAKE_RUNS]):
            made = subprocess.run(
                [sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
            )
        expected = Counter(made.stdout.split())
        far_side = FolderFarSide(workshop.far_side)
        crew = workshop.start_crew(3)
        until(lambda: len(far_side.counts()) > 20, seconds=40, log=lambda: workshop.log)
        workers = crew.workers()

        for _ in range(2):
            postgres.restart()
            time.sleep(0.5)

        until(lambda: _is_closed(postgres), seconds=60, log=lambda: workshop.log)
        assert far_side.counts() == expected
        assert crew.workers() == workers
        assert len(expected) == 30 * 11
    finally:
        workshop.end()
        postgres.destroy()


def _is_closed(postgres: Postgres) -> bool:
    with psycopg.connect(postgres.app_url) as connection:
        found = connection.execute("SELECT bool_and(step = 'closed') FROM changecontrol_run").fetchone()
    return found == (True,)


def test_one_look_of_the_command_works_off_what_is_due(workshop: Workshop) -> None:
    make_runs(2, at=clock.now(), targets=1)

    workshop.start("manage.py", "tick", "--once").wait(timeout=stretched(30))

    # Two ticks open the runs; then each target takes two steps, and wakes its run, which closes.
    assert "8 ticks." in workshop.log
    assert sorted(FolderFarSide(workshop.far_side).counts().values()) == [1] * 6
