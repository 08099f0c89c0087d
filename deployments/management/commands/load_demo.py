"""`manage.py load_demo`: the demo retailer, on the practice estate. Runs at every start of `make demo`."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from changecontrol import clock
from deployments.demo import loading
from deployments.demo.cluster import NotReady


class Command(BaseCommand):
    help = "Load the demo retailer; what is there already is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        default = settings.BASE_DIR / ".local" / "demo"
        parser.add_argument("--folder", type=Path, default=default, help="where the demo keeps its things")
        parser.add_argument("--print-sign-ins", action="store_true", help="only say how to sign in")

    def handle(self, *_: Any, folder: Path, print_sign_ins: bool, **__: Any) -> None:
        if not settings.DEMO:
            raise CommandError("This loads a made-up retailer; set DEMO=1 where that is meant.")
        paths = loading.Paths(folder)
        if print_sign_ins:
            self.stdout.write(loading.sign_ins(paths))
            return
        try:
            loading.load(paths, deploy=settings.BASE_DIR / "deploy", at=clock.now())
        except NotReady as problem:
            raise CommandError(str(problem)) from problem
