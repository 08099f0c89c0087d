"""The job behind a restore: a point brought back in a sandbox, made harmless, and moved beside what is in use.

Whatever it makes outside its sandbox carries its name, so that an attempt that was killed is cleared and begun anew,
and nothing else is ever touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import sql

from changecontrol.errors import Hindered, Permanent
from changecontrol.rules.counting import counted
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.odoo import ensure_neutralised, observe_attachments, observe_neutralised, observe_odoo
from recovery.adapters.postgres.dumping import WITHOUT_LINKS
from recovery.adapters.postgres.incremental import FaultIn
from recovery.adapters.postgres.programs import (
    NO_ROOM,
    Programs,
    connected,
    connection_environment,
    one_row,
    run_program,
)
from recovery.adapters.postgres.rights import ensure_granted, ensure_stands_in
from recovery.adapters.postgres.sandbox import Sandbox, make_sandbox
from recovery.adapters.postgres.wal import FaultInWal
from recovery.jobs import attachments
from recovery.jobs.copies import Bench, bench_of, database_of, run_id_of
from recovery.jobs.leftovers import (
    GIVEN_UP,
    MARKED,
    UNMARKED,
    clear_databases,
    clear_folders,
    drop_idle,
    drop_marked,
    drop_unmarked,
    note_whole,
    unmark_folder,
    whole_of,
)
from recovery.jobs.observing import ObservedStore
from recovery.jobs.recovered import Server, recovered_server, server_at
from recovery.jobs.saying import Saying
from recovery.jobs.stored import stored_of
from recovery.models import BackupPolicy, Restore
from recovery.models.policy import Engine
from recovery.models.restore import RestorePurpose
from recovery.queries.attachments import copy_for
from recovery.queries.cut_overs import database_at
from recovery.queries.restores import last_safe_without
from recovery.rules.times import moment

MOVE_SECONDS = 12 * 3600.0
JOBS = "--jobs=2"
SAFE = "The last safe time"
ZSTD_FROM = 16
"""The first version whose pg_dump compresses with zstd."""
NAMED_ROLES = """
SELECT rolname FROM pg_roles
WHERE oid IN (SELECT unnest(polroles) FROM pg_policy UNION SELECT umuser FROM pg_user_mapping)
"""
"""Roles without which what a database has beside its tables cannot be made; rights are granted one by one."""
COUNTED = """
SELECT count(*), coalesce(sum((xpath('/row/n/text()', query_to_xml(
    format('SELECT count(*) AS n FROM %I.%I', schemaname, tablename), false, true, '')))[1]::text::bigint), 0)
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
"""How many tables a database has, and how many rows are in all of them."""


