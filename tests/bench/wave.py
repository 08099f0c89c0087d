"""A wave of 500 targets, from opened to all healthy, against 500 bare applies of the same objects by as many workers.

The rollout is a real one: filed, assessed by every gate, started by its workflow, its targets worked off by
`engine.drain` in processes of their own, against the practice server in another.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from changecontrol import clock
from changecontrol.adapters.kubernetes.kubeconfig import parse_kubeconfig
from changecontrol.adapters.kubernetes.transport import Transport
from changecontrol.lifecycles.run import RunState
from changecontrol.models import ChangeRequest, Environment, Run
from changecontrol.project.local.processes import end_with_parent, wait_until
from changecontrol.workflow import engine
from deployments.adapters.fakes.git import BareRepository
from deployments.rendering import manifests_at
from deployments.workflows.assessment import Assessment
from deployments.workflows.rollout import RolloutRun
from tests.bench.crew import Crew
from tests.bench.harness import Figure
from tests.factories import SmallEstate, add_environment, small_estate, submitted_change
from tests.plugin import ROOT, TestDatabase

TARGETS = 500
ENVIRONMENTS = 10
WORKERS = 2
SPEED = 50
START_SECONDS = 60.0


def measure(database: TestDatabase) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="changecontrol-bench-") as folder:
        root = Path(folder)
        words = {"GIT_MIRRORS": str(root / "mirrors"), "OBJECT_STORE_URL": f"file://{root}/objects"}
        settings.GIT_MIRRORS, settings.OBJECT_STORE_URL = words["GIT_MIRRORS"], words["OBJECT_STORE_URL"]
        with (
            _practice(root / "practice") as kubeconfig,
            Crew(WORKERS, database_url=database.url, environment=words) as crew,
        ):
            stage = _Stage.set(root, kubeconfig)
            stage.apply(crew, "a")
            before = stage.apply(crew, "b")
            ours = stage.wave(crew, "c")
            floor = (before + stage.apply(crew, "d")) / 2
    yield Figure("wave_seconds", ours, "s", floor, aim="ratio <= 2")
    yield Figure("wave_targets", TARGETS / ours, "targets/s", TARGETS / floor)


@dataclass(frozen=True)
class _Stage:
    """Ten environments of fifty workloads each, a repository that describes them, and the cluster they run in."""

    root: Path
    credential: str
    estate: SmallEstate
    environments: list[Environment]
    git: BareRepository

    @classmethod
    def set(cls, root: Path, kubeconfig: Path) -> _Stage:
        estate = small_estate(slug="wave", tier=3)
        git = BareRepository(root / "estate.git")
        estate.source.url = git.url
        estate.source.save()
        estate.cluster.credential = f"file:{kubeconfig}"
        estate.cluster.save()
        environments = [
            add_environment(
                estate.tenant,
                "development",
                slug=f"place-{number}",
                cluster=estate.cluster,
                source=estate.source,
                cohorts=[],
                processes=[estate.process],
            )
            for number in range(ENVIRONMENTS)
        ]
        api = Transport(lambda: parse_kubeconfig(kubeconfig.read_text()), connect_seconds=5, read_seconds=20)
        for one in environments:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one.namespace}}
            answer = api.call("POST", "/api/v1/namespaces", doing="make a namespace", body=body)
            assert answer.status == 201, answer.body
        return cls(root, f"file:{kubeconfig}", estate, environments, git)

    def commit(self, letter: str) -> str:
        per_place = TARGETS // ENVIRONMENTS
        files = {
            f"{one.path}/all.yaml": "\n---\n".join(json.dumps(_workload(n, letter)) for n in range(per_place))
            for one in self.environments
        }
        return self.git.commit(files, message=f"Run {letter}.", author="linus@example.com")

    def apply(self, crew: Crew, letter: str) -> float:
        """Apply every workload barely, shared out among the workers; return the seconds it took."""
        sha = self.commit(letter)
        for one in self.environments:
            self.git.move(one.ref, sha)
        manifests = [each.manifest for one in self.environments for each in manifests_at(one, sha).workloads]
        assert len(manifests) == TARGETS
        orders = []
        for number in range(WORKERS):
            path = self.root / f"manifests-{number}.json"
            path.write_text(json.dumps(manifests[number::WORKERS]))
            orders.append({"apply": str(path), "credential": self.credential})
        took = crew.order(orders)
        time.sleep(3)  # let the server's controllers come to rest
        return took

    def wave(self, crew: Crew, letter: str) -> float:
        """Roll a commit out by the product; return the seconds from the opening of the wave until all are healthy."""
        self.commit(letter)
        run = self.opened()
        took = crew.order([{"run": run.pk}] * WORKERS)
        states = set(run.targets.values_list("state", flat=True))
        assert states == {"healthy"}, states
        return took

    def opened(self) -> Run:
        """File and assess the change, and bring its run to its first wave."""
        waves: list[dict[str, Any]] = [
            {"name": "All", "environments": [one.slug for one in self.environments], "bake_seconds": 3600}
        ]
        change = submitted_change(
            self.estate,
            by=self.estate.ada,
            at=clock.now(),
            commit="",
            environments=[one.slug for one in self.environments],
            waves=waves,
            max_unavailable=TARGETS,
        )
        _drain(Assessment(), lambda: _state(change) not in ("submitted", "assess"))
        change.refresh_from_db()
        assert change.state == "scheduled", (change.state, change.problem)
        _drain(RolloutRun(), lambda: Run.objects.filter(change=change, state=RunState.RUNNING).exists())
        return Run.objects.get(change=change, kind="rollout")


def _state(change: ChangeRequest) -> str:
    return str(ChangeRequest.objects.values_list("state", flat=True).get(pk=change.pk))


def _drain(workflow: Any, is_done: Any) -> None:
    ends_at = clock.now() + timedelta(seconds=150)
    while not is_done():
        workflow.find(clock.now())
        if not engine.tick(workflow):
            time.sleep(0.1)
        if clock.now() > ends_at:
            raise RuntimeError(f"{workflow.name} does not come to its end: {Run.objects.latest('pk').sentence}")


def _workload(number: int, letter: str) -> dict[str, Any]:
    name = f"odoo-{number:02}"
    probe = {"httpGet": {"path": "/web/health", "port": 8069}}
    container = {
        "name": "odoo",
        "image": f"registry.example/odoo@sha256:{letter * 64}",
        "resources": {"requests": {"cpu": "5m", "memory": "1Mi"}, "limits": {"memory": "2Mi"}},
        "readinessProbe": probe,
        "livenessProbe": probe,
        "securityContext": {"runAsNonRoot": True, "allowPrivilegeEscalation": False},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }


@contextmanager
def _practice(state: Path) -> Iterator[Path]:
    """Run the practice server in a process of its own; yield its administrator's kubeconfig."""
    server = subprocess.Popen(
        [sys.executable, "manage.py", "practice", "--state", str(state), "--forget", "--speed", str(SPEED)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        preexec_fn=end_with_parent(signal.SIGTERM),
    )
    try:
        if not wait_until((state / "address.json").exists, seconds=START_SECONDS):
            raise RuntimeError("The practice server does not answer.")
        yield state / "kubeconfig"
    finally:
        server.terminate()
        server.wait(20)
