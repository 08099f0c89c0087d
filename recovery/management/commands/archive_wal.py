"""`manage.py archive_wal`: ships the WAL of every environment whose policy wants it, as it is written, till stopped.

Where an operator archives the WAL, it writes sentinels alone. Each minute it asks whether the environment's database is
there: its server goes on writing WAL without it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.errors import Hindered, Permanent, Transient
from changecontrol.processes import end_with_parent
from changecontrol.workflow import engine
from recovery import doors
from recovery.actions.alarms import note_database
from recovery.actions.slots import is_too_much
from recovery.actions.wal import NewSegment, record_segment
from recovery.adapters.postgres.archiving import Shipped, WalArchiver
from recovery.adapters.postgres.programs import find_programs, observe_server
from recovery.adapters.postgres.sentinel import ensure_sentinel, observe_database
from recovery.adapters.postgres.wal import observe_archive, stretches_of
from recovery.jobs.slots import Place, SlotWatch, drop_slot, note_places, observe, places, servers_of
from recovery.models import BackupPolicy
from recovery.models.policy import Engine
from recovery.ports.postgres import WalStretch
from recovery.queries.cut_overs import databases_in_turn

LOOK_SECONDS = 5.0
AGAIN_SECONDS = 10.0
"""How long an archiver that ended is left alone before it is started again."""
RECORD_SECONDS = 5.0
LOOK_AT_DATABASE_SECONDS = 60.0
STOP_SECONDS = 40.0

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Receive the WAL of the environments with a policy, and ship it compressed and encrypted, until stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--policy", type=int, help="archive for this policy alone, in this process")
        parser.add_argument(
            "--drop-slot",
            metavar="TENANT/ENVIRONMENT",
            help="let the WAL go on servers that no policy in force archives any more",
        )

    def handle(self, *_: Any, policy: int | None, drop_slot: str | None, **__: Any) -> None:
        clock.set_offset(engine.database_offset())
        stop = threading.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stop.set())
        try:
            if drop_slot is not None:
                self._drop_slot(drop_slot)
            elif policy is not None:
                _keep(BackupPolicy.objects.select_related("environment__tenant").get(pk=policy), until=stop)
            else:
                supervise(until=stop)
        except (Permanent, Transient, Hindered) as error:
            raise CommandError(error.reason) from None

    def _drop_slot(self, name: str) -> None:
        found = servers_of(name)
        if not found:
            raise Permanent(f"No environment “{name}” has a backup policy that archives WAL, or had one.")
        for version in drop_slot(found):
            self.stdout.write(f"There is no slot of {name} on the server of policy version {version} any more.")


def supervise(*, until: threading.Event) -> None:
    """Have one process for each policy that wants WAL archived; one whose policy was replaced ends."""
    children: dict[int, subprocess.Popen[bytes]] = {}
    watch = SlotWatch()
    ended_at: dict[int, float] = {}
    try:
        while not until.is_set():
            wanted = _wanted(set(children))
            for pk in [pk for pk in children if pk not in wanted or children[pk].poll() is not None]:
                child = children.pop(pk)
                if child.poll() is None:
                    _end(child)
                elif pk in wanted:
                    log.error("wal.archiver_ended", policy=pk, code=child.returncode)
                ended_at[pk] = time.monotonic()
            for pk in wanted - children.keys():
                if time.monotonic() - ended_at.get(pk, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                    children[pk] = _started(pk)
            _watch_slots(watch)
            until.wait(LOOK_SECONDS)
    finally:
        watch.stop()
        for child in children.values():
            child.terminate()
        for child in children.values():
            _end(child)


def archive(policy: BackupPolicy, *, until: threading.Event) -> None:
    """Archive the WAL of one policy's server until told to stop, and tell the catalogue what the store holds."""
    environment = policy.environment
    prefix = doors.prefix_of(environment)
    url = doors.read_secret(policy.source, what="database to back up")
    keeper = Keeper(policy, url=url)
    # First of all: without the database that the reference leads to, nothing below is ever reached.
    keeper.look_at_database()
    server = observe_server(url)
    store = doors.open_store(policy)
    found = stretches_of(
        observe_archive(
            store, prefix=prefix, system_identifier=server.system_identifier, segment_bytes=server.segment_bytes
        )
    )
    # Before the slot is made anew: what the server gave up meanwhile would be seen by nobody.
    note_places([(Place(policy, is_wanted=True), observe(policy))], at=clock.now())
    for one in found:
        keeper.record(one)
    archiver = WalArchiver(
        url=url,
        slot=doors.slot_of(environment),
        programs=find_programs(major=server.major, folders=doors.programs_folders()),
        store=store,
        prefix=prefix,
        folder=Path(settings.WAL_FOLDERS) / str(environment.pk),
        recipients=policy.recipients,
        stretch=found[-1] if found else None,
        heartbeat=timedelta(seconds=policy.wal_seconds or 30),
    )
    archiver.run(until=until, report=keeper.note)


def write_sentinels(policy: BackupPolicy, *, until: threading.Event) -> None:
    """Write the sentinels of a policy whose WAL an operator archives, until told to stop."""
    keeper = Keeper(policy, url=doors.read_secret(policy.source, what="database to write sentinels into"))
    while True:
        keeper.look_at_database()
        if until.wait(LOOK_SECONDS):
            return


def _keep(policy: BackupPolicy, *, until: threading.Event) -> None:
    work = write_sentinels if policy.engine == Engine.CLOUDNATIVEPG else archive
    work(policy, until=until)


