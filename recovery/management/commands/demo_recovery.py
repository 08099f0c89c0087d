"""`manage.py demo_recovery`: loads what the demo shows of recovery, or keeps its shop selling until stopped."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from changecontrol import clock
from recovery.demo import loading
from recovery.demo.shop import sell_until


class Command(BaseCommand):
    help = "Load what the demo shows of recovery; what is there already is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--folder", type=Path, required=True, help="where the demo keeps its things of recovery")
        parser.add_argument("--sell", action="store_true", help="sell something every few seconds, until stopped")

    def handle(self, *_: Any, folder: Path, sell: bool, **__: Any) -> None:
        if not settings.DEMO:
            raise CommandError("This loads a made-up shop; set DEMO=1 where that is meant.")
        paths = loading.Paths(folder)
        if not sell:
            loading.load(paths, at=clock.now())
            return
        stop = threading.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stop.set())
        sell_until(stop, server=paths.server, in_use=loading.in_use)
