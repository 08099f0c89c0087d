"""Worker processes that do as they are told, line by line: apply these manifests barely, or work a run off.

`python -m tests.bench.crew` reads one JSON object a line and answers each with one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from changecontrol.project.local.processes import end_with_parent

# Not `tests.plugin`: it would put the address of another database in the environment.
ROOT = Path(__file__).resolve().parents[2]

IDLE_SECONDS = 0.02


class Crew:
    """Some workers; each order goes to all of them, and is done when the last has answered."""

    def __init__(self, count: int, *, database_url: str, environment: dict[str, str]) -> None:
        words = {**os.environ, **environment, "DATABASE_URL": database_url, "DATABASE_CONNECTION_SECONDS": "600"}
        self._workers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.bench.crew"],
                cwd=ROOT,
                env=words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=end_with_parent(signal.SIGTERM),
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait()

    def order(self, orders: Sequence[dict[str, Any]]) -> float:
        """Give each worker its order; return the seconds until all are done."""
        began = time.perf_counter()
        for worker, words in zip(self._workers, orders, strict=True):
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(words) + "\n")
            worker.stdin.flush()
        for worker in self._workers:
            assert worker.stdout is not None
            answer = worker.stdout.readline()
            if answer != "done\n":
                raise RuntimeError(f"A worker of the bench ended with {answer!r}.")
        return time.perf_counter() - began


def main() -> None:
    import django

    django.setup()
    # A worker has them long before a wave opens.
    import_module("changecontrol.adapters.kubernetes")
    import_module("deployments.workflows.rollout")
    for line in sys.stdin:
        words = json.loads(line)
        if "apply" in words:
            _apply(Path(words["apply"]), credential=words["credential"])
        elif "run" in words:
            _work_off(int(words["run"]))
        sys.stdout.write("done\n")
        sys.stdout.flush()


def _apply(path: Path, *, credential: str) -> None:
    from changecontrol.adapters.kubernetes import open_cluster
    from changecontrol.adapters.secrets import ReferencedSecrets

    cluster = open_cluster(credential=credential, secrets=ReferencedSecrets())
    for manifest in json.loads(path.read_text()):
        cluster.ensure_applied(manifest)


def _work_off(run_id: int) -> None:
    """Work as the Celery workers do, until every target of the run is healthy."""
    from changecontrol.lifecycles.run import TargetState
    from changecontrol.models import RunTarget
    from changecontrol.workflow import engine
    from deployments.workflows.rollout import RolloutRun
    from deployments.workflows.target import TargetUpdate

    rollout, target = RolloutRun(), TargetUpdate()
    open_targets = RunTarget.objects.filter(run=run_id).exclude(state=TargetState.HEALTHY)
    while True:
        count = engine.drain(rollout, budget_seconds=5) + engine.drain(target, budget_seconds=5)
        if not count:
            if not open_targets.exists():
                return
            time.sleep(IDLE_SECONDS)


if __name__ == "__main__":
    main()
