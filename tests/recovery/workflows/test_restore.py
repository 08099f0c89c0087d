from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import pytest
from django.db import transaction
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.errors import Conflict, Hindered, Transient
from changecontrol.models import Environment, User
from recovery import doors
from recovery.actions.restores import ask_production_restore, ask_restore
from recovery.adapters.filestore import FolderSource
from recovery.adapters.postgres.sentinel import ensure_sentinel
from recovery.jobs import attachments, leftovers
from recovery.jobs import restore as job
from recovery.jobs.copies import run_id_of
from recovery.models import FilestoreCopy, RecoveryPoint, Restore
from recovery.queries.attachments import copy_for
from recovery.queries.points import coverage_of
from recovery.rules.times import moment
from tests.factories.changes import draft_change
from tests.factories.estate import actor, stranger_estate
from tests.recovery.workflows.conftest import Shop
from tests.recovery.workflows.refusing import SENTENCE, refuse
from tests.recovery.workflows.test_drill import backed_up
from tests.recovery.workflows.test_upkeep import back_up

pytestmark = pytest.mark.slow


def asked(shop: Shop, rio: User, *, target_at: datetime, name: str = "northwind_yesterday") -> Restore:
    return ask_restore(
        actor=actor(rio),
        environment_id=shop.estate.production.pk,
        target_at=target_at,
        target_database=name,
        reason="Somebody deleted an order.",
        at=clock.now(),
    )


def over(shop: Shop, restore: Restore) -> Restore:
    shop.work(lambda: Restore.objects.filter(pk=restore.pk, state__in=["succeeded", "failed"]).exists())
    restore.refresh_from_db()
    return restore


def rows(shop: Shop, database: str, statement: str) -> list[Any]:
    with psycopg.connect(doors.url_of(shop.server.superuser_url, database=database)) as connection:
        return [row[0] for row in connection.execute(statement).fetchall()]


def databases(shop: Shop) -> list[str]:
    return rows(shop, "postgres", "SELECT datname FROM pg_database WHERE datname ~ '^northwind' ORDER BY 1")


def test_a_database_comes_back_beside_the_old_as_of_the_time_and_harmless(shop: Shop, rio: User) -> None:
    backed_up(shop, rio)
    target_at = shop.now()
    before = rows(shop, "northwind", "SELECT name FROM sale_order ORDER BY id")
    shop.sell()
    shop.work(lambda: coverage_of(shop.estate.production).holds(shop.now()) or True)
    shop.work(lambda: coverage_of(shop.estate.production).holds(target_at))

    restore = over(shop, asked(shop, rio, target_at=target_at))

    assert restore.state == "succeeded", restore.sentence
    assert rows(shop, "northwind_yesterday", "SELECT name FROM sale_order ORDER BY id") == before
    active = "SELECT active FROM ir_mail_server WHERE name = 'out'"
    assert (rows(shop, "northwind", active), rows(shop, "northwind_yesterday", active)) == ([True], [False])
    restored = shop.folder / "restored" / "northwind_yesterday"
    there = {str(path.relative_to(restored)) for path in restored.glob("*/*")}
    # A later copy may bring what came after the time, too: nothing names it.
    assert set(shop.files[: len(before)]) <= there <= set(shop.files)
    times = [restore.declared_at, restore.provisioned_at, restore.restored_at, restore.validated_at]
    assert times == sorted(one for one in times if one is not None)
    assert shop.left_over() == []


