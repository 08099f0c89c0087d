"""The engine `external`: a backup that another tool made and registered is drilled and brought back like any other."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from changecontrol import clock
from changecontrol.errors import Invalid
from changecontrol.models import User
from changecontrol.processes import unprivileged_account
from changecontrol.project.local.distribution import shared_folder
from recovery import doors
from recovery.actions.drills import drill_point, start_drill
from recovery.actions.points import NewPart, NewPoint, register_point
from recovery.adapters.encryption import EncryptingWriter, make_key_pair
from recovery.models import BackupPolicy, Drill, RecoveryPoint
from recovery.models.drill import Sabotage
from recovery.models.policy import Engine
from recovery.queries.freshness import freshness_of
from recovery.workflows.drill import DrillRun
from tests.factories.estate import actor
from tests.factories.recovery import recovery_owner
from tests.recovery.workflows.conftest import DATABASE, OWNER, Shop
from tests.recovery.workflows.test_drill import answers, drilled
from tests.recovery.workflows.test_restore import asked, databases, over, rows

pytestmark = pytest.mark.slow

BELOW = "northwind/production"
STREAMING = "SELECT 1 FROM pg_stat_progress_basebackup WHERE phase = 'streaming database files'"


@pytest.fixture
def elsewhere(dumped: Shop) -> Shop:
    """The shop, whose database another tool backs up from now on."""
    words = {"source": "", "recipients": [], "filestore": "", "restore_filestore": "", "has_sentinel": False}
    BackupPolicy.objects.update(engine=Engine.EXTERNAL, **words)
    dumped.policy.refresh_from_db()
    return dumped


@pytest.fixture
def rio(elsewhere: Shop) -> User:
    return recovery_owner(elsewhere.estate)


def written(shop: Shop, *command: str) -> bytes:
    """Return what a program of PostgreSQL writes of the shop."""
    program = str(shop.server.tool(command[0]))
    url = doors.url_of(shop.server.superuser_url, database=DATABASE)
    return subprocess.run([program, f"--dbname={url}", *command[1:]], check=True, capture_output=True).stdout


def dump_of(shop: Shop) -> bytes:
    return written(shop, "pg_dump", "--format=custom")


def base_of(shop: Shop, folder: Path) -> tuple[bytes, bytes]:
    """Return a base backup as one tar, and its manifest."""
    written(shop, "pg_basebackup", "--format=tar", "--wal-method=fetch", "--checkpoint=fast", f"--pgdata={folder}")
    return (folder / "base.tar").read_bytes(), (folder / "backup_manifest").read_bytes()


def encrypted(data: bytes, *, recipient: str = OWNER.recipient) -> bytes:
    sink = io.BytesIO()
    with EncryptingWriter(sink, recipients=[recipient]) as writer:
        writer.write(data)
    return sink.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd, then age": lambda data: encrypted(zstandard.compress(data)),
}


def registered(
    shop: Shop, rio: User, *, at: datetime, files: dict[str, bytes], kind: str = "dump", **words: Any
) -> RecoveryPoint:
    """Put the files of a point where another tool keeps them, and register it. The key of a file is its kind, too."""
    parts = []
    for name, data in files.items():
        path = shop.objects / BELOW / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        parts.append(NewPart(name.partition(".")[0], f"theirs/{name}", len(data), digest, at, at))
    facts: dict[str, Any] = {"system_identifier": "", "server_version": "PostgreSQL 17.2 (Debian)", **words}
    point = NewPoint(
        key="theirs", kind=kind, started_at=at, consistent_at=at, finished_at=at, store="", parts=tuple(parts), **facts
    )
    return register_point(actor=actor(rio), environment_id=shop.estate.production.pk, point=point, at=clock.now())


@pytest.mark.parametrize("packed", PACKED)
def test_a_dump_of_another_tool_is_drilled_and_verified(elsewhere: Shop, rio: User, packed: str) -> None:
    elsewhere.sell()
    at = elsewhere.now()
    files = {"database.dump": PACKED[packed](dump_of(elsewhere)), "evidence.txt": b"pg_dump: done"}
    point = registered(elsewhere, rio, at=at, files=files)
    elsewhere.sell()

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, drill.leftovers, wrong) == ("passed", "", "", [])
    names = ("Dump", "Restored and started", "Structure and every row", "Database of the environment", "Newest orders")
    assert answers(drill) == dict.fromkeys(names, True)
    assert drill.checks.get(name="Dump").sentence == (
        "2 files of another tool, each with the digest it was registered with."
    )
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 2)
    assert freshness_of(elsewhere.estate.production, clock.now()).level == 2
    assert elsewhere.left_over() == []


def test_a_cadence_begins_a_drill_of_what_another_tool_registered(elsewhere: Shop, rio: User) -> None:
    # An attachments folder of the policy is none of what the tool registers.
    BackupPolicy.objects.update(filestore="file:///srv/filestore")
    elsewhere.sell()
    at = elsewhere.now()
    DrillRun().find(clock.now())
    point = registered(elsewhere, rio, at=at, files={"database.dump": dump_of(elsewhere)})

    for _ in range(2):
        DrillRun().find(clock.now())

    drill = Drill.objects.get()
    assert (drill.asked_by, drill.level, drill.point, drill.target_at) == (None, 2, point, at)
    elsewhere.work(lambda: Drill.objects.filter(state="passed").exists())


def test_a_base_backup_of_another_tool_is_held_against_its_manifest_and_drilled(
    elsewhere: Shop, rio: User, tmp_path: Path
) -> None:
    name, _ = elsewhere.sell()
    at = elsewhere.now()
    tar, manifest = base_of(elsewhere, tmp_path / "taken")
    files = {"database.tar": zstandard.compress(tar), "database_manifest": manifest}
    point = registered(elsewhere, rio, at=at, files=files, kind="base")

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    assert drill.state == "passed", (drill.sentence, list(drill.checks.values_list("sentence", flat=True)))
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 2)
    restore = over(elsewhere, asked(elsewhere, rio, target_at=at))
    assert restore.state == "succeeded", restore.sentence
    assert rows(elsewhere, "northwind_yesterday", "SELECT name FROM sale_order") == [name]
    assert rows(elsewhere, "northwind_yesterday", "SELECT active FROM ir_mail_server WHERE smtp_pass IS NOT NULL") == []
    assert elsewhere.left_over() == []


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, " bytes, and was registered with "),
        (longer, " bytes, and was registered with "),
        (flipped, "is not what was registered: its digest is another."),
        (Path.unlink, "is missing from the store."),
    ],
    ids=["truncated", "longer", "flipped", "missing"],
)
@pytest.mark.parametrize("name", ["database.dump", "evidence.txt"])
def test_damage_is_named_and_never_called_verified(
    elsewhere: Shop, rio: User, damage: Callable[[Path], object], words: str, name: str
) -> None:
    at = elsewhere.now()
    files = {"database.dump": dump_of(elsewhere), "evidence.txt": b"pg_dump: done"}
    point = registered(elsewhere, rio, at=at, files=files)
    damage(elsewhere.objects / BELOW / "theirs" / name)

    drill = drilled(elsewhere, rio, level=1, target_at=at)

    assert drill.state == "failed"
    (check,) = drill.checks.all()
    assert check.sentence.startswith(f"{BELOW}/theirs/{name} ")
    assert words in check.sentence
    point.refresh_from_db()
    assert point.state == "broken"


@pytest.mark.parametrize("sabotage", list(Sabotage))
def test_sabotage_of_a_copy_is_caught(elsewhere: Shop, rio: User, sabotage: str) -> None:  # BCK-9
    at = elsewhere.now()
    files = {"database.dump": dump_of(elsewhere), "evidence.txt": b"pg_dump: done"}
    point = registered(elsewhere, rio, at=at, files=files)

    drill = drilled(elsewhere, rio, level=2, target_at=at, sabotage=sabotage)

    assert drill.state == "passed", drill.sentence
    point.refresh_from_db()
    assert point.state == "copied"


def tar_of(names: dict[str, str]) -> bytes:
    """Return a tar of files with a line each; an arrow makes it a link, and a double one a hard link."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, text in names.items():
            entry = tarfile.TarInfo(name)
            if text.startswith("->"):
                entry.type, entry.linkname = tarfile.SYMTYPE, text[2:]
            elif text.startswith("=>"):
                entry.type, entry.linkname = tarfile.LNKTYPE, text[2:]
            entry.size = len(text) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(text.encode()))
    return sink.getvalue()


