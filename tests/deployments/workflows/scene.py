"""A scene for rollouts: Northwind's estate, a real bare Git repository, a cluster and a metrics server in memory.

Settings name the openers below as adapters; they hand out what the current scene holds.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from changecontrol import clock
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.adapters.fakes.objects import FakeObjectStore, FakeSecrets
from changecontrol.adapters.fakes.script import Scripted
from changecontrol.models import ChangeRequest, Environment, Run, RunTarget
from changecontrol.workflow import engine
from deployments.adapters.fakes.git import BareRepository
from deployments.adapters.fakes.indicators import FakeIndicators
from deployments.adapters.git import open_repository as open_real_repository
from deployments.workflows.assessment import Assessment
from tests.factories import NOW, SmallEstate, actor, requirement_named, small_estate, submitted_change
from tests.factories.recovery import backup_policy, finished_drill, recorded_point, recovery_owner

GOOD = "registry.example/odoo@sha256:" + "a" * 64
NEW = "registry.example/odoo@sha256:" + "b" * 64
BAD = "registry.example/odoo@sha256:" + "c" * 64

ADAPTERS = {
    "kubernetes": "tests.deployments.workflows.scene.open_cluster",
    "object_store": "tests.deployments.workflows.scene.open_store",
    "secrets": "tests.deployments.workflows.scene.open_secrets",
    "git": "tests.deployments.workflows.scene.open_repository",
    "indicators": "tests.deployments.workflows.scene.open_indicators",
}


@dataclass
class Scene:
    estate: SmallEstate
    git: BareRepository
    mirrors: Path
    cluster: FakeKubernetes
    indicators: FakeIndicators = field(default_factory=FakeIndicators)
    store: FakeObjectStore = field(default_factory=FakeObjectStore)
    repositories: dict[str, Any] = field(default_factory=dict)
    others: dict[str, FakeKubernetes] = field(default_factory=dict)
    """Clusters beside the first, by their credential."""

    # Time.

    def now(self) -> datetime:
        return clock.now()

    def repository(self) -> Any:
        """Return the Git adapter, scripted: `script` fails its calls."""
        url = self.estate.source.url
        if url not in self.repositories:
            self.repositories[url] = Scripted(
                open_real_repository(url=url, mirror=self.mirrors / "mirror", is_local_allowed=True)
            )
        return self.repositories[url]

    # What people do.

    def back_up(self, environment: Environment) -> None:
        """Let an environment be backed up since long ago, with a point that a drill has just proved."""
        at, rio = self.now(), recovery_owner(self.estate)
        backup_policy(environment, at=at - timedelta(days=30))
        taken_at = at - timedelta(hours=8)
        recorded_point(environment, "nightly", taken_at, by=rio)
        finished_drill(environment, by=rio, target_at=taken_at, at=at - timedelta(hours=6))

    def commit(self, image: str = NEW, **words: Any) -> str:
        """Commit every environment's manifests with the image."""
        files = {
            f"environments/{one}/all.yaml": manifests(image, cohorts=cohorts, **words)
            for one, cohorts in {"staging": ["pilot"], "production": ["pilot", "rest"]}.items()
        }
        return self.git.commit(files, message=f"Run {image[-8:]}.", author="linus@example.com")

    def deployed(self, image: str = GOOD, **words: Any) -> str:
        """Let an earlier commit be what runs in both environments."""
        sha = self.commit(image, **words)
        for environment in (self.estate.staging, self.estate.production):
            self.git.move(environment.ref, sha)
            for aliased in yaml.safe_load_all(self.git_file(environment.path)):
                document = json.loads(json.dumps(aliased))
                document["metadata"]["namespace"] = environment.namespace
                document["metadata"].setdefault("labels", {})["changecontrol.io/environment"] = environment.inventory
                self.cluster.ensure_applied(document)
        self.cluster.effects.clear()
        self.cluster.script.calls.clear()
        return sha

    def git_file(self, path: str) -> str:
        repository = self.repository().inner
        repository.ensure_fetched()
        tree = repository.observe_tree(sha=self.git.ref("refs/heads/main"), path=path)
        return str(tree["all.yaml"].decode())

    def approve(self, change: ChangeRequest) -> ChangeRequest:
        from changecontrol.actions.approvals import cast_vote

        change.refresh_from_db()
        for person, role in ((self.estate.cy, "technical_reviewer"), (self.estate.ben, "change_manager")):
            cast_vote(
                actor=actor(person, at=self.now()),
                requirement_id=requirement_named(change, role).pk,
                verdict="approve",
                seen_digest=change.plan.digest,
                at=self.now(),
            )
        change.refresh_from_db()
        return change

    def scheduled(
        self, image: str = NEW, *, before: str | None = GOOD, commit: bool = True, **answers: Any
    ) -> ChangeRequest:
        """Return an approved change that brings the image to production, in a pilot wave and one for the rest."""
        if before is not None:
            self.deployed(before)
        if commit:
            self.commit(image)
        waves = [
            {"name": "Pilot", "environments": ["production"], "cohorts": ["pilot"], "bake_seconds": 30},
            {"name": "Everybody else", "environments": ["production"], "bake_seconds": 30},
        ]
        asked = {"commit": "", "environments": ["production"], "waves": waves, "max_unavailable": 2, **answers}
        change = self.assess(submitted_change(self.estate, at=self.now(), **asked))
        assert change.state == "authorize", change.problem
        return self.approve(change)

    def run(self) -> Run:
        return Run.objects.filter(kind="rollout").latest("pk")

    def target(self, workload: str) -> RunTarget:
        return self.run().targets.get(workload=workload)

    def until(self, *states: str, limit: int = 400, step: float = 3) -> Run:
        """Work until the rollout is in one of the states."""
        self.work(until=lambda: Run.objects.filter(kind="rollout", state__in=states).exists(), limit=limit, step=step)
        return self.run()

    def images(self) -> dict[str, str]:
        """Return what each Deployment of production is told to run."""
        found = {}
        for ref, live in self.cluster.objects().items():
            if ref.kind == "Deployment" and ref.namespace == self.estate.production.namespace:
                found[ref.name] = live["spec"]["template"]["spec"]["containers"][0]["image"]
        return found

    def remember(self) -> dict[str, Any]:
        """Keep the cluster and the repository as they are, to play the same story again."""
        ref = self.estate.production.ref
        return {"objects": copy.deepcopy(self.cluster._objects), "ref": self.git.ref(ref)}

    def recall(self, world: dict[str, Any]) -> None:
        self.cluster._objects = copy.deepcopy(world["objects"])
        self.cluster.effects.clear()
        ref = self.estate.production.ref
        if world["ref"] is not None:
            self.git.move(ref, world["ref"])
        elif self.git.ref(ref) is not None:
            self.git.drop(ref)

    def git_content(self) -> str:
        """Return the messages on production's ref: what Git says ran there."""
        return "\n".join(self.git.log(self.estate.production.ref))

    # What workers do.

    def assess(self, change: ChangeRequest) -> ChangeRequest:
        workflow = Assessment()
        for _ in range(40):
            workflow.find(self.now())
            if not engine.drain(workflow, budget_seconds=30):
                if not Run.objects.filter(workflow.due(), next_due_at__isnull=False).exists():
                    break
                pass_time(61)
        change.refresh_from_db()
        return change

    def work(self, *, until: Any, limit: int = 400, step: float = 3) -> None:
        """Tick every workflow, with time passing, until a condition holds."""
        from deployments.workflows.rollout import RolloutRun
        from deployments.workflows.target import TargetUpdate

        for _ in range(limit):
            if until():
                return
            RolloutRun().find(self.now())
            ticked = engine.drain(RolloutRun(), budget_seconds=30) + engine.drain(TargetUpdate(), budget_seconds=30)
            if not ticked:
                pass_time(step)
        raise AssertionError(f"It never came to that: {self.states()}")

    def states(self) -> dict[str, Any]:
        return {
            "runs": [(run.kind, run.state, run.pause_reason, run.sentence) for run in Run.objects.all()],
            "targets": [(str(one), one.wave, one.state, one.sentence) for one in RunTarget.objects.all()],
            "changes": [(one.state, one.close_code, one.problem) for one in ChangeRequest.objects.all()],
        }


