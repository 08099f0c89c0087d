"""`manage.py jobs`: has the jobs done that workflows order, here or in a cluster, until stopped."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection

from changecontrol import clock, wiring
from changecontrol.ports import JobCluster, JobRunner
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import GRACE_SECONDS, only
from changecontrol.workflows.placing import begin_due, look_after

LOOK_SECONDS = 1.0
LOOK_AT_CLUSTER_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Do the jobs that workflows order: backups, restores and other work of minutes or hours."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--at-once", type=int, default=4, help="how many jobs to do at the same time (default 4)")
        parser.add_argument("--only", type=int, help="do this one, if it is due, in this process, and end")

    def handle(self, *_: Any, at_once: int, only: int | None, **__: Any) -> None:
        clock.set_offset(engine.database_offset())
        if only is not None:
            _do(only)
            return
        stop = threading.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stop.set())
        # Beside the jobs of this host, so that a slow cluster does not hold them up.
        cluster = threading.Thread(target=_look_at_cluster, args=(stop, at_once), name="cluster", daemon=True)
        if settings.JOBS_IN_KUBERNETES:
            cluster.start()
        here: JobRunner = wiring.adapter("jobs_here")(grace_seconds=GRACE_SECONDS)
        try:
            while not stop.is_set():
                _look(lambda at: begin_due(here, elsewhere=settings.JOBS_IN_KUBERNETES, at_once=at_once, at=at))
                stop.wait(LOOK_SECONDS)
        finally:
            here.close()


def _do(pk: int) -> None:
    engine.tick(only(pk))


def _look_at_cluster(stop: threading.Event, at_once: int) -> None:
    kinds = settings.JOBS_IN_KUBERNETES
    try:
        while not stop.is_set():
            _look(lambda at: look_after(_cluster, kinds=kinds, at_once=at_once, at=at))
            stop.wait(LOOK_AT_CLUSTER_SECONDS)
    finally:
        connection.close()


def _cluster() -> JobRunner:
    """Open the cluster anew for each look: its credential may have been renewed."""
    kubernetes = wiring.adapter("kubernetes")(credential=settings.JOBS_CLUSTER, secrets=wiring.secrets())
    place = JobCluster(
        namespace=settings.JOBS_NAMESPACE,
        image=settings.JOBS_IMAGE,
        service_account=settings.JOBS_SERVICE_ACCOUNT,
        secret=settings.JOBS_SECRET,
        references=settings.JOBS_REFERENCES,
        cpu=settings.JOBS_CPU,
        memory_mib=settings.JOB_MEMORY_MIB,
        disk_gib=settings.JOB_DISK_GIB,
        needs_token=bool(settings.VAULT["kubernetes_role"]),
    )
    opened: JobRunner = wiring.adapter("jobs_in_kubernetes")(kubernetes, place=place)
    return opened


def _look(take_steps: Callable[[datetime], None]) -> None:
    """Take the steps that are due; what goes wrong is logged, and they are taken at the next look."""
    try:
        clock.set_offset(engine.database_offset())
        take_steps(clock.now())
    except engine.DATABASE_LOST as problem:
        log.error("database.lost", problem=type(problem).__name__)
        engine.mend_connection()
    except Exception:
        # Neither place may stand still because of a fault in the other, or of ours.
        log.exception("jobs.fault")