SEGMENT = "pg_wal/000000010000000000000001"
UNTRIED: dict[str, tuple[Callable[[Shop], bytes], dict[str, Any], str]] = {
    "no format of ours": (lambda shop: b"BORG_SEG" * 200, {}, "neither a dump in pg_dump's custom format nor a tar"),
    "another key": (
        lambda shop: encrypted(dump_of(shop), recipient=make_key_pair().recipient),
        {},
        "is not opened by the identity of the backup policy.",
    ),
    "no version": (dump_of, {"server_version": ""}, "register it with its server_version."),
    "programs that are not here": (dump_of, {"server_version": "99.1"}, "The programs of PostgreSQL 99"),
    "no data directory": (lambda shop: tar_of({"notes": "x"}), {"kind": "base"}, "has no data directory of PostgreSQL"),
    "a tablespace outside": (
        lambda shop: tar_of({"PG_VERSION": "17\n", "pg_wal/x": "x", "pg_tblspc/16400": "->/srv/shop"}),
        {"kind": "base"},
        "holds what is no plain file (pg_tblspc/16400)",
    ),
    "WAL outside": (
        lambda shop: tar_of({"PG_VERSION": "17\n", "pg_wal": "->/srv/wal"}),
        {"kind": "base"},
        "holds what is no plain file (pg_wal)",
    ),
    "a second name of a file": (
        lambda shop: tar_of({"PG_VERSION": "17\n", SEGMENT: "x", "copy": "=>PG_VERSION"}),
        {"kind": "base"},
        "holds what is no plain file",
    ),
    "a name above itself": (
        lambda shop: tar_of({"PG_VERSION": "17\n", SEGMENT: "x", "../x": "x"}),
        {"kind": "base"},
        "is not unpacked here.",
    ),
    "a version in words": (
        lambda shop: tar_of({"PG_VERSION": "seventeen\n", SEGMENT: "x"}),
        {"kind": "base"},
        "has no data directory of PostgreSQL",
    ),
    "a window too large": (
        lambda shop: b"\x28\xb5\x2f\xfd\x00\x90" + bytes(600),
        {},
        "is compressed with a window too large to be read here.",
    ),
}