@dataclass
class Keeper:
    """Says in the log and in the catalogue what an archiver did, and how the environment's database is.

    Where the policy wants sentinels, it writes them.
    """

    policy: BackupPolicy
    url: str = field(repr=False)
    _recorded_at: float = 0.0
    _recorded: WalStretch | None = None
    _looked_at: float = 0.0
    _databases: list[str] = field(default_factory=list)

    def note(self, round_: Shipped | Transient) -> None:
        tell(round_)
        self.look_at_database()
        if isinstance(round_, Shipped) and round_.stretch and time.monotonic() - self._recorded_at >= RECORD_SECONDS:
            self.record(round_.stretch)

    def record(self, found: WalStretch) -> None:
        """Record what the store holds. A database that is away costs nothing: the next round tells more.

        What was told once is not told again: what the store has lost of it since would be promised anew.
        """
        try:
            record_segment(
                environment=self.policy.environment,
                segment=_segment(_after(found, self._recorded), store=self.policy.store),
                actor=system_actor(),
                at=clock.now(),
            )
            self._recorded_at, self._recorded = time.monotonic(), found
        except engine.DATABASE_LOST as trouble:
            log.warning("wal.not_recorded", problem=type(trouble).__name__)
            engine.mend_connection()

    def look_at_database(self) -> None:
        """Ask each minute whether the environment's database is there, by a sentinel where the policy wants them."""
        if time.monotonic() - self._looked_at < LOOK_AT_DATABASE_SECONDS:
            return
        self._looked_at = time.monotonic()
        self._look_at_environment()
        in_use = self.policy.environment.database
        troubles = {one: self._trouble_of(one) for one in self._databases if one}
        try:
            # Of two between which nobody knows which stays, the other one may go.
            note_database(self.policy.environment, trouble=troubles.get(in_use, ""), at=clock.now())
        except engine.DATABASE_LOST as trouble:
            log.warning("database.not_noted", problem=type(trouble).__name__)
            engine.mend_connection()

    def _trouble_of(self, database: str) -> str:
        """Return what is wrong with a database, in a sentence that names it; empty where all is well."""
        ask = ensure_sentinel if self.policy.has_sentinel else observe_database
        try:
            ask(doors.url_of(self.url, database=database))
        except (Permanent, Transient) as problem:
            event = "sentinel.not_written" if self.policy.has_sentinel else "database.not_reached"
            log.error(event, database=database, reason=problem.reason)
            return f"{database}: {problem.reason.removesuffix('.')}."
        return ""

    def _look_at_environment(self) -> None:
        """Read which databases are in use now: a cut-over changes that. While ours is away it stays as it was known."""
        environment = self.policy.environment
        self._databases = self._databases or [environment.database]
        try:
            environment.refresh_from_db(fields=["database"])
            self._databases = databases_in_turn(environment)
        except engine.DATABASE_LOST as trouble:
            log.warning("environment.not_read", problem=type(trouble).__name__)
            engine.mend_connection()


def tell(round_: Shipped | Transient) -> None:
    """Write one line for a round that did something, or could not."""
    if isinstance(round_, Transient):
        log.warning("wal.waiting", reason=round_.reason)
        return
    slot = round_.slot
    facts = {
        "retained_bytes": slot.retained_bytes,
        "limit_bytes": slot.limit_bytes,
        "backlog_bytes": round_.backlog_bytes,
        "reached_at": round_.reached_at.isoformat() if round_.reached_at else None,
    }
    if is_too_much(slot):
        log.error("wal.retained", **facts)
    elif round_.finished_count or round_.piece_count:
        log.info("wal.shipped", finished=round_.finished_count, pieces=round_.piece_count, **facts)


def _wanted(running: set[int]) -> set[int]:
    """Return the policies that want WAL archived, or sentinels alone; without our database, those that run already."""
    try:
        rows = BackupPolicy.objects.active().filter(engine=Engine.CLOUDNATIVEPG, has_sentinel=True).exclude(source="")
        return {one.policy.pk for one in places() if one.is_wanted} | set(rows.values_list("pk", flat=True))
    except engine.DATABASE_LOST as trouble:
        log.error("database.lost", problem=type(trouble).__name__)
        engine.mend_connection()
        return running


def _watch_slots(watch: SlotWatch) -> None:
    try:
        watch.go_on()
    except engine.DATABASE_LOST as trouble:
        log.error("database.lost", problem=type(trouble).__name__)
        engine.mend_connection()


def _after(found: WalStretch, before: WalStretch | None) -> WalStretch:
    """Return what a stretch has that was not recorded before; where nothing has come, its last byte."""
    if before is None or before.timeline != found.timeline or not found.start <= before.end <= found.end:
        return found
    return replace(found, start=min(before.end, found.end - 1))


def _segment(found: WalStretch, *, store: str) -> NewSegment:
    return NewSegment(
        system_identifier=found.system_identifier,
        timeline=found.timeline,
        start_lsn=found.start,
        end_lsn=found.end,
        ends_at=found.reached_at,
        key=found.key,
        size=found.size,
        sha256=found.sha256,
        store=store,
        parent=found.parent,
        forked_lsn=found.forked_at,
    )


def _started(pk: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, sys.argv[0], "archive_wal", f"--policy={pk}"], preexec_fn=end_with_parent(signal.SIGTERM)
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
