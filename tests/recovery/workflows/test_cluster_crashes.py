"""A crash after any line of a drill elsewhere whose point an operator keeps: one cluster, one rehearsal, none left.

Every fourth line by default; EVERY_LINE=1 takes them all. Jobs, the operator and the other cluster are played.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.models import Cluster, Job, Rehearsal
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import JobWork
from recovery.actions import recoveries
from recovery.actions.wal import record_cluster_coverage
from recovery.adapters.cloudnativepg.operator import KINDS
from recovery.models import Drill, RecoveryPoint
from recovery.workflows import cluster_recovery, drill, drill_elsewhere, drill_phases, steps, upkeep
from tests.deployments.workflows.test_crashes import EVERY
from tests.factories import small_estate
from tests.factories.recovery import HOUR, backup_policy, recorded_point, recovery_owner, started_drill
from tests.plugin import TestDatabase
from tests.recovery.workflows.operated import FAKE, IN_TREE, PLUGIN_API, Scene
from tests.recovery.workflows.test_crashes import PLAYED, Crash, CrashAt, clear, recorded, rehearse
from tests.recovery.workflows.test_drill_elsewhere_by_operator import ClustersUpkeep

FILES = {one.__file__ for one in (cluster_recovery, drill, drill_elsewhere, drill_phases, recoveries, steps, upkeep)}
HEALTHY = {"phase": "Cluster in healthy state"}


@pytest.fixture
def scene(fresh_db: TestDatabase, settings: Any, tmp_path: Path) -> Iterator[Scene]:
    played = {**PLAYED, "drill_place": clear}
    settings.JOBS = {name: f"{work.__module__}.{work.__name__}" for name, work in played.items()}
    settings.ADAPTERS = {**settings.ADAPTERS, "kubernetes": "tests.recovery.workflows.operated.open_fake"}
    estate = small_estate()
    kubernetes = FakeKubernetes(namespaces=(estate.production.namespace,))
    kubernetes.kinds |= {*KINDS, (PLUGIN_API, "ObjectStore"), ("v1", "Pod")}
    FAKE[:] = [kubernetes]
    Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential="env:KUBECONFIG_DE_1")
    words = {"rehearsal_cluster": "de-1", "rehearsal_target": "file:/run/secrets/falkenstein"}
    backup_policy(estate.production, engine="cloudnativepg", at=clock.now() - timedelta(days=1), **words)
    scene = Scene(estate, recovery_owner(estate), kubernetes, tmp_path)
    scene.database(**IN_TREE)
    scene.reader()
    yield scene
    clock.set_offset(timedelta())
    FAKE.clear()


def pointed(scene: Scene) -> RecoveryPoint:
    name = f"{scene.namespace}/odoo-db"
    keys = ("backup_id", "backup", "image", "object_store", "server_name", "storage_size", "storage_class")
    facts = {"name": name, **dict.fromkeys(keys, "a")}
    with transaction.atomic():
        return recorded_point(scene.estate.production, "p1", clock.now() - HOUR, by=scene.rio, cluster_facts=facts)


def ask(scene: Scene, point: RecoveryPoint) -> Drill:
    record_cluster_coverage(
        environment=scene.estate.production,
        system_identifier=point.system_identifier,
        starts_at=point.consistent_at,
        ends_at=clock.now(),
        actor=system_actor(),
        at=clock.now(),
    )
    return started_drill(scene.estate.production, by=scene.rio, level=5, target_at=point.consistent_at, at=clock.now())


def operate(scene: Scene) -> None:
    for ref in scene.kubernetes.objects():
        if ref.kind == "Cluster" and ref.name == "changecontrol-drill":
            scene.kubernetes.say(ref, HEALTHY)


def carry_out(scene: Scene, asked: Drill, *, crash_at: tuple[str, int] | None) -> CrashAt:
    """Tick until the drill is over, with one crash on the way."""
    tracer = CrashAt(crash_at, files=FILES)
    ClustersUpkeep().find(clock.now())
    for _ in range(60):
        if not Drill.objects.filter(pk=asked.pk, next_due_at__isnull=False).exists():
            return tracer
        try:
            with tracer:
                engine.tick(drill.DrillRun())
                engine.tick(ClustersUpkeep())
        except Crash:
            connections.close_all()
            tracer.chosen = None
            clock.set_offset(clock._offset + timedelta(seconds=engine.LEASE_SECONDS + 1))
        engine.tick(JobWork())
        rehearse()
        operate(scene)
        clock.set_offset(clock._offset + timedelta(seconds=20))
    raise AssertionError(f"It did not end: {list(Drill.objects.values('state', 'sentence', 'trouble'))}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_crash_after_any_line_makes_one_of_each_and_leaves_none(scene: Scene) -> None:  # RUN-1
    point = pointed(scene)

    def story(crash_at: tuple[str, int] | None) -> tuple[CrashAt, list[Any]]:
        before = recorded()
        scene.kubernetes.effects.clear()
        asked = ask(scene, point)
        tracer = carry_out(scene, asked, crash_at=crash_at)
        asked.refresh_from_db()
        made = [f"{one.verb} {one.ref.name}" for one in scene.kubernetes.effects if one.ref.kind == "Cluster"]
        left = [ref.name for ref in scene.kubernetes.objects() if ref.kind == "Cluster"]
        ended = [asked.state, asked.leftovers, list(asked.data), Rehearsal.objects.get(key=asked.key).state]
        counts = [after - was for was, after in zip(before, recorded(), strict=True)]
        jobs = sorted(Job.objects.filter(key__startswith=f"drill/{asked.pk}").values_list("kind", flat=True))
        return tracer, [*ended, made, left, counts, jobs]

    tracer, expected = story(None)

    cluster = "changecontrol-drill"
    assert expected[:6] == ["passed", "", ["policy"], "gone", [f"applied {cluster}", f"deleted {cluster}"], ["odoo-db"]]
    assert expected[-1] == ["drill", "drill_clearing", "drill_elsewhere", "drill_place"]
    assert len(tracer.lines) > 100
    for line in list(tracer.lines)[::EVERY]:
        assert story(line)[1] == expected, line
