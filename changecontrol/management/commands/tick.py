"""`manage.py tick --once | --forever`: the workflows without a broker."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from changecontrol import clock, wiring
from changecontrol.workflow import engine


class Command(BaseCommand):
    help = "Do what is due: once, or until stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        how = parser.add_mutually_exclusive_group(required=True)
        how.add_argument("--once", action="store_true", help="look once at every workflow and work off what is due")
        how.add_argument("--forever", action="store_true", help="go on until SIGTERM or Ctrl-C")
        parser.add_argument("--every", type=float, default=1.0, help="seconds between looks (default 1)")

    def handle(self, *_: Any, once: bool, every: float, **__: Any) -> None:
        stop = threading.Event()
        if not once:
            for sign in (signal.SIGTERM, signal.SIGINT):
                signal.signal(sign, lambda *_: stop.set())
        while True:
            clock.set_offset(engine.database_offset())
            count = sum(self._work_off(workflow) for workflow in wiring.workflows().values())
            if once:
                self.stdout.write(f"{count} ticks.")
                return
            if stop.wait(0 if count else every):
                return

    def _work_off(self, workflow: Any) -> int:
        workflow.find(clock.now())
        return engine.drain(workflow, budget_seconds=30.0)
