"""How Odoo's program is run, proved with programs that stand in for it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from changecontrol.errors import Permanent
from changecontrol.project.local.distribution import shared_folder
from recovery.adapters.odoo import ensure_neutralised, observe_neutralised
from recovery.adapters.odoo.checks import run_odoo_checks
from recovery.adapters.odoo.commands import role_for_odoo, series_of
from recovery.adapters.odoo.places import make_place, tear_down_odoo
from recovery.ports.odoo import NeutralisedBy
from tests.plugin import SERVICES, with_name
from tests.recovery.adapters.odoo.scene import EVERYTHING, Made, every_value, run


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place that the user whom Odoo runs as can reach."""
    parent = shared_folder() if os.geteuid() == 0 else Path("/tmp")
    folder = parent / f"odoo-runs-{uuid.uuid4().hex[:6]}"
    folder.mkdir(mode=0o755)
    (folder / "seen").mkdir()
    (folder / "seen").chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def program(folder: Path, settings: Any) -> Callable[[str], None]:
    """Return a function that puts a program in Odoo's place: it says its version, then does as told."""

    def put(script: str, version: str = "Odoo Server 19.0") -> None:
        path = folder / "seen" / "odoo"
        path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" && exit\n{script}\n')
        path.chmod(0o755)
        settings.ODOO_COMMAND = [str(path)]

    return put


@pytest.mark.parametrize(
    ("version", "series"),
    [("19.0.1.3", "19.0"), ("Odoo Server 19.0-20260101", "19.0"), ("saas~18.2.1.0", "saas~18.2"), ("", ""), ("x", "")],
)
def test_series_is_read_from_versions(version: str, series: str):
    assert series_of(version) == series


def test_password_is_in_no_file_and_on_no_command_line(made: Made, folder: Path, program: Any):
    url = made(*EVERYTHING)
    password = SERVICES.owner_url.split(":")[2].split("@")[0]
    program(f'cat "$3" > {folder}/seen/conf; echo "$@" > {folder}/seen/words; echo "$PGPASSWORD" > {folder}/seen/env')

    assert ensure_neutralised(url, run_id="run-1", folder=folder) is NeutralisedBy.ODOO

    written = (folder / "seen" / "conf").read_text()
    assert password not in written + (folder / "seen" / "words").read_text()
    assert (folder / "seen" / "env").read_text().strip() == password
    assert {"workers = 0", "max_cron_threads = 0", "smtp_server = invalid", "list_db = False"} <= set(
        written.splitlines()
    )
    assert [path.name for path in folder.iterdir()] == ["seen"]
    assert observe_neutralised(url) == ()


def test_command_is_asked_once_for_a_run(made: Made, folder: Path, program: Any):
    url = made(*EVERYTHING)
    program(f"echo asked >> {folder}/seen/asked")

    ways = [ensure_neutralised(url, run_id="run-1", folder=folder) for _ in range(2)]

    assert ways == [NeutralisedBy.ODOO, NeutralisedBy.ODOO]
    assert (folder / "seen" / "asked").read_text() == "asked\n"


def test_command_that_fails_leaves_the_copy_as_it_was_and_its_words_unsaid(made: Made, folder: Path, program: Any):
    url = made(*EVERYTHING)
    before = every_value(url)
    program(
        "echo 'bad query: UPDATE x SET y = canary-mail-7f3a' >&2\n"
        "echo 'psycopg2.errors.NotNullViolation: Failing row contains (canary-mail-7f3a)' >&2; exit 3"
    )

    with pytest.raises(Permanent) as refused:
        ensure_neutralised(url, run_id="run-1", folder=folder)

    assert refused.value.reason == (
        "'odoo neutralize' ended with code 3 (psycopg2.errors.NotNullViolation); the copy is not neutralised."
    )
    assert every_value(url) == before
    assert [path.name for path in folder.iterdir()] == ["seen"]


