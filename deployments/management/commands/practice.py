"""Run the practice estate in the foreground, until SIGINT or SIGTERM."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from deployments.practice.cloudnativepg.install import install
from deployments.practice.estate import Estate
from deployments.practice.seed import seed_from
from deployments.practice.server import PracticeServer


class Command(BaseCommand):
    """`manage.py practice --state DIR [--port N] [--speed X] [--seed PATH]`."""

    help = "Run the practice estate: a Kubernetes API and a Prometheus on loopback, to rehearse rollouts on."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--state", type=Path, required=True, help="folder for credentials, kubeconfig and objects")
        parser.add_argument("--port", type=int, default=0, help="loopback port; any free one when left out")
        parser.add_argument("--speed", type=float, default=1.0, help="how many times as fast controllers wait")
        parser.add_argument("--seed", type=Path, help="manifests to apply at the start: a file or a folder")
        parser.add_argument("--forget", action="store_true", help="do not keep objects over a restart")

    def handle(self, *args: Any, **options: Any) -> None:
        manifests = seed_from(options["seed"]) if options["seed"] else None

        def seed(estate: Estate) -> None:
            # The operator first: the manifests may hold databases of it.
            install(estate)
            if manifests is not None:
                manifests(estate)

        try:
            server = PracticeServer.start(
                state=options["state"],
                port=options["port"],
                speed=options["speed"],
                keeps_objects=not options["forget"],
                seed=seed,
            )
        except OSError as error:
            raise CommandError(
                f"The practice estate cannot listen on port {options['port']}: {error.strerror}."
            ) from error
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: threading.Thread(target=server.stop).start())
        self.stdout.write(f"The practice estate answers at {server.url}; kubeconfig: {server.kubeconfig}")
        self.stdout.flush()
        server.wait()
