"""Another cluster beside the scene's, and rehearsals of production in it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.actions.rehearsals import ask_rehearsal, ask_teardown
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.models import Cluster, Rehearsal
from changecontrol.workflow import engine
from deployments.workflows.rehearsal import RehearsalRun
from tests.deployments.workflows.scene import NEW, Scene, manifests, pass_time

PATH = "rehearsals/production"
CREDENTIAL = "env:KUBECONFIG_DE_1"


@dataclass
class Elsewhere:
    """What a test says and asks of the other cluster, and of the rehearsal that is brought up there."""

    scene: Scene
    row: Cluster
    cluster: FakeKubernetes

    def commit(self, image: str = NEW, *, extra: str = "") -> str:
        """Commit an overlay for the other cluster."""
        text = manifests(image, cohorts=["pilot", "rest"], extra=extra)
        return self.scene.git.commit({f"{PATH}/all.yaml": text}, message="For Falkenstein.", author="linus@example.com")

    def ask(self, commit: str = "", **words: Any) -> Rehearsal:
        asked: dict[str, Any] = {
            "environment": self.scene.estate.production,
            "cluster": self.row,
            "key": uuid.uuid4(),
            "commit": commit or self.commit(),
            "path": PATH,
            "ends_at": clock.now() + timedelta(hours=4),
            "actor": system_actor("drill:1"),
            "at": clock.now(),
        }
        return ask_rehearsal(**{**asked, **words})

    def work(self, *states: str, limit: int = 200, step: float = 3) -> Rehearsal:
        """Tick, with time passing, until the newest rehearsal is in one of the states."""
        for _ in range(limit):
            found = Rehearsal.objects.latest("pk")
            if found.state in states:
                return found
            if not engine.drain(RehearsalRun(), budget_seconds=30):
                pass_time(step)
        raise AssertionError(f"It never came to that: {found.state}, {found.sentence} {found.trouble}")

    def take_down(self, rehearsal: Rehearsal) -> None:
        ask_teardown(key=rehearsal.key, actor=system_actor("drill:1"), at=clock.now())


def elsewhere_of(scene: Scene) -> Elsewhere:
    row = Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential=CREDENTIAL)
    cluster = FakeKubernetes(namespaces=["somebody-else"], clock=clock.now, ready_after=timedelta(seconds=5))
    scene.others[CREDENTIAL] = cluster
    return Elsewhere(scene=scene, row=row, cluster=cluster)