def test_odoo_of_another_series_leaves_all_to_sql(made: Made, folder: Path, program: Any):
    url = made(*EVERYTHING)
    program("exit 1", version="Odoo Server 18.0")

    assert ensure_neutralised(url, run_id="run-1", folder=folder) is NeutralisedBy.SQL
    assert observe_neutralised(url) == ()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([], "No Odoo is configured here, so no copy can be booted: set ODOO_COMMAND."),
        (["/nowhere/odoo"], "ODOO_COMMAND names /nowhere/odoo, which could not be started: No such file or directory."),
        (["/bin/true"], "ODOO_COMMAND names /bin/true, which does not say which Odoo it is."),
    ],
    ids=["none", "missing", "other"],
)
def test_without_an_odoo_there_is_no_verdict(
    made: Made, folder: Path, settings: Any, command: list[str], sentence: str
):
    settings.ODOO_COMMAND = command

    with pytest.raises(Permanent) as refused:
        run_odoo_checks(database_url=made(*EVERYTHING), filestore=folder, folder=folder, run_id="run-1")

    assert refused.value.reason == sentence


def test_odoo_that_does_not_come_up_is_a_failed_check(made: Made, folder: Path, program: Any, settings: Any):
    settings.ODOO_COMMAND = []
    url = made(*EVERYTHING, KEYS)
    ensure_neutralised(url, run_id="run-1", folder=folder)
    before = every_value(url)
    program("echo 'KeyError: canary-mail-7f3a'; exit 7")
    (folder / "files").mkdir()

    checks = run_odoo_checks(database_url=url, filestore=folder / "files", folder=folder, run_id="run-1")

    assert [(one.name, one.is_passed) for one in checks] == [("neutralised", True), ("modules", True), ("boot", False)]
    assert checks[-1].sentence == "Odoo ended with code 7 before it answered (KeyError)."
    assert every_value(url) == before
    assert sorted(path.name for path in folder.iterdir()) == ["files", "seen"]


KEYS = """
CREATE TABLE res_users (id int PRIMARY KEY, active boolean);
INSERT INTO res_users VALUES (1, false), (2, false);
CREATE TABLE res_groups_users_rel (uid int, gid int);
INSERT INTO res_groups_users_rel VALUES (2, 10), (1, 12);
CREATE TABLE res_users_apikeys (id serial PRIMARY KEY, name varchar NOT NULL, user_id int, scope varchar,
  expiration_date timestamp, index varchar(8) NOT NULL, key varchar NOT NULL);
INSERT INTO ir_model_data (module, name, model, res_id) VALUES ('base', 'user_admin', 'res.users', 2),
  ('base', 'group_system', 'res.groups', 10), ('stock', 'group_stock_manager', 'res.groups', 11);
"""


def test_run_begins_anew_where_an_attempt_was_killed(folder: Path):
    left = make_place(folder, run_id="run-1")
    (left.work / "left").write_text("left")

    place = make_place(folder, run_id="run-1")

    assert list(place.work.iterdir()) == []
    tear_down_odoo(folder, run_id="run-1")
    tear_down_odoo(folder, run_id="run-1")


@pytest.mark.parametrize("run_id", ["", "../x", "a b", "x" * 65])
def test_run_id_is_no_path(folder: Path, run_id: str):
    with pytest.raises(Permanent, match="letters, digits"):
        make_place(folder, run_id=run_id)


def test_superuser_gets_a_role_for_the_run_and_an_owner_keeps_its_own(made: Made):
    url = made(*EVERYTHING)
    superuser = with_name(SERVICES.superuser_url, url.rsplit("/", 1)[1])

    with role_for_odoo(url, run_id="run-1") as own:
        assert own == url
    with role_for_odoo(superuser, run_id="run-1") as own:
        [(name, is_superuser)] = run(own, "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user")
        run(own, "UPDATE ir_cron SET active = false; CREATE TABLE made_by_odoo (id int)")

    assert (name[:14], is_superuser) == ("changecontrol_", False)
    assert run(superuser, "SELECT count(*) FROM pg_roles WHERE rolname ~ '^changecontrol_[0-9a-f]{12}$'") == [(0,)]
    assert run(url, "SELECT count(*) FROM made_by_odoo") == [(0,)]
