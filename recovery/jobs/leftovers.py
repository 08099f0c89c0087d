"""What restores leave on servers and in folders: the marks by which it is known, and how it goes once they are over.

Nothing goes that somebody uses or an environment names as its database, whatever is recorded: an older copy of our own
database takes a restore for unfinished whose database has long been put in use.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg import sql

from changecontrol.errors import Permanent, Transient
from changecontrol.models import Environment
from recovery import doors
from recovery.adapters.postgres.programs import connected
from recovery.jobs import attachments
from recovery.jobs.copies import is_over, restore_of, run_id_of
from recovery.lifecycles.restore import ENDED, RestoreState
from recovery.models import BackupPolicy, Restore

UNMARKED = "changecontrol-"
"""What a new database is called, with the run's id, until it is marked as ours."""
MARKED = "changecontrol "
"""What is said of a database on its server, before the run it was made by: it is not whole, and may go."""
WHOLE = "Brought back by ChangeControl, "
"""What is said of it, before the run and a sentence, once it is whole. It is no mark: what has it is never removed."""
GIVEN_UP = ENDED - {RestoreState.SUCCEEDED}

log = structlog.get_logger(__name__)


def whole_of(target: str, *, run_id: str) -> str:
    """Return what was said of the database that a run has brought back whole, whatever it is called by now; or empty.

    An attempt that was killed before its success was recorded is gone on with by it, and not begun anew.
    """
    said = f"{WHOLE}{run_id}: "
    with connected(target) as connection:
        found = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE starts_with(shobj_description(oid, 'pg_database'), %s)",
            [said],
        ).fetchone()
    return str(found[0]).removeprefix(said) if found is not None else ""


def note_whole(target: str, *, name: str, mark: str, sentence: str) -> None:
    """Say of a database that it is whole, in place of its mark: from then on nothing of ours drops it."""
    said = f"{WHOLE}{mark.removeprefix(MARKED)}: {sentence}"
    with connected(target) as connection:
        if _carries(connection, name=name, mark=mark):
            connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(said)))


def unmark_folder(restore: Restore) -> None:
    """Take the mark from the attachments of a restore whose database is whole."""
    if not restore.target_filestore:
        return
    mark = doors.folder_at(restore.target_filestore) / attachments.MARK
    try:
        if mark.is_file() and mark.read_text(errors="replace") == run_id_of(restore):
            mark.unlink()
    except OSError as trouble:
        log.error("restore.left", folder=str(mark.parent), problem=trouble.strerror)


def clear_databases(target: str) -> None:
    """Drop what restores had made that failed or were canceled: their process was killed before it could.

    Where one has succeeded the mark goes, and what it marked is nobody's to drop any more.
    """
    with connected(target) as connection:
        found = connection.execute(
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE starts_with(shobj_description(oid, 'pg_database'), %s)",
            [MARKED],
        ).fetchall()
    for name, mark in found:
        restore = restore_of(str(mark).removeprefix(MARKED))
        if restore is None or restore.state not in ENDED:
            continue
        try:
            if restore.state == RestoreState.SUCCEEDED:
                note_whole(target, name=name, mark=mark, sentence=restore.sentence)
            else:
                _check_unnamed({name})
                drop_idle(target, name=name, mark=mark)
        except (Permanent, Transient) as trouble:
            log.error("restore.left", database=name, problem=trouble.reason)
    _clear_unmarked(target)


def _clear_unmarked(target: str) -> None:
    """Drop what restores that are over had begun to make: their process was killed for good."""
    with connected(target) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [UNMARKED])
        names = [str(name) for (name,) in rows.fetchall()]
    for name in names:
        if is_over(name.removeprefix(UNMARKED)):
            try:
                drop_unmarked(target, name)
            except (Permanent, Transient) as trouble:
                log.error("restore.left", database=name, problem=trouble.reason)


def clear_folders(parent: Path, *, own: Restore) -> None:
    """Remove what restores had put there that failed or were canceled, and an attempt of our own before this one.

    Where one has succeeded the mark goes, and what it marked is nobody's to remove any more. Where the database is
    still there that they belong to, attachments stay with it.
    """
    for mark in list(parent.glob(f"*/{attachments.MARK}")):
        try:
            run_id = mark.read_text(errors="replace")
            restore = restore_of(run_id)
            if restore is not None and restore.state == RestoreState.SUCCEEDED:
                mark.unlink()
            elif restore is not None and (restore.pk == own.pk or restore.state in GIVEN_UP):
                if restore.pk != own.pk:
                    names = {restore.target_database, mark.parent.name}
                    _check_without_database(restore, names=names, ours=f"{MARKED}{run_id_of(own)}")
                # First its name: what is removed in part and carries no mark would be nobody's.
                folder = mark.parent.rename(parent / f".{mark.parent.name}.{run_id}")
                shutil.rmtree(folder)
        except (Permanent, Transient) as trouble:
            log.error("restore.left", folder=str(mark.parent), problem=trouble.reason)
        except OSError as trouble:
            log.error("restore.left", folder=str(mark.parent), problem=trouble.strerror)
    _clear_unfinished(parent)


def _clear_unfinished(parent: Path) -> None:
    """Remove the folders of restores that are over: their process was killed for good."""
    for path in parent.glob(".*.restore-*"):
        if is_over(path.name.rpartition(".")[2]):
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                log.error("restore.left", folder=str(path))


def _check_unnamed(names: Collection[str]) -> None:
    """Raise `Permanent` where an environment, of whatever tenant, names one of these as its database."""
    environment = Environment.objects.filter(database__in=names).first()
    if environment is not None:
        raise Permanent(f"It stays: “{environment.database}” is the database of {environment}.")


def _check_without_database(restore: Restore, *, names: Collection[str], ours: str) -> None:
    """Raise `Permanent` where a server that the restore may have gone to has a database of one of these names.

    A database in use bears the name of its folder; what carries our own mark was made a moment ago. A server that
    cannot be asked raises, too: then nobody knows.
    """
    _check_unnamed(names)
    policies = BackupPolicy.objects.filter(environment=restore.environment_id).exclude(restore_target="")
    for reference in sorted(set(policies.values_list("restore_target", flat=True))):
        with connected(doors.read_secret(reference, what="server for restored databases")) as connection:
            found = connection.execute(
                "SELECT datname FROM pg_database"
                " WHERE datname = ANY(%s) AND shobj_description(oid, 'pg_database') IS DISTINCT FROM %s",
                [sorted(names), ours],
            ).fetchone()
        if found is not None:
            raise Permanent(f"It stays: its database “{found[0]}” is still there.")


def drop_idle(target: str, *, name: str, mark: str) -> None:
    """Drop a database if it carries the mark. Raises `Transient` while somebody is connected to it."""
    with connected(target) as connection:
        if not _carries(connection, name=name, mark=mark):
            return
        try:
            # Never by force: whoever is connected uses it.
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.ObjectInUse:
            raise Transient(f"Somebody is connected to “{name}”, so it stays: look whether it is in use.") from None


def drop_marked(target: str, *, name: str, mark: str) -> None:
    """Drop a database if it carries the mark, whatever of a run that we end is still connected to it."""
    with connected(target) as connection:
        if _carries(connection, name=name, mark=mark):
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def drop_unmarked(target: str, name: str) -> None:
    """Drop what a run had begun to make, which has nobody's name."""
    with connected(target) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _carries(connection: psycopg.Connection[Any], *, name: str, mark: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM pg_database WHERE datname = %s AND shobj_description(oid, 'pg_database') = %s", [name, mark]
    ).fetchone()
    return found is not None