def test_a_name_in_use_stays_as_it_is_and_a_time_outside_is_refused(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE northwind_books")

    restore = over(shop, asked(shop, rio, target_at=point.consistent_at, name="northwind_books"))

    assert restore.state == "failed"
    assert restore.sentence == "There is a database “northwind_books” on that server already, and it stays as it is."
    assert databases(shop) == ["northwind", "northwind_books"]
    with pytest.raises(Conflict, match="before the first time"):
        asked(shop, rio, target_at=point.started_at.replace(year=2020))


def test_damage_ends_a_restore_with_its_words_and_leaves_nothing(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    part = next((shop.objects / "northwind/production/base" / point.key).rglob("00000000"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(bytes(data))

    restore = over(shop, asked(shop, rio, target_at=point.consistent_at))

    assert restore.state == "failed"
    assert "changed" in restore.sentence
    assert restore.sentence.endswith("No other point leads back there.")
    assert databases(shop) == ["northwind"]
    assert shop.left_over() == []


def put_in_its_place(folder: Path, *, source: str, target: str) -> None:
    """Let what lies at one place of a store lie at another, too."""
    if (folder / target).is_dir():
        shutil.rmtree(folder / target)
        shutil.copytree(folder / source, folder / target)
    else:
        shutil.copy(folder / source, folder / target)


def copy_of(point: RecoveryPoint) -> FilestoreCopy:
    """Return the attachments that go with a point's own moment."""
    found = copy_for(point, point.consistent_at)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("part", "words"),
    [("database", "are those of"), ("attachments", "In place of the manifest")],
)
def test_a_mismatched_set_is_refused_and_nothing_changes(shop: Shop, rio: User, part: str, words: str) -> None:  # BCK-2
    first = backed_up(shop, rio)
    before = rows(shop, "northwind", "SELECT name FROM sale_order ORDER BY id")
    second = back_up(shop, rio)
    shop.quiet()
    places = {
        "database": [f"northwind/production/base/{one.key}" for one in (first, second)],
        "attachments": [copy_of(one).key for one in (first, second)],
    }
    put_in_its_place(shop.objects, source=places[part][0], target=places[part][1])

    refused = over(shop, asked(shop, rio, target_at=second.consistent_at))

    assert refused.state == "failed"
    assert words in refused.sentence
    assert databases(shop) == ["northwind"]
    assert not (shop.folder / "restored" / "northwind_yesterday").exists()
    assert shop.left_over() == []
    safe = second.consistent_at - timedelta(microseconds=1)
    says_safe = refused.sentence.endswith(f"The last safe time by another point is {moment(safe)}.")
    assert says_safe == (part == "database")
    if says_safe:
        again = over(shop, asked(shop, rio, target_at=safe))
        assert again.state == "succeeded", again.sentence
        assert rows(shop, "northwind_yesterday", "SELECT name FROM sale_order ORDER BY id") == before


@pytest.mark.parametrize(("folder", "words"), [("filestore/packs", "cannot be read"), ("wal", "The WAL")])
def test_of_what_points_share_no_damage_calls_another_time_safe(
    shop: Shop, rio: User, folder: str, words: str
) -> None:  # BCK-2
    backed_up(shop, rio)
    second = back_up(shop, rio)
    shop.quiet()
    for path in (shop.objects / "northwind/production" / folder).rglob("*.age"):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    refused = over(shop, asked(shop, rio, target_at=second.consistent_at))

    assert refused.state == "failed"
    assert words in refused.sentence
    assert "by another point" not in refused.sentence
    assert "No other point" not in refused.sentence


@pytest.mark.parametrize("part", ["base/", "filestore/"])
def test_a_refused_credential_says_nothing_of_a_copy_nor_of_another(
    shop: Shop, rio: User, settings: Any, part: str
) -> None:
    point = backed_up(shop, rio)
    refuse(settings, verb="observe_object", part=f"/{part}")

    refused = over(shop, asked(shop, rio, target_at=point.consistent_at))

    assert (refused.state, refused.sentence) == ("failed", SENTENCE)


def test_an_attachment_the_shop_had_lost_is_told_and_keeps_nothing_from_coming_back(shop: Shop, rio: User) -> None:
    with psycopg.connect(shop.url) as connection:
        connection.execute(
            "INSERT INTO ir_attachment (name, store_fname, checksum, file_size) VALUES ('lost', %s, %s, 1)",
            [f"00/{'0' * 40}", "0" * 40],
        )
    point = backed_up(shop, rio)

    restore = over(shop, asked(shop, rio, target_at=point.consistent_at))

    assert restore.state == "succeeded", restore.sentence
    assert restore.sentence.endswith(f"attachment, but not 1 that it names, such as 00/{'0' * 40}.")


def test_a_folder_in_use_is_refused_before_anything_is_fetched(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    folder = shop.folder / "restored" / "northwind_yesterday"
    folder.mkdir(parents=True)
    (folder / "of somebody").write_text("kept")

    restore = over(shop, asked(shop, rio, target_at=point.consistent_at))

    assert restore.state == "failed"
    assert "is not empty" in restore.sentence
    assert [path.name for path in folder.iterdir()] == ["of somebody"]
    assert databases(shop) == ["northwind"]


def test_an_attempt_that_was_killed_is_begun_anew_and_what_somebody_put_there_meanwhile_stays(
    shop: Shop, rio: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = backed_up(shop, rio)
    folder = shop.folder / "restored" / "northwind_yesterday"
    restore = asked(shop, rio, target_at=point.consistent_at)
    left = folder.with_name(f".{folder.name}.{run_id_of(restore)}")
    (left / "00").mkdir(parents=True)
    (left / "00" / "half").write_text("of the attempt before")
    move = job._move

    def moved(*arguments: Any, **words: Any) -> None:
        move(*arguments, **words)
        folder.mkdir()
        (folder / "of somebody").write_text("kept")

    monkeypatch.setattr(job, "_move", moved)

    restore = over(shop, restore)

    assert restore.state == "failed"
    assert "cannot be put at" in restore.sentence
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert [path.name for path in folder.iterdir()] == ["of somebody"]
    assert databases(shop) == ["northwind"]


def test_an_attempt_killed_after_its_attachments_had_their_name_is_begun_anew(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    restore = asked(shop, rio, target_at=point.consistent_at)
    restored = shop.folder / "restored" / "northwind_yesterday"
    with job._new_folder(restore) as folder:
        assert folder is not None
        (folder / "00").mkdir(parents=True)
        (folder / "00" / ("0" * 40)).write_text("of the attempt before")
    assert (restored / "00").is_dir()

    restore = over(shop, restore)

    assert restore.state == "succeeded", restore.sentence
    assert set(shop.files[:1]) <= {str(path.relative_to(restored)) for path in restored.glob("*/*")} <= set(shop.files)
    assert [path.name for path in restored.parent.iterdir()] == [restored.name]
    kept = FolderSource(restored)
    assert set(kept.observe_names()) == {str(path.relative_to(restored)) for path in restored.glob("*/*")}


def killed_at(line: int, target: str, **words: str) -> bool:
    """Make the database in a process that is gone before that line runs, with no time to clean up; tell if it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def step(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal count
            if frame.f_code.co_name != "_new_database":
                return None
            count += event == "line"
            if count == line:
                os._exit(9)
            return step

        making = job._new_database(target, **words)
        try:
            sys.settrace(step)
            making.__enter__()
        finally:
            os._exit(0 if count < line else 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_database_that_somebody_is_connected_to_is_not_made_anew(shop: Shop) -> None:
    target = shop.server.superuser_url
    words = {"name": "northwind_killed", "mark": "changecontrol restore-7-1", "run_id": "restore-7-1"}
    with job._new_database(target, **words) as made:
        pass

    making = job._new_database(target, **words)
    with psycopg.connect(made), pytest.raises(Transient, match="Somebody is connected to “northwind_killed”"):
        making.__enter__()

    assert databases(shop) == ["northwind", "northwind_killed"]
    with job._new_database(target, **words):
        pass
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("DROP DATABASE northwind_killed")


def test_an_attempt_killed_at_any_line_takes_nobodys_name(shop: Shop) -> None:
    target = shop.server.superuser_url
    words = {"name": "northwind_killed", "mark": "changecontrol restore-7-1", "run_id": "restore-7-1"}
    line, attempts = 1, []

    while killed_at(line, target, **words):
        with job._new_database(target, **words):
            attempts.append(databases(shop))
        line += 1
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("DROP DATABASE northwind_killed")

    assert line > 10
    assert attempts == [["northwind", "northwind_killed"]] * (line - 1)
    assert rows(shop, "postgres", "SELECT datname FROM pg_database WHERE datname ~ '^changecontrol-'") == []


def test_what_restores_that_are_over_left_is_cleared_away_and_only_that(shop: Shop, rio: User) -> None:  # BCK-8
    point = backed_up(shop, rio)
    ended, going = (
        asked(shop, rio, target_at=point.consistent_at, name=name) for name in ("northwind_a", "northwind_b")
    )
    Restore.objects.update(next_due_at=None)
    Restore.objects.filter(pk=ended.pk).update(state="failed")
    runs = [*map(run_id_of, (ended, going)), "restore-999-1", "of-somebody"]
    parent = shop.folder / "restored"
    for run in runs:
        (parent / f".shop.{run}").mkdir(parents=True)
    succeeded = asked(shop, rio, target_at=point.consistent_at, name="northwind_in_use")
    Restore.objects.filter(pk=succeeded.pk).update(state="succeeded", next_due_at=None)
    marked = dict(zip(("shop_a", "shop_b", "shop_c", "shop_d", "shop_e"), [*runs, run_id_of(succeeded)], strict=True))
    for folder, run in marked.items():
        (parent / folder / "00").mkdir(parents=True)
        (parent / folder / attachments.MARK).write_text(run)
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        for run in runs:
            connection.execute(f'CREATE DATABASE "changecontrol-{run}"')

        # A process may be killed after its database has its name.
        for name, run in (("northwind_a", runs[0]), ("northwind_b", runs[1]), ("northwind_c", runs[2])):
            connection.execute(f"CREATE DATABASE {name}")
            connection.execute(f"COMMENT ON DATABASE {name} IS 'changecontrol {run}'")

    restore = over(shop, asked(shop, rio, target_at=point.consistent_at))

    assert restore.state == "succeeded", restore.sentence
    assert databases(shop) == ["northwind", "northwind_b", "northwind_c", "northwind_yesterday"]
    left = rows(shop, "postgres", "SELECT datname FROM pg_database WHERE datname ~ '^changecontrol-' ORDER BY datname")
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        for name in (*left, *databases(shop)[1:]):
            connection.execute(f'DROP DATABASE "{name}"')
    assert left == sorted(f"changecontrol-{run}" for run in runs[1:])
    assert sorted(path.name for path in parent.glob(".*")) == sorted(f".shop.{run}" for run in runs[1:])
    assert sorted(path.name for path in parent.glob("shop_*")) == ["shop_b", "shop_c", "shop_d", "shop_e"]
    # What a restore has brought back that succeeded is in use.
    assert [path.name for path in (parent / "shop_e").iterdir()] == ["00"]


@dataclass
class GivenUp:
    """A restore that was canceled once its database and its folder had their names, and carried their marks."""

    restore: Restore
    url: str
    folder: Path


@pytest.fixture
def given_up(shop: Shop, rio: User) -> GivenUp:
    point = backed_up(shop, rio)
    restore = asked(shop, rio, target_at=point.consistent_at, name="northwind_live")
    Restore.objects.filter(pk=restore.pk).update(state="canceled", next_due_at=None)
    folder = shop.folder / "restored" / "northwind_live"
    (folder / "00").mkdir(parents=True)
    (folder / attachments.MARK).write_text(run_id_of(restore))
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE northwind_live")
        connection.execute(f"COMMENT ON DATABASE northwind_live IS 'changecontrol {run_id_of(restore)}'")
    return GivenUp(restore, doors.url_of(shop.server.superuser_url, database="northwind_live"), folder)


def cleared(shop: Shop, given_up: GivenUp) -> list[str]:
    """Clear away as the next restore does, of whatever name; return why something was left."""
    other = Restore(pk=given_up.restore.pk + 1, environment=shop.estate.production, declared_at=clock.now())
    with capture_logs() as logs:
        leftovers.clear_databases(shop.server.superuser_url)
        leftovers.clear_folders(given_up.folder.parent, own=other)
    return [one["problem"] for one in logs if one["event"] == "restore.left"]


def test_a_database_in_use_stays_with_its_attachments_though_its_restore_was_given_up(
    shop: Shop, given_up: GivenUp
) -> None:
    with psycopg.connect(given_up.url, autocommit=True) as user:
        why = cleared(shop, given_up)

        assert user.execute("SELECT 1").fetchall() == [(1,)]
    assert why == [
        "Somebody is connected to “northwind_live”, so it stays: look whether it is in use.",
        "It stays: its database “northwind_live” is still there.",
    ]
    assert (databases(shop), given_up.folder.is_dir()) == (["northwind", "northwind_live"], True)
    assert cleared(shop, given_up) == []
    assert (databases(shop), list(given_up.folder.parent.iterdir())) == (["northwind"], [])


def test_what_an_environment_of_anybody_names_stays_though_its_restore_was_given_up(
    shop: Shop, given_up: GivenUp
) -> None:
    kite, _ = stranger_estate()
    Environment.objects.filter(pk=kite.staging.pk).update(database="northwind_live")

    why = cleared(shop, given_up)

    assert why == [f"It stays: “northwind_live” is the database of {kite.staging}."] * 2
    assert (databases(shop), given_up.folder.is_dir()) == (["northwind", "northwind_live"], True)


def test_attachments_stay_where_nobody_can_say_whether_their_database_is_there(shop: Shop, given_up: GivenUp) -> None:
    (shop.folder / "target").write_text("postgresql://nobody:canary-word@127.0.0.1:1/postgres")

    why = cleared(shop, given_up)

    assert len(why) == 1
    assert "canary" not in why[0]
    assert given_up.folder.is_dir()


def test_what_was_given_up_holds_up_no_other_of_the_same_name(shop: Shop, rio: User, given_up: GivenUp) -> None:
    restore = over(shop, asked(shop, rio, target_at=given_up.restore.target_at, name="northwind_live"))

    assert restore.state == "succeeded", restore.sentence
    assert not (given_up.folder / "00").exists()


def said_of(shop: Shop, database: str) -> str:
    statement = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{}'"
    return str(rows(shop, "postgres", statement.format(database))[0])


def test_what_succeeded_bears_no_mark_and_stays_whatever_is_recorded_later(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    restore = over(shop, asked(shop, rio, target_at=point.consistent_at, name="northwind_live"))
    folder = shop.folder / "restored" / "northwind_live"
    told = f"Brought back by ChangeControl, {run_id_of(restore)}: {restore.sentence}"
    assert (restore.state, said_of(shop, "northwind_live")) == ("succeeded", told)
    assert not (folder / attachments.MARK).exists()
    # As restores left it that succeeded before marks were taken away.
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute(f"COMMENT ON DATABASE northwind_live IS 'changecontrol {run_id_of(restore)}'")
    given_up = GivenUp(restore, "", folder)

    assert cleared(shop, given_up) == []
    marked = said_of(shop, "northwind_live")
    Restore.objects.filter(pk=restore.pk).update(state="canceled")

    assert (cleared(shop, given_up), marked) == ([], told)
    assert (databases(shop), folder.is_dir()) == (["northwind", "northwind_live"], True)


def test_an_attempt_killed_before_its_success_was_recorded_is_gone_on_with(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    restore = asked(shop, rio, target_at=point.consistent_at, name="northwind_live")
    folder = shop.folder / "restored" / "northwind_live"
    brought = job.bring_back({"restore": restore.pk}, lambda _: None)
    (folder / attachments.MARK).write_text(run_id_of(restore))
    made = "SELECT oid::int FROM pg_database WHERE datname = 'northwind_live'"
    before = rows(shop, "postgres", made)

    # It may be in use by now.
    with psycopg.connect(doors.url_of(shop.server.superuser_url, database="northwind_live")):
        restore = over(shop, restore)

    assert (restore.state, restore.sentence) == ("succeeded", brought["sentence"])
    assert rows(shop, "postgres", made) == before
    assert not (folder / attachments.MARK).exists()


def test_what_was_given_up_while_it_ended_keeps_its_marks_for_the_next_to_clear(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    restore = asked(shop, rio, target_at=point.consistent_at, name="northwind_live")
    Restore.objects.filter(pk=restore.pk).update(state="canceled", next_due_at=None)

    with pytest.raises(Hindered, match="given up"):
        job.bring_back({"restore": restore.pk}, lambda _: None)

    given_up = GivenUp(restore, "", shop.folder / "restored" / "northwind_live")
    assert (databases(shop), given_up.folder.is_dir()) == (["northwind", "northwind_live"], True)
    assert cleared(shop, given_up) == []
    assert (databases(shop), given_up.folder.exists()) == (["northwind"], False)


def put_in_place(shop: Shop, *, target_at: datetime) -> Restore:
    """Ask for a restore as an approved change does."""
    production = shop.estate.production
    change = draft_change(shop.estate, at=clock.now(), kind="restore")
    with transaction.atomic():
        return ask_production_restore(
            production,
            target_at=target_at,
            target_database="northwind_monday",
            change=change,
            declared_at=clock.now(),
            actor=system_actor(),
            at=clock.now(),
        )


@pytest.fixture
def odoo_role(shop: Shop) -> Iterator[None]:
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE shop_odoo")
        connection.execute("ALTER DATABASE northwind OWNER TO shop_odoo")
    yield
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS northwind_monday WITH (FORCE)")
        connection.execute("ALTER DATABASE northwind OWNER TO CURRENT_USER")
        connection.execute("DROP ROLE shop_odoo")


def test_what_takes_the_place_of_production_belongs_to_the_same_role_and_works_as_it_did(
    shop: Shop, rio: User, odoo_role: None
) -> None:  # BCK-4
    point = backed_up(shop, rio)

    restore = over(shop, put_in_place(shop, target_at=point.consistent_at))

    assert restore.state == "succeeded", restore.sentence
    owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = 'northwind_monday'"
    tables = "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public' AND tablename {} '%sentinel'"
    assert rows(shop, "postgres", owner) == ["shop_odoo"]
    assert rows(shop, "northwind_monday", tables.format("NOT LIKE")) == ["shop_odoo"]
    # Who writes the sentinels goes on to.
    assert rows(shop, "northwind_monday", tables.format("LIKE")) == ["postgres"]
    assert rows(shop, "northwind_monday", "SELECT active FROM ir_mail_server WHERE name = 'out'") == [True]
    assert (shop.folder / "restored" / "northwind_monday").is_dir()


ROLES = ("shop_backup", "shop_reports", "shop_gone")


@pytest.fixture
def roles(shop: Shop, odoo_role: None) -> Iterator[None]:
    """A role that backs up and keeps the sentinels, one that reads, and one that is dropped after the point is taken.

    Only the first may connect, beside the owner.
    """
    with psycopg.connect(shop.url, autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
        connection.execute("REVOKE ALL ON DATABASE northwind FROM PUBLIC")
        connection.execute("GRANT CONNECT ON DATABASE northwind TO shop_backup")
        connection.execute("GRANT CREATE ON SCHEMA public TO shop_backup")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO shop_backup, shop_reports, shop_gone")
        connection.execute("ALTER DATABASE northwind SET search_path TO public, shop_extra")
        connection.execute("ALTER DATABASE northwind SET default_transaction_read_only TO off")
        connection.execute("ALTER ROLE shop_reports IN DATABASE northwind SET work_mem TO '7MB'")
    yield
    for name in databases(shop):
        with psycopg.connect(doors.url_of(shop.server.superuser_url, database=name), autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {ROLES[0]}, {ROLES[1]}")
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"DROP ROLE IF EXISTS {role}")


def test_whoever_had_rights_in_production_has_them_in_what_takes_its_place(
    shop: Shop, rio: User, roles: None
) -> None:  # BCK-4
    point = backed_up(shop, rio)
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE changecontrol_sentinel OWNER TO shop_backup")
        connection.execute("DROP OWNED BY shop_gone")
        connection.execute("DROP ROLE shop_gone")

    restore = over(shop, put_in_place(shop, target_at=point.consistent_at))

    assert restore.state == "succeeded", restore.sentence
    assert restore.sentence.endswith("and 1 attachment.")
    new = doors.url_of(shop.server.superuser_url, database="northwind_monday")
    backup = make_conninfo(new, user="shop_backup", password="shop_backup")
    ensure_sentinel(backup)
    with psycopg.connect(backup) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM sale_order").fetchall() == [(True,)]
        assert connection.execute("SHOW search_path").fetchall() == [("public, shop_extra",)]
    can = "SELECT has_table_privilege('shop_reports', 'sale_order', 'SELECT')"
    assert rows(shop, "northwind_monday", can) == [True]
    owner = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'changecontrol_sentinel'"
    assert rows(shop, "northwind_monday", owner) == ["shop_backup"]
    rights = "SELECT datacl::text FROM pg_database WHERE datname = '{}'"
    told = [rows(shop, "postgres", rights.format(name)) for name in ("northwind", "northwind_monday")]
    assert told[0] == told[1] != [None]
    settings = (
        "SELECT coalesce(rolname, '') || array_to_string(setconfig, ';') FROM pg_db_role_setting"
        " JOIN pg_database ON pg_database.oid = setdatabase LEFT JOIN pg_roles ON pg_roles.oid = setrole"
        " WHERE datname = 'northwind_monday' ORDER BY 1"
    )
    assert rows(shop, "postgres", settings) == ["search_path=public, shop_extra", "shop_reportswork_mem=7MB"]


def test_publications_and_subscriptions_are_left_where_they_were(shop: Shop, rio: User, odoo_role: None) -> None:
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        connection.execute(
            "CREATE SUBSCRIPTION tills CONNECTION 'host=127.0.0.1 port=1' PUBLICATION sold"
            " WITH (connect = false, slot_name = NONE)"
        )
    try:
        point = backed_up(shop, rio)
    finally:
        with psycopg.connect(shop.url, autocommit=True) as connection:
            connection.execute("DROP SUBSCRIPTION tills")

    restore = over(shop, put_in_place(shop, target_at=point.consistent_at))

    assert restore.state == "succeeded", restore.sentence
    links = "SELECT pubname::text FROM pg_publication UNION ALL SELECT subname FROM pg_subscription"
    assert rows(shop, "northwind_monday", links) == []


def test_a_cut_over_is_refused_where_what_runs_is_not_on_the_server(shop: Shop, rio: User) -> None:
    point = backed_up(shop, rio)
    shop.estate.production.database = "elsewhere"
    shop.estate.production.save(update_fields=["database"])

    restore = over(shop, put_in_place(shop, target_at=point.consistent_at))

    assert (restore.state, restore.sentence) == (
        "failed",
        "“elsewhere”, which runs now, is not on that server: a cut-over needs both beside each other.",
    )
    assert "northwind_monday" not in databases(shop)