def bring_back(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Carry out a restore. The order: `restore`, and `recovery` where an operator recovered a cluster for it.

    Returns `phases`, and what was made as a `sentence`.
    """
    restore = Restore.objects.select_related("point__policy__environment__tenant", "environment__tenant").get(
        pk=order["restore"]
    )
    saying = Saying(report)
    saying.begin("provisioning", "Looking at what is there, and making room.")
    in_force = BackupPolicy.objects.active().get(environment=restore.environment_id)
    target = doors.read_secret(in_force.restore_target, what="server for restored databases")
    if sentence := whole_of(target, run_id=run_id_of(restore)):
        for phase in ("restoring", "validating"):
            saying.begin(phase, "An earlier attempt had brought it back whole.")
    else:
        sentence = _made_beside(order, restore, target=target, saying=saying)
        _check_wanted(restore)
        # Last of all: an attempt killed before is begun anew, and one killed later is gone on with.
        note_whole(target, name=restore.target_database, mark=_mark_of(restore), sentence=sentence)
    unmark_folder(restore)
    saying.begin("over", "It is over.")
    return {"phases": saying.phases, "sentence": sentence}


def _made_beside(order: Mapping[str, Any], restore: Restore, *, target: str, saying: Saying) -> str:
    """Make the new database and its folder beside what is in use, marked as ours; return what they hold."""
    mark = _mark_of(restore)
    store = ObservedStore(doors.open_store_to_read(restore.point.policy))
    with bench_of(restore.point, run_id=run_id_of(restore), store=store, saying=saying) as bench:
        bench.check_identity()
        sandbox = make_sandbox(bench.folder, run_id=bench.run_id)
        owner = _owner_in_use(target, restore) if restore.purpose == RestorePurpose.PRODUCTION else ""
        with (
            _new_database(target, name=restore.target_database, mark=mark, run_id=bench.run_id, owner=owner) as new_url,
            _new_folder(restore) as folder,
        ):
            server = _brought_back(order, restore, bench=bench, sandbox=sandbox)
            with server as restored:
                wanted = database_of(restored.url, wanted=database_at(restore.environment, restore.target_at))
                url = restored.url_of(wanted)
                is_odoo = observe_odoo(url) is not None
                if restore.is_neutralised and is_odoo:
                    saying.say("Making the copy harmless.")
                    ensure_neutralised(url, run_id=bench.run_id, folder=sandbox.folder)
                saying.say("Moving the database beside the one in use.")
                dumping_url = restored.superuser_url_of(wanted)
                left = _move(dumping_url, new_url, programs=restored.programs, sandbox=sandbox, owner=owner)
                files = _restore_attachments(restore, bench, url=url, folder=folder)
                saying.begin("validating", "Comparing what arrived with what was restored.")
                counts = _compare(url, new_url)
                if owner:
                    left += ensure_stands_in(new_url, place_of=restore.environment.database, owner=owner)
                if restore.is_neutralised and is_odoo:
                    _assert_neutralised(new_url)
    sentence = (
        f"“{restore.target_database}” holds {counts[0]:,} tables with {counts[1]:,} rows as of "
        f"{moment(restore.target_at)}{files}."
    )
    return " ".join([sentence, *restored.left_out, *left])


def _mark_of(restore: Restore) -> str:
    return f"{MARKED}{run_id_of(restore)}"


def _check_wanted(restore: Restore) -> None:
    """Raise `Hindered` where it was given up meanwhile: what it made is marked yet, and the next clears it."""
    restore.refresh_from_db(fields=["state"])
    if restore.state in GIVEN_UP:
        raise Hindered("It was given up before it was done.")


def _owner_in_use(target: str, restore: Restore) -> str:
    """Return who owns the database that runs now: the new one takes its place, and Odoo must find it its own."""
    name = restore.environment.database
    with connected(target) as connection:
        found = connection.execute(
            "SELECT pg_get_userbyid(datdba), pg_has_role(current_user, datdba, 'MEMBER') FROM pg_database "
            "WHERE datname = %s",
            [name],
        ).fetchone()
    if found is None:
        raise Hindered(f"“{name}”, which runs now, is not on that server: a cut-over needs both beside each other.")
    owner, may_become = str(found[0]), bool(found[1])
    if not may_become:
        raise Hindered(f"The role that restores is no member of “{owner}”, which owns “{name}”: grant it that.")
    return owner


@contextmanager
def _brought_back(order: Mapping[str, Any], restore: Restore, *, bench: Bench, sandbox: Sandbox) -> Iterator[Server]:
    """Hand out the server as of the time: one that an operator recovered, or our own in the sandbox."""
    saying = bench.saying
    if recovery := order.get("recovery"):
        saying.begin("restoring", "Reaching the recovered cluster.")
        yield recovered_server(restore.point, recovery)
        return
    with _reading(restore):
        stored = stored_of(bench)
    saying.begin("restoring", "Fetching the copy.", total_bytes=restore.size)
    database = database_at(restore.environment, restore.target_at)
    with _reading(restore):
        server = stored.start(sandbox, at=restore.target_at, database=database)
    with server as restored:
        yield server_at(
            restored.url,
            version=stored.server_version,
            programs=stored.programs,
            left_out=restored.facts.left_out,
        )


@contextmanager
def _reading(restore: Restore) -> Iterator[None]:
    """Say besides what is wrong with a backup up to when there is a way back without it.

    Of WAL that is wrong nothing is said: other points lead through it, too. No more than of attachments, whose packs
    all copies share.
    """
    try:
        yield
    except FaultInWal:
        raise
    except Permanent as wrong:
        # The sandbox's server says so of our own disk.
        if SAFE in wrong.reason or NO_ROOM in wrong.reason:
            raise
        key = wrong.label if isinstance(wrong, FaultIn) else restore.point.key
        safe = last_safe_without(restore.point.environment, key, before=restore.target_at)
        words = f"{SAFE} by another point is {moment(safe)}." if safe else "No other point leads back there."
        raise Permanent(f"{wrong.reason} {words}") from None


@contextmanager
def _new_database(target: str, *, name: str, mark: str, run_id: str, owner: str = "") -> Iterator[str]:
    """Make the new database, marked as ours; what fails removes it, and only it. `owner` empty: whoever makes it.

    It gets its name once it is marked. Until then it is called after the run: one that is killed takes nobody's name.
    """
    clear_databases(target)
    check_free(target, name=name, mark=mark)
    unmarked = f"{UNMARKED}{run_id}"
    # Of an attempt that was killed.
    drop_idle(target, name=name, mark=mark)
    drop_unmarked(target, unmarked)
    try:
        with connected(target) as connection:
            owned = sql.SQL("OWNER {}").format(sql.Identifier(owner)) if owner else sql.SQL("")
            made = sql.Identifier(unmarked)
            connection.execute(sql.SQL("CREATE DATABASE {} {} TEMPLATE template0 ENCODING 'UTF8'").format(made, owned))
            connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(made, sql.Literal(mark)))
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(made, sql.Identifier(name)))
        yield doors.url_of(target, database=name)
    except BaseException:
        drop_marked(target, name=name, mark=mark)
        drop_unmarked(target, unmarked)
        raise


def _move(url: str, new_url: str, *, programs: Programs, sandbox: Sandbox, owner: str) -> list[str]:
    """Carry a database from the sandbox to another server, in parallel, through a folder of the sandbox.

    Rights come along where `owner` is named, for its server has the same roles; return which could not.
    """
    _check_roles(url, new_url)
    folder = sandbox.folder / "moving"
    run_program(
        [
            programs.path("pg_dump"),
            "--format=directory",
            f"--file={folder}",
            JOBS,
            # Before 16 it knows gzip alone, by its level.
            f"--compress={'zstd:1' if programs.major >= ZSTD_FROM else '1'}",
            "--no-password",
            *WITHOUT_LINKS,
        ],
        environment=connection_environment(url),
        seconds=MOVE_SECONDS,
    )
    run_program(
        [
            *(programs.path("pg_restore"), "--no-owner", "--no-privileges", "--exit-on-error", JOBS, "--no-password"),
            *((f"--role={owner}",) if owner else ()),
            *("--dbname=" + connection_environment(new_url)["PGDATABASE"], folder),
        ],
        environment=connection_environment(new_url),
        seconds=MOVE_SECONDS,
    )
    return ensure_granted(new_url, source=url, owner=owner) if owner else []


def _check_roles(url: str, new_url: str) -> None:
    """Raise `Hindered` before hours of work where a role that the database names is not on the other server."""
    with connected(url) as connection:
        named = {str(name) for (name,) in connection.execute(NAMED_ROLES)}
    with connected(new_url) as connection:
        missing = sorted(named - {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_roles")})
    if missing:
        names = " and no ".join(f"“{name}”" for name in missing)
        raise Hindered(
            f"The server for restored databases has no role {names}, which a policy or a user mapping of the database "
            "names: make it there, NOLOGIN is enough, and begin again."
        )


def _restore_attachments(restore: Restore, bench: Bench, *, url: str, folder: Path | None) -> str:
    """Bring the attachments that go with the time into a new folder; return what to say of them."""
    copy = copy_for(restore.point, restore.target_at)
    if copy is None:
        return ", without attachments: another tool made the point" if bench.policy.engine == Engine.EXTERNAL else ""
    if folder is None:
        raise Permanent("The backup policy names no folder for restored attachments.")
    bench.saying.say("Bringing back attachments.", total_bytes=copy.byte_count)
    read = attachments.archive_of(bench.policy, bench.store).ensure_restored(
        attachments.point_of(copy), target=folder, identity=bench.identities[0]
    )
    if read.findings:
        raise Permanent(" ".join(one.sentence for one in read.findings[:3]))
    # What the shop itself had lost, or its garbage collection removed since, is no reason to bring nothing back.
    named = (one.name for one in observe_attachments(url)) if observe_odoo(url) is not None else ()
    lost = sorted({name for name in named if not (folder / name).is_file()})
    if not lost:
        return f", and {counted(read.file_count, 'attachment')}"
    return f", and {counted(read.file_count, 'attachment')}, but not {len(lost):,} that it names, such as {lost[0]}"


@contextmanager
def _new_folder(restore: Restore) -> Iterator[Path | None]:
    """Hand out a folder that carries the run's id, and give it its name at the end; what fails removes it alone.

    It is marked by then: what an attempt had put there that was killed before it was recorded is begun anew, too.
    Raises `Hindered` at once where the name is in use, and not after hours.
    """
    if not restore.target_filestore:
        yield None
        return
    final = doors.folder_at(restore.target_filestore)
    clear_folders(final.parent, own=restore)
    if final.is_dir() and any(final.iterdir()):
        raise Hindered(f"The folder {final} is not empty, and attachments are restored into an empty one only.")
    folder = final.with_name(f".{final.name}.{run_id_of(restore)}")
    # Of an attempt that was killed.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
        if folder.is_dir():
            _give_name(folder, final, run_id=run_id_of(restore))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give_name(folder: Path, final: Path, *, run_id: str) -> None:
    try:
        (folder / attachments.MARK).write_text(run_id)
        folder.rename(final)
    except OSError as error:
        raise Permanent(f"The attachments are restored and cannot be put at {final}: {error.strerror}.") from None


def _compare(url: str, new_url: str) -> tuple[int, int]:
    """Hold the new database against the restored one: as many tables, as many rows in all of them."""
    found = []
    for address in (url, new_url):
        with connected(address) as connection:
            found.append(tuple(int(count) for count in one_row(connection, COUNTED)))
    if found[0] != found[1]:
        raise Permanent(
            f"The new database has {found[1][0]:,} tables with {found[1][1]:,} rows, and {found[0][0]:,} with "
            f"{found[0][1]:,} were restored."
        )
    return found[0][0], found[0][1]


def _assert_neutralised(url: str) -> None:
    if findings := observe_neutralised(url):
        raise Permanent(" ".join(one.sentence for one in findings[:3]))


def place_copy(
    url: str, *, dumping_url: str, target: str, name: str, mark: str, programs: Programs, sandbox: Sandbox
) -> tuple[int, int]:
    """Move a database of the sandbox into a new one on another server, marked as ours, and compare it.

    It is compared by `url`, and dumped by `dumping_url`, its superuser's.

    Return how many tables and rows it has; what fails leaves none. One of that name that is not ours stays as it is.
    """
    with _new_database(target, name=name, mark=mark, run_id=sandbox.run_id) as new_url:
        _move(dumping_url, new_url, programs=programs, sandbox=sandbox, owner="")
        counts = _compare(url, new_url)
        if observe_odoo(new_url) is not None:
            _assert_neutralised(new_url)
    return counts


def check_free(target: str, *, name: str, mark: str) -> None:
    """Raise `Permanent` where a server has a database of this name that does not carry the mark."""
    with connected(target) as connection:
        found = connection.execute(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = %s", [name]
        ).fetchone()
    if found is not None and found[0] != mark:
        raise Permanent(f"There is a database “{name}” on that server already, and it stays as it is.")


def ensure_no_copy(target: str, *, name: str, mark: str, run_id: str) -> None:
    """Drop the database of this name if it carries the mark, and what the run had begun to make."""
    drop_marked(target, name=name, mark=mark)
    drop_unmarked(target, f"{UNMARKED}{run_id}")
