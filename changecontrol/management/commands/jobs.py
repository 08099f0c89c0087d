"""`manage.py jobs`: does the jobs that workflows order, each in a process of its own, until stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from typing import Any

import structlog
from django.core.management.base import BaseCommand

from changecontrol import clock
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import GRACE_SECONDS, JobWork

LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Do the jobs that workflows order: backups, restores and other work of minutes or hours."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--at-once", type=int, default=2, help="how many jobs to do at the same time (default 2)")
        parser.add_argument("--one", action="store_true", help="do one that is due, in this process, and end")

    def handle(self, *_: Any, at_once: int, one: bool, **__: Any) -> None:
        clock.set_offset(engine.database_offset())
        if one:
            engine.tick(JobWork())
            return
        stop = threading.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stop.set())
        children: list[subprocess.Popen[bytes]] = []
        try:
            while not stop.is_set():
                children = [child for child in children if child.poll() is None]
                children += [_begun() for _ in range(_due_count(at_once - len(children)))]
                stop.wait(LOOK_SECONDS)
        finally:
            _end(children)


def _due_count(free: int) -> int:
    if free <= 0:
        return 0
    try:
        clock.set_offset(engine.database_offset())
        return engine.due_count(JobWork(), at=clock.now(), limit=free)
    except engine.DATABASE_LOST as problem:
        log.error("database.lost", problem=type(problem).__name__)
        engine.mend_connection()
        return 0


def _begun() -> subprocess.Popen[bytes]:
    # In a group of its own: what ends it ends all that it has started.
    return subprocess.Popen([sys.executable, sys.argv[0], "jobs", "--one"], start_new_session=True)  # noqa: S603


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    """Let those under way give their jobs back; end what does not."""
    for child in children:
        child.terminate()
    until = time.monotonic() + GRACE_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
