"""Jobs as processes of this host: each in a group of its own, so that what ends it ends all that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from changecontrol.ports import JobSight, PlacedJob


class LocalRunner:
    """What this process has started. A job whose process dies is taken over once its lease ends."""

    def __init__(self, *, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def observe_obstacles(self) -> tuple[str, ...]:
        return ()

    def observe_jobs(self) -> dict[str, JobSight]:
        self._children = {run: child for run, child in self._children.items() if child.poll() is None}
        return {run: JobSight() for run in self._children}

    def ensure_begun(self, job: PlacedJob) -> None:
        if job.run not in self.observe_jobs():
            command = [sys.executable, sys.argv[0], "jobs", "--only", str(job.pk)]
            self._children[job.run] = subprocess.Popen(command, start_new_session=True)  # noqa: S603

    def ensure_removed(self, run: str) -> None:
        child = self._children.pop(run, None)
        if child is not None and child.poll() is None:
            _kill(child)

    def close(self) -> None:
        """Let those under way give their jobs back; end what does not."""
        for child in self._children.values():
            child.terminate()
        until = time.monotonic() + self._grace_seconds
        for child in self._children.values():
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