@pytest.mark.parametrize("why", UNTRIED)
def test_what_cannot_be_tried_here_is_trouble_and_proves_nothing_of_the_point(
    elsewhere: Shop, rio: User, why: str
) -> None:
    made, words, sentence = UNTRIED[why]
    at = elsewhere.now()
    point = registered(elsewhere, rio, at=at, files={"database.bin": made(elsewhere)}, **words)

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    assert drill.state == "failed"
    assert sentence in drill.trouble_found
    point.refresh_from_db()
    assert point.state == "copied"
    assert elsewhere.left_over() == []


SIDEWAYS: dict[str, Callable[[Path], dict[str, str]]] = {
    "its version": lambda place: {"PG_VERSION": f"->{place}/secret"},
    "its manifest": lambda place: {"backup_manifest": f"->{place}/secret"},
    "its settings": lambda place: {"postgresql.auto.conf": f"->{place}/secret"},
    "a folder": lambda place: {"base": f"->{place}", "base/made": "x"},
    "a hard link": lambda place: {"copy": f"=>{place}/secret"},
    "a name above": lambda place: {f"{'../' * 20}{str(place)[1:]}/made": "x"},
}


@pytest.mark.parametrize("way", SIDEWAYS)
def test_a_tar_reads_and_writes_nothing_outside_of_its_sandbox(elsewhere: Shop, rio: User, way: str) -> None:
    place = elsewhere.objects.parent / "place"
    place.mkdir()
    place.chmod(0o777)
    secret = place / "secret"
    secret.write_text("AGE-SECRET-KEY-1")
    secret.chmod(0o600)
    before = secret.stat()
    at = elsewhere.now()
    tar = tar_of({"PG_VERSION": "17\n", SEGMENT: "x", **SIDEWAYS[way](place)})
    files = {"database.tar": tar, "database_manifest": b"{}"}
    point = registered(elsewhere, rio, at=at, files=files, kind="base")

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    assert (drill.state, list(answers(drill).values())) == ("failed", [True])
    assert "SECRET" not in drill.trouble_found
    after = secret.stat()
    assert [one.name for one in place.iterdir()] == ["secret"]
    assert (secret.read_text(), after.st_uid, after.st_mode) == ("AGE-SECRET-KEY-1", before.st_uid, before.st_mode)
    point.refresh_from_db()
    assert point.state == "copied"
    assert elsewhere.left_over() == []


def test_an_absolute_name_of_a_tar_lands_inside(elsewhere: Shop, rio: User) -> None:
    place = elsewhere.objects.parent / "place"
    place.mkdir()
    place.chmod(0o777)
    at = elsewhere.now()
    tar = tar_of({"PG_VERSION": "17\n", f"{place}/made": "x"})
    registered(elsewhere, rio, at=at, files={"database.tar": tar}, kind="base")

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    assert "has no WAL in its pg_wal" in drill.trouble_found
    assert list(place.iterdir()) == []


