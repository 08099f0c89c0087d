"""Point-in-time exactness, under writes: at any time that is covered, exactly what was committed before it."""

from __future__ import annotations

import random
import threading
import time
from datetime import datetime, timedelta

import psycopg
import pytest

from recovery.adapters.postgres.archiving import WalArchiver
from recovery.ports.postgres import BaseBackup
from tests.recovery.adapters.postgres.conftest import KEY, now_at, ship_until
from tests.recovery.proof.scene import ATTACHMENTS_A_SECOND, Fetched, Odoo, Pair, filestores, names_in, pair_for

pytestmark = pytest.mark.slow

RANDOM_TIMES = 30
LEAST_SHARE = 0.6
"""Of the pace at which attachments are to be written."""
COPIES = 8
SECONDS_BETWEEN_COPIES = 1.2


def shipping(archiver: WalArchiver, stopped: threading.Event) -> None:
    while not stopped.wait(0.3):
        archiver.ship()


def written_and_backed_up(odoo: Odoo, archiver: WalArchiver) -> tuple[BaseBackup, list[Pair], datetime]:
    """Write, and meanwhile archive, take one base backup and several copies of the filestore, and collect its files."""
    source = odoo.source
    stopped = threading.Event()
    archiving = threading.Thread(target=shipping, args=(archiver, stopped))
    archiving.start()
    pairs: list[Pair] = []
    try:
        with odoo.writing():
            time.sleep(1)
            base = source.back_up("middle")
            for number in range(COPIES):
                # What the copy before held, and whose row is deleted by now, is collected while this one reads.
                held_at = pairs[-1].began_at if pairs else None
                collector = threading.Thread(target=odoo.collect, kwargs={"held_at": held_at})
                collector.start()
                copied = odoo.copy(f"p{number}")
                collector.join()
                assert (copied.wrong, copied.unreadable) == ((), ()), copied
                pairs.append(Pair(copied.point.taken_at, copied.point))
                source.execute("SELECT pg_switch_wal()")
                time.sleep(SECONDS_BETWEEN_COPIES)
            ends_at = pairs[-1].began_at
    finally:
        stopped.set()
        archiving.join()
    ship_until(archiver, now_at(source))
    return base, pairs, ends_at


def chosen_times(
    base: BaseBackup, ends_at: datetime, *, commits: list[datetime], chance: random.Random
) -> list[datetime]:
    """Return random times, and those at which exactness is hardest: on a commit, a microsecond beside it, the ends."""
    span = ends_at - base.finished_at
    inside = [at for at in commits if base.finished_at < at < ends_at]
    on_commit = chance.choice(inside)
    return [
        *(base.finished_at + span * chance.random() for _ in range(RANDOM_TIMES)),
        base.finished_at,
        on_commit,
        on_commit - timedelta(microseconds=1),
        ends_at,
    ]


def test_every_time_holds_exactly_what_was_committed_before_it_and_every_attachment_has_its_file(
    odoo: Odoo, archiver: WalArchiver, chance: random.Random
) -> None:
    base, pairs, ends_at = written_and_backed_up(odoo, archiver)
    marks = odoo.marks()
    fetched = Fetched.of(odoo.source, base)
    archive = filestores(odoo.source)
    times = chosen_times(base, ends_at, commits=[at for _, at in marks], chance=chance)

    for at in times:
        with fetched.restored(at) as restored, psycopg.connect(restored.url) as connection:
            numbers = [number for (number,) in connection.execute("SELECT number FROM marks ORDER BY number")]
            names = names_in(connection)
        pair = pair_for(at, pairs=pairs)
        read = archive.observe_contents(pair.point, identity=KEY.identity, named=names)

        assert numbers == [number for number, committed_at in marks if committed_at <= at], at
        assert names == odoo.names_at(at), at
        assert (read.file_count, read.findings) == (len(names), ()), at

    written = [one.written_at for one in odoo.attachments.values()]
    a_second = len(written) / (max(written) - min(written)).total_seconds()
    # A busy machine falls behind; a writer that stood still while it was backed up does not pass.
    assert a_second > LEAST_SHARE * ATTACHMENTS_A_SECOND
    deleted = [one for one in odoo.attachments.values() if one.deleted_at is not None]
    assert len(times) == RANDOM_TIMES + 4
    assert len(deleted) > 50
    assert any(not (odoo.filestore / one.name).exists() for one in deleted)
