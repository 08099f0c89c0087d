"""`manage.py archive_wal`: archive the WAL of one server until stopped. Run one for each server, under a supervisor."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from changecontrol import wiring
from changecontrol.errors import Permanent, Transient
from recovery.adapters.encryption import check_recipient
from recovery.adapters.postgres.archiving import Shipped, WalArchiver
from recovery.adapters.postgres.programs import find_programs, observe_server

ALARM_BYTES = 1024**3
ALARM_SHARE = 0.5
"""WAL kept for the slot is an alarm from this on, or from this share of the server's own limit."""

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Receive a server's WAL, and ship it compressed and encrypted to the object store, until stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", required=True, help="reference to the address: env:NAME, file:/path, vault:…")
        parser.add_argument("--slot", required=True, help="the replication slot; it is made where there is none")
        parser.add_argument("--prefix", required=True, help="where in the store, such as shop/production")
        parser.add_argument("--folder", required=True, type=Path, help="a local folder of this archiver alone")
        parser.add_argument("--recipient", required=True, action="append", help="an age recipient; may be repeated")
        parser.add_argument("--store", default=settings.OBJECT_STORE_URL, help="the object store's address")
        parser.add_argument("--access-key", default="", help="reference to the store's access key")
        parser.add_argument("--secret-key", default="", help="reference to the store's secret key")

    def handle(self, *_: Any, **options: Any) -> None:
        stop = threading.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stop.set())
        try:
            self._archiver(**options).run(until=stop, report=_report)
        except (Permanent, Transient) as error:
            raise CommandError(error.reason) from None

    def _archiver(self, **options: Any) -> WalArchiver:
        for recipient in options["recipient"]:
            check_recipient(recipient)
        secrets = wiring.secrets()
        url = secrets.read(options["database"]).strip()
        store = wiring.adapter("object_store")(
            options["store"], access_key=options["access_key"], secret_key=options["secret_key"], secrets=secrets
        )
        return WalArchiver(
            url=url,
            slot=options["slot"],
            programs=find_programs(major=observe_server(url).major, folders=settings.POSTGRES_PROGRAMS),
            store=store,
            prefix=options["prefix"],
            folder=options["folder"],
            recipients=options["recipient"],
        )


def _report(round_: Shipped | Transient) -> None:
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
    limit = ALARM_BYTES if slot.limit_bytes is None else min(ALARM_BYTES, int(slot.limit_bytes * ALARM_SHARE))
    if slot.retained_bytes > limit or slot.wal_status == "unreserved":
        log.error("wal.retained", **facts)
    elif round_.finished_count or round_.piece_count:
        log.info("wal.shipped", finished=round_.finished_count, pieces=round_.piece_count, **facts)
