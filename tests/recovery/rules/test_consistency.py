from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recovery.rules.consistency import (
    DatabasePart,
    FilestorePart,
    Mismatch,
    Origin,
    RecoverySet,
    WalPart,
    check_set,
)

AT = datetime(2026, 11, 23, 2, tzinfo=UTC)
OWN = Origin("northwind/production", "p1")
KITE = Origin("kite/production", "p1")
DATABASE = DatabasePart(OWN, "71", 1, 100, 200, AT, "a" * 64)
FILESTORE = FilestorePart(OWN, AT + timedelta(minutes=1), "b" * 64)
WAL = WalPart("northwind/production", "71", 1, 90, 900)
DECLARED = RecoverySet(DATABASE, FILESTORE, "c" * 40, "sha256:d", (("base", "19.0.1"), ("sale", "19.0.2")), WAL)


def test_a_whole_set_has_no_mismatch() -> None:
    assert check_set(DECLARED, found=DECLARED, origin=OWN) == ()
    assert check_set(replace(DECLARED, filestore=None), found=replace(DECLARED, filestore=None), origin=OWN) == ()


@pytest.mark.parametrize(
    ("found", "part", "sentence"),
    [
        ({"database": None}, "database", "The database backup is missing."),
        (
            {"database": replace(DATABASE, origin=KITE)}, "database",
            "The database is of kite/production, not of northwind/production.",
        ),
        (
            {"database": replace(DATABASE, origin=replace(OWN, point="p0"))}, "database",
            "The database is of point p0, not of p1.",
        ),
        (
            {"database": replace(DATABASE, sha256="e" * 64)}, "database",
            "The database backup is not the one that was recorded: its hash differs.",
        ),
        (
            {"database": replace(DATABASE, stop_lsn=201)}, "database",
            "The database backup is of another WAL position than was recorded.",
        ),
        ({"filestore": None}, "filestore", "The filestore's manifest is missing."),
        (
            {"filestore": replace(FILESTORE, origin=KITE)}, "filestore",
            "The filestore is of kite/production, not of northwind/production.",
        ),
        (
            {"filestore": replace(FILESTORE, sha256="e" * 64)}, "filestore",
            "The filestore's manifest is not the one that was recorded: its hash differs.",
        ),
        (
            {"filestore": replace(FILESTORE, copied_at=AT - timedelta(hours=1))}, "filestore",
            "The filestore was copied at 23 Nov 2026 01:00:00 UTC, before the database's snapshot of "
            "23 Nov 2026 02:00:00 UTC: attachments may be missing.",
        ),
        ({"commit": "e" * 40}, "Git commit", f"The Git commit is {'e' * 40}, and the point was made with {'c' * 40}."),
        ({"image": ""}, "image", "The image is not known, and the point was made with sha256:d."),
        ({"modules": (("base", "19.0.1"),)}, "modules", "These modules are missing: sale."),
        (
            {"modules": (*DECLARED.modules, ("spy", "1"), ("web", "1"))}, "modules",
            "These modules were not there: spy, web.",
        ),
        (
            {"modules": (("base", "19.0.1"), ("sale", "20.0"))}, "modules",
            "Module sale is at 20.0, and was at 19.0.2.",
        ),
        (
            {"wal": replace(WAL, environment="kite/production")}, "WAL",
            "The WAL is of kite/production, not of northwind/production.",
        ),
        ({"wal": replace(WAL, system_identifier="72")}, "WAL", "The WAL is of server 72, not of 71."),
        (
            {"database": replace(DATABASE, timeline=2)}, "WAL",
            "The WAL is of timeline 1, older than the backup's 2.",
        ),
        (
            {"wal": replace(WAL, end_lsn=150)}, "WAL",
            "The WAL does not reach from the start of the database backup to its end.",
        ),
    ],
)  # fmt: skip
def test_each_part_that_does_not_belong_is_named(found: dict[str, Any], part: str, sentence: str) -> None:  # BCK-2
    assert Mismatch(part, sentence) in check_set(DECLARED, found=replace(DECLARED, **found), origin=OWN)


def test_every_part_of_another_tenants_set_is_named() -> None:  # BCK-2
    swapped = RecoverySet(
        replace(DATABASE, origin=KITE, system_identifier="72"),
        replace(FILESTORE, origin=KITE),
        "e" * 40,
        "sha256:f",
        (),
        replace(WAL, environment="kite/production", system_identifier="72"),
    )

    parts = {one.part for one in check_set(DECLARED, found=swapped, origin=OWN)}

    assert parts == {"database", "WAL", "filestore", "Git commit", "image", "modules"}


def test_a_filestore_nobody_recorded_is_named() -> None:
    found = check_set(replace(DECLARED, filestore=None), found=DECLARED, origin=OWN)

    assert found == (Mismatch("filestore", "No filestore was recorded."),)