@contextmanager
def own_tablespace(shop: Shop) -> Iterator[Path]:
    """Give the shop's database a table in a tablespace of its own, and hand out the file in which its rows are."""
    place = shared_folder() / f"tablespace-{os.getpid()}"
    place.mkdir()
    if account := unprivileged_account():
        os.chown(place, account.uid, account.gid)
    url = doors.url_of(shop.server.superuser_url, database=DATABASE)
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(f"CREATE TABLESPACE apart LOCATION '{place}'")
            connection.execute("CREATE TABLE ledger (id int, words text) TABLESPACE apart")
            connection.execute("INSERT INTO ledger SELECT g, 'before' FROM generate_series(1, 100) g")
            row = connection.execute(
                "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('ledger')"
            ).fetchone()
            assert row is not None
            yield Path(row[0])
        finally:
            connection.execute("DROP TABLE IF EXISTS ledger")
            connection.execute("DROP TABLESPACE IF EXISTS apart")
            shutil.rmtree(place)


@pytest.mark.parametrize("with_manifest", [False, True], ids=["alone", "with its manifest"])
def test_a_base_backup_of_a_server_with_tablespaces_is_not_started(
    elsewhere: Shop, rio: User, tmp_path: Path, with_manifest: bool
) -> None:
    url = doors.url_of(elsewhere.server.superuser_url, database=DATABASE)
    command = [str(elsewhere.server.tool("pg_basebackup")), f"--dbname={url}", "--format=tar", "--wal-method=fetch"]
    with own_tablespace(elsewhere) as file, psycopg.connect(url, autocommit=True) as connection:
        with subprocess.Popen(
            [*command, "--checkpoint=fast", "--max-rate=8M", f"--pgdata={tmp_path / 'taken'}"]
        ) as taking:
            while not connection.execute(STREAMING).fetchone() and taking.poll() is None:
                time.sleep(0.02)
            connection.execute("UPDATE ledger SET words = 'during'")
        assert taking.returncode == 0
        at = elsewhere.now()
        connection.execute("UPDATE ledger SET words = 'after'")
        connection.execute("CHECKPOINT")
        before = file.read_bytes()
        files = {"database.tar": (tmp_path / "taken" / "base.tar").read_bytes()}
        if with_manifest:
            files["database_manifest"] = (tmp_path / "taken" / "backup_manifest").read_bytes()
        point = registered(elsewhere, rio, at=at, files=files, kind="base")

        drill = drilled(elsewhere, rio, level=2, target_at=at)

        assert file.read_bytes() == before
    assert drill.state == "failed"
    assert "is of a server with tablespaces: nothing here starts one." in drill.trouble_found
    point.refresh_from_db()
    assert point.state == "copied"
    assert elsewhere.left_over() == []


@pytest.mark.parametrize("with_manifest", [False, True], ids=["alone", "with its manifest"])
def test_a_base_backup_whose_wal_lies_beside_it_says_so_and_does_not_break(
    elsewhere: Shop, rio: User, tmp_path: Path, with_manifest: bool
) -> None:
    at = elsewhere.now()
    written(elsewhere, "pg_basebackup", "--format=tar", "--checkpoint=fast", f"--pgdata={tmp_path / 'taken'}")
    files = {"database.tar": (tmp_path / "taken" / "base.tar").read_bytes()}
    if with_manifest:
        files["database_manifest"] = (tmp_path / "taken" / "backup_manifest").read_bytes()
    point = registered(elsewhere, rio, at=at, files=files, kind="base")

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    assert drill.state == "failed"
    assert "has no WAL in its pg_wal: register it with its WAL in one tar." in drill.trouble_found
    point.refresh_from_db()
    assert point.state == "copied"


@pytest.mark.parametrize(
    "data",
    [b"\x1f\x8b" + b"x" * 600, b"\x1f\x8b", gzip.compress(b"PGDMP", mtime=0)[:12], b"\x28\xb5\x2f\xfd" + b"x" * 600],
    ids=["gzip of nothing", "two bytes", "gzip cut short", "zstd of nothing"],
)
def test_what_begins_as_compressed_and_is_not_breaks_its_point(elsewhere: Shop, rio: User, data: bytes) -> None:
    at = elsewhere.now()
    point = registered(elsewhere, rio, at=at, files={"database.bin": data})

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    assert drill.checks.get(is_passed=False).sentence.endswith(
        "is what was registered, and does not unpack: it ends within its compression or is none."
    )
    point.refresh_from_db()
    assert point.state == "broken"


