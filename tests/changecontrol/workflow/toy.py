"""A small workflow over real tables, and a far side that counts every effect it sees.

Two workflows as a rollout has them: a run opens its targets and closes when all are done; each target takes two steps.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from django.db.models import Q

from changecontrol.lifecycles.run import RunState, TargetState
from changecontrol.models import (
    ChangeRequest,
    Cluster,
    Environment,
    GitSource,
    Revision,
    Run,
    RunTarget,
    Tenant,
    User,
)
from changecontrol.models.run import RunKind
from changecontrol.workflow import engine
from changecontrol.workflow.claiming import Together
from changecontrol.workflow.engine import Claim, Settlement, Workflow, confirm_lease

STEPS = ("apply", "confirm")
SOON = timedelta(seconds=2)


class FarSide(Protocol):
    def observe(self, key: str) -> bool: ...

    def perform(self, key: str) -> None: ...


class MemoryFarSide:
    """For tests in one process: effects in their order."""

    def __init__(self) -> None:
        self.effects: list[str] = []

    def observe(self, key: str) -> bool:
        return key in self.effects

    def perform(self, key: str) -> None:
        self.effects.append(key)


class FolderFarSide:
    """For tests with many processes: a file per key, a byte appended per effect, so a repeated effect is counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def observe(self, key: str) -> bool:
        # A worker killed between opening and writing leaves an empty file, and no effect.
        return self._path(key).exists() and self._path(key).stat().st_size > 0

    def perform(self, key: str) -> None:
        descriptor = os.open(self._path(key), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, b".")
        os.close(descriptor)

    def counts(self) -> Counter[str]:
        return Counter({path.name: path.stat().st_size for path in self.folder.iterdir()})

    def _path(self, key: str) -> Path:
        return self.folder / key


