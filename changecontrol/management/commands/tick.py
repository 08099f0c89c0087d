"""`manage.py tick --once | --forever`: the workflows without a broker."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

import structlog
from django.core.management.base import BaseCommand

from changecontrol import clock, wiring
from changecontrol.workflow import engine

SLICE_SECONDS = 2.0
"""How long one workflow is worked on before the next has its turn."""

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Do what is due: once, or until stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        how = parser.add_mutually_exclusive_group(required=True)
        how.add_argument("--once", action="store_true", help="work off what is due now, in every workflow")
        how.add_argument("--forever", action="store_true", help="go on until SIGTERM or Ctrl-C")
        parser.add_argument("--every", type=float, default=1.0, help="seconds between looks (default 1)")

    def handle(self, *_: Any, once: bool, every: float, **__: Any) -> None:
        stop = threading.Event()
        if once:
            total = 0
            while count := self._look(stop):
                total += count
            self.stdout.write(f"{total} ticks.")
            return
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stop.set())
        while not stop.is_set():
            if not self._look(stop):
                stop.wait(every)

    def _look(self, stop: threading.Event) -> int:
        """Give every workflow one turn; return how many ticks were made. A lost database is asked again later."""
        try:
            clock.set_offset(engine.database_offset())
        except engine.DATABASE_LOST as problem:
            log.error("database.lost", problem=type(problem).__name__)
            engine.mend_connection()
            return 0
        workflows = wiring.workflows().values()
        return sum(engine.work_off(one, budget_seconds=SLICE_SECONDS) for one in workflows if not stop.is_set())
