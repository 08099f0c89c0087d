from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recovery.adapters.postgres.archiving import WalArchiver, observe_slot
from recovery.adapters.postgres.programs import Programs
from recovery.adapters.postgres.wal import open_wal, segment_name
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at, ship_until

pytestmark = pytest.mark.slow


def slow_programs(source: Source, folder: Path, *, segment: str) -> Programs:
    """Return programs whose receiver makes the file of a segment, all zeros as it does at first, and then waits."""
    folder.mkdir()
    for path in source.programs.folder.iterdir():
        if path.name != "pg_receivewal":
            (folder / path.name).symlink_to(path)
    receiver = folder / "pg_receivewal"
    receiver.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != --directory ]; do shift; done\n'
        f'head -c 16777216 /dev/zero > "$2/{segment}.partial"\n'
        "exec sleep 60\n"
    )
    receiver.chmod(0o755)
    return replace(source.programs, folder=folder)


def test_nothing_is_shipped_that_the_receiver_at_work_has_not_received(
    source: Source, archiver: WalArchiver, tmp_path: Path
) -> None:
    source.execute("CREATE TABLE IF NOT EXISTS something AS SELECT 1")
    ship_until(archiver, now_at(source))
    archiver.stop()
    before = source.archive().objects
    last = max(one.end for one in before)
    size = source.archive().segment_bytes
    name = segment_name(timeline=before[0].timeline, start=last - last % size, segment_bytes=size)
    elsewhere = replace(
        source.archiver(), folder=tmp_path / "elsewhere", programs=slow_programs(source, tmp_path / "bin", segment=name)
    )

    elsewhere.start()
    try:
        while not list((tmp_path / "elsewhere").glob("*.partial")):
            pass
        shipped = elsewhere.ship()
    finally:
        elsewhere.stop()

    assert (shipped.piece_count, shipped.slot.received_lsn) == (0, 0)
    archive = source.archive()
    assert archive.objects == before
    for one in before:
        if one.end > one.start:
            assert open_wal(source.store, one, archive=archive, identities=[KEY.identity])


def test_the_slot_of_a_receiver_that_is_away_says_how_much_is_kept(source: Source, archiver: WalArchiver) -> None:
    ship_until(archiver, now_at(source))
    at_work = observe_slot(source.url, slot=source.slot)
    archiver.stop()
    source.execute("SELECT pg_switch_wal()")
    source.execute("DROP TABLE IF EXISTS something")

    away = observe_slot(source.url, slot=source.slot)

    assert at_work.received_lsn > 0
    assert (away.is_active, away.received_lsn) == (False, 0)
    assert away.retained_bytes > 0
