"""The engine `external`: a backup that another tool made and registered is drilled and brought back like any other."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard

from changecontrol import clock
from changecontrol.errors import Conflict, Invalid
from changecontrol.models import User
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
    """Return a tar of files with a line each, or of links where it begins with an arrow."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, text in names.items():
            entry = tarfile.TarInfo(name)
            if text.startswith("->"):
                entry.type, entry.linkname = tarfile.SYMTYPE, text[2:]
            entry.size = 0 if entry.issym() else len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return sink.getvalue()


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
        "names a folder outside of itself (16400)",
    ),
    "WAL outside": (
        lambda shop: tar_of({"PG_VERSION": "17\n", "pg_wal": "->/srv/wal"}),
        {"kind": "base"},
        "names a folder outside of itself (pg_wal)",
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
    with pytest.raises(Conflict, match="is drilled up to level 2"):
        drill_point(point_id=point.pk, **words)


def test_a_dump_of_another_tool_comes_back_beside_the_old(elsewhere: Shop, rio: User) -> None:
    name, _ = elsewhere.sell()
    at = elsewhere.now()
    registered(elsewhere, rio, at=at, files={"database.dump": dump_of(elsewhere)})

    restore = over(elsewhere, asked(elsewhere, rio, target_at=at))

    assert restore.state == "succeeded", restore.sentence
    assert databases(elsewhere) == ["northwind", "northwind_yesterday"]
    assert rows(elsewhere, "northwind_yesterday", "SELECT name FROM sale_order") == [name]