class Gate:
    """Holds a worker at a named place for as long as a test wants, 30 s at most."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def close(self, place: str) -> None:
        (self.folder / f"{place}.closed").touch()

    def open(self, place: str) -> None:
        (self.folder / f"{place}.closed").unlink()

    def arrivals(self, place: str) -> list[int]:
        path = self.folder / f"{place}.arrived"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def pass_by(self, place: str) -> None:
        if not (self.folder / f"{place}.closed").exists():
            return
        with (self.folder / f"{place}.arrived").open("a") as arrivals:
            arrivals.write(f"{os.getpid()}\n")
        ends_at = time.monotonic() + 30
        while (self.folder / f"{place}.closed").exists() and time.monotonic() < ends_at:
            time.sleep(0.01)


def far_side_of_environment() -> FarSide:
    return FolderFarSide(Path(os.environ["TOY_FAR_SIDE"]))


def gate_of_environment() -> Gate | None:
    folder = os.environ.get("TOY_GATE")
    return Gate(Path(folder)) if folder else None


class ToyTarget:
    """Takes each of its steps once: observe, then perform only what is not there yet."""

    name = "toy-target"
    model = RunTarget

    def __init__(self, far_side: FarSide | None = None) -> None:
        self.far_side = far_side or far_side_of_environment()
        self.gate = gate_of_environment()

    def due(self) -> Q:
        return Q(run__kind=RunKind.ROLLOUT)

    def find(self, at: datetime) -> None:
        """Targets are opened by their run."""

    def lock(self, pk: int) -> RunTarget:
        run_id = RunTarget.objects.values_list("run_id", flat=True).get(pk=pk)
        Run.objects.select_for_update().get(pk=run_id)
        return RunTarget.objects.select_for_update().get(pk=pk)

    def advance(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        step = STEPS[len(row.applied)]
        key = f"{row.run_id}-{row.pk}-{step}"
        if not self.far_side.observe(key):
            self._pass_by("before-effect")
            confirm_lease(row)
            self.far_side.perform(key)
            self._pass_by("after-effect")
        is_last = step == STEPS[-1]

        def write(target: RunTarget) -> None:
            target.applied = [*target.applied, step]
            target.state = TargetState.HEALTHY if is_last else TargetState.UPDATING
            target.save(update_fields=["applied", "state"])
            if is_last:
                engine.release(Run.objects.get(pk=target.run_id), at=at)

        return Settlement(write=write, due_in=None if is_last else timedelta())

    def refused(self, row: RunTarget, reason: str, at: datetime) -> Settlement[RunTarget]:
        return self._stop(reason)

    def exhausted(self, row: RunTarget, reason: str, at: datetime) -> Settlement[RunTarget]:
        return self._stop(reason)

    def _stop(self, reason: str) -> Settlement[RunTarget]:
        def write(target: RunTarget) -> None:
            target.state = TargetState.FAILED
            target.sentence = reason
            target.save(update_fields=["state", "sentence"])

        return Settlement(write=write, due_in=None)

    def _pass_by(self, place: str) -> None:
        if self.gate is not None:
            self.gate.pass_by(place)


class ToyTogether(ToyTarget):
    """The same, with the targets of one run taken together; its tick may stop between them."""

    together = Together(column="run_id", at_most=3)

    def lock_all(self, pks: Sequence[int]) -> list[RunTarget]:
        list(Run.objects.select_for_update(of=("self",)).filter(targets__in=pks).order_by("pk"))
        return list(RunTarget.objects.select_for_update().filter(pk__in=pks).order_by("pk"))


class ToyRun:
    """Opens its targets, waits for them, closes."""

    name = "toy-run"
    model = Run

    def __init__(self, far_side: FarSide | None = None) -> None:
        self.far_side = far_side or far_side_of_environment()

    def due(self) -> Q:
        return Q(kind=RunKind.ROLLOUT)

    def find(self, at: datetime) -> None:
        """Tests create the runs."""

    def lock(self, pk: int) -> Run:
        return Run.objects.select_for_update().get(pk=pk)

    def advance(self, row: Run, at: datetime) -> Settlement[Run]:
        if not row.step:
            return Settlement(write=lambda run: self._open(run, at), due_in=SOON)
        if row.targets.exclude(state=TargetState.HEALTHY).exists():
            return Settlement(write=None, due_in=SOON)
        key = f"{row.pk}-close"
        if not self.far_side.observe(key):
            self.far_side.perform(key)
        return Settlement(write=self._close, due_in=None)

    def _open(self, run: Run, at: datetime) -> None:
        run.step = "opened"
        run.save(update_fields=["step"])
        for target in run.targets.select_for_update().order_by("pk"):
            engine.release(target, at=at)

    def _close(self, run: Run) -> None:
        run.step = "closed"
        run.state = RunState.SUCCEEDED
        run.save(update_fields=["step", "state"])

    def refused(self, row: Run, reason: str, at: datetime) -> Settlement[Run]:
        return Settlement(write=None, due_in=None)

    def exhausted(self, row: Run, reason: str, at: datetime) -> Settlement[Run]:
        return Settlement(write=None, due_in=None)


def claim_one(workflow: Workflow[Any], *, at: datetime) -> Claim[Any] | None:
    """Claim from a workflow that takes no rows together."""
    claims = engine.claim(workflow, at=at)
    assert len(claims) <= 1
    return claims[0] if claims else None


def make_environment(slug: str = "production") -> Environment:
    """Return an environment of Northwind, with what it needs around it."""
    tenant, _ = Tenant.objects.get_or_create(slug="northwind", defaults={"name": "Northwind Grocers"})
    cluster, _ = Cluster.objects.get_or_create(slug="eu", defaults={"name": "Europe", "credential": "file:/none"})
    source, _ = GitSource.objects.get_or_create(tenant=tenant, slug="odoo", defaults={"name": "Odoo", "url": "/none"})
    environment, _ = Environment.objects.get_or_create(
        tenant=tenant,
        slug=slug,
        defaults={"name": f"Northwind {slug}", "stage": "production", "cluster": cluster, "namespace": f"nw-{slug}"}
        | {"source": source, "path": slug},
    )
    return environment


def make_runs(count: int, *, at: datetime, targets: int = 5) -> list[Run]:
    """Make runs that are due, each with as many targets that are not yet."""
    environment = make_environment()
    ada, _ = User.objects.get_or_create(username="ada")
    changes = ChangeRequest.objects.bulk_create(
        ChangeRequest(tenant=environment.tenant, title="Toy", requester=ada, created_at=at, updated_at=at)
        for _ in range(count)
    )
    revisions = Revision.objects.bulk_create(
        Revision(change=change, number=1, author=ada, created_at=at, content={}) for change in changes
    )
    runs = Run.objects.bulk_create(
        Run(change=change, revision=revision, kind=RunKind.ROLLOUT, created_at=at, next_due_at=at)
        for change, revision in zip(changes, revisions, strict=True)
    )
    RunTarget.objects.bulk_create(
        RunTarget(run=run, environment=environment, wave=1, workload=f"Deployment/odoo-{number}")
        for run, number in itertools.product(runs, range(targets))
    )
    return runs


def expected_effects(runs: list[Run]) -> Counter[str]:
    """Count what the far side must have seen once all is done: each effect exactly once."""
    targets = RunTarget.objects.filter(run__in=runs).values_list("run_id", "pk")
    steps = Counter(f"{run}-{target}-{step}" for (run, target), step in itertools.product(targets, STEPS))
    return steps + Counter(f"{run.pk}-close" for run in runs)


def unfinished_count(runs: list[Run]) -> int:
    return Run.objects.filter(pk__in=[run.pk for run in runs]).exclude(state=RunState.SUCCEEDED).count()


def rows_of(runs: list[Run]) -> list[tuple[object, ...]]:
    """Return what is left in the database of these runs, lease columns included, ids and clock times apart."""
    lease = ("attempts", "lease_token", "lease_until", "next_due_at")
    ids = [run.pk for run in runs]
    of_runs = Run.objects.filter(pk__in=ids).order_by("pk").values_list("state", "step", *lease)
    of_targets = (
        RunTarget.objects.filter(run__in=ids).order_by("pk").values_list("state", "sentence", "applied", *lease)
    )
    return [*of_runs, *of_targets]