_scene: Scene | None = None


def current() -> Scene:
    assert _scene is not None
    return _scene


def open_cluster(*, credential: str, secrets: object) -> FakeKubernetes:
    return current().others.get(credential, current().cluster)


def open_repository(*, url: str, **words: object) -> Any:
    return current().repository()


def open_indicators(**words: object) -> FakeIndicators:
    return current().indicators


def open_store(url: str) -> FakeObjectStore:
    return current().store


def open_secrets(*, vault: Mapping[str, str]) -> FakeSecrets:
    return FakeSecrets()


@contextmanager
def setting(folder: Path) -> Iterator[Scene]:
    """Play on a new scene; time begins on Monday at 10:12 UTC and passes by `pass_time`. Production is backed up."""
    global _scene
    from deployments import rendering

    rendering._remembered.clear()
    estate = small_estate()
    git = BareRepository(folder / "estate.git")
    estate.source.url = git.url
    estate.source.save()
    cluster = FakeKubernetes(
        namespaces=[one.namespace for one in (estate.development, estate.staging, estate.production)],
        clock=clock.now,
        ready_after=timedelta(seconds=5),
    )
    _scene = Scene(estate=estate, git=git, mirrors=folder / "mirrors", cluster=cluster)
    try:
        _scene.back_up(estate.production)
        yield _scene
    finally:
        _scene = None


def pass_time(seconds: float) -> None:
    clock.set_offset(clock._offset + timedelta(seconds=seconds))


def manifests(image: str, *, cohorts: list[str], replicas: int = 2, extra: str = "", message: str = "hello") -> str:
    """Return YAML of a ConfigMap, and of a Deployment, a budget and a Service for each cohort."""
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "odoo"}, "data": {"message": message}}
    ]
    for cohort in cohorts:
        documents += _workload(f"odoo-{cohort}", cohort, image, replicas)
    return yaml.safe_dump_all(documents) + extra


def _workload(name: str, cohort: str, image: str, replicas: int) -> list[dict[str, Any]]:
    labels = {"app": name, "changecontrol.io/cohort": cohort}
    probe = {"httpGet": {"path": "/web/health", "port": 8069}}
    container = {
        "name": "odoo",
        "image": image,
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "readinessProbe": probe,
        "livenessProbe": probe,
        "securityContext": {"runAsNonRoot": True, "allowPrivilegeEscalation": False},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}},
        },
    ]


__all__ = ["ADAPTERS", "BAD", "GOOD", "NEW", "NOW", "Scene", "manifests", "pass_time", "setting"]