def test_a_tar_that_is_not_as_its_manifest_says_breaks_its_point(elsewhere: Shop, rio: User, tmp_path: Path) -> None:
    at = elsewhere.now()
    _, manifest = base_of(elsewhere, tmp_path / "taken")
    elsewhere.sell()
    tar, _ = base_of(elsewhere, tmp_path / "again")
    point = registered(elsewhere, rio, at=at, files={"database.tar": tar, "database_manifest": manifest}, kind="base")

    drill = drilled(elsewhere, rio, level=2, target_at=at)

    assert drill.state == "failed"
    assert answers(drill) == {"Base backup": True, "Restored and started": False}
    assert "pg_verifybackup" in drill.checks.get(is_passed=False).sentence
    point.refresh_from_db()
    assert point.state == "broken"


def test_what_another_tool_made_is_drilled_up_to_level_2(elsewhere: Shop, rio: User) -> None:
    at = elsewhere.now()
    point = registered(elsewhere, rio, at=at, files={"database.dump": dump_of(elsewhere)})
    words: dict[str, Any] = {"actor": actor(rio), "at": clock.now(), "level": 3}

    with pytest.raises(Invalid, match="is drilled up to level 2"):
        start_drill(environment_id=elsewhere.estate.production.pk, target_at=at, **words)
    BackupPolicy.objects.update(is_active=False)
    values = {one.attname: getattr(elsewhere.policy, one.attname) for one in BackupPolicy._meta.concrete_fields}
    ours = {"engine": Engine.POSTGRES, "filestore": "file:///srv/filestore"}
    BackupPolicy.objects.create(**{**values, "id": None, "version": 2, "is_active": True, **ours})
    for begin in (
        lambda: drill_point(point_id=point.pk, **words),
        lambda: start_drill(environment_id=elsewhere.estate.production.pk, target_at=at, **words),
    ):
        with pytest.raises(Invalid, match="is drilled up to level 2"):
            begin()


def test_a_dump_of_another_tool_comes_back_beside_the_old(elsewhere: Shop, rio: User) -> None:
    name, _ = elsewhere.sell()
    at = elsewhere.now()
    registered(elsewhere, rio, at=at, files={"database.dump": dump_of(elsewhere)})
    # A folder of the policy is for points that attachments come with.
    BackupPolicy.objects.update(filestore="file:///srv/filestore", restore_filestore="file:///srv/restored")

    restore = over(elsewhere, asked(elsewhere, rio, target_at=at))

    assert restore.state == "succeeded", restore.sentence
    assert restore.sentence.endswith(", without attachments: another tool made the point.")
    assert restore.target_filestore == ""
    assert databases(elsewhere) == ["northwind", "northwind_yesterday"]
    assert rows(elsewhere, "northwind_yesterday", "SELECT name FROM sale_order") == [name]


def test_nothing_is_run_of_what_has_another_digest_than_was_registered(
    elsewhere: Shop, rio: User, tmp_path: Path
) -> None:
    elsewhere.sell()
    at = elsewhere.now()
    registered(elsewhere, rio, at=at, files={"database.dump": dump_of(elsewhere)})
    trace = shared_folder() / f"trace-{uuid.uuid4().hex[:6]}" if os.geteuid() == 0 else tmp_path / "trace"
    trace.mkdir()
    trace.chmod(0o777)
    with psycopg.connect(elsewhere.url, autocommit=True) as connection:
        # It runs as a row comes in, with the rights of the sandbox's server; far behind it the dump ends.
        connection.execute(
            "CREATE FUNCTION leave() RETURNS int VOLATILE LANGUAGE plpgsql AS "
            f"$$ BEGIN EXECUTE $q$COPY (SELECT 1) TO '{trace}/was_here'$q$; RETURN 1; END $$"
        )
        connection.execute(
            "CREATE FUNCTION is_fine(i int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN public.leave() = i; END $$"
        )
        connection.execute("CREATE TABLE aaa (i int CHECK (public.is_fine(i)))")
        connection.execute("CREATE TABLE zzz AS SELECT gen_random_uuid()::text AS t FROM generate_series(1, 700000)")
        connection.execute("INSERT INTO aaa VALUES (1)")
    for one in trace.iterdir():
        one.unlink()
    (elsewhere.objects / BELOW / "theirs" / "database.dump").write_bytes(dump_of(elsewhere))

    restore = over(elsewhere, asked(elsewhere, rio, target_at=at))

    assert (restore.state, list(trace.iterdir())) == ("failed", [])
    assert "and was registered with" in restore.sentence
    shutil.rmtree(trace)
