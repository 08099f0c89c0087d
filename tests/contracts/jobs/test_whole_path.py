"""A job is done in a cluster from order to end: `manage.py jobs` on one side, a pod's process on the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from changecontrol import clock
from changecontrol.actions.jobs import ask_stop, ensure_job
from changecontrol.models import Job
from tests.contracts.jobs.conftest import Ground
from tests.kubelet import Kubelet
from tests.plugin import ROOT, TestDatabase

pytestmark = pytest.mark.slow

KEY = "drill/1"
SETTINGS = "tests.settings_jobs"


@pytest.fixture(autouse=True)
def true_time() -> Iterator[None]:
    clock.set_offset(timedelta())
    yield
    clock.set_offset(timedelta())


@pytest.fixture
def kubelet(ground: Ground, fresh_db: TestDatabase) -> Iterator[Kubelet]:
    environment = {"DATABASE_URL": fresh_db.url, "DJANGO_SETTINGS_MODULE": SETTINGS}
    with ground.kubelet(environment) as kubelet:
        yield kubelet


@pytest.fixture
def dispatch(ground: Ground, fresh_db: TestDatabase, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start `manage.py jobs`, which has jobs done in the cluster."""
    credential = tmp_path / "kubeconfig"
    credential.write_text(ground.kubeconfig)
    credential.chmod(0o600)
    words = {
        **os.environ,
        "DATABASE_URL": fresh_db.url,
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "JOBS_IN_KUBERNETES": "note,wait,refuse",
        "JOBS_CLUSTER": f"file:{credential}",
        "JOBS_NAMESPACE": ground.place.namespace,
        "JOBS_IMAGE": ground.place.image,
        "JOBS_SECRET": ground.place.secret,
        "JOB_DISK_GIB": "1",
    }
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "manage.py", "jobs"], cwd=ROOT, env=words))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def order(kind: str, folder: Path) -> Job:
    at = clock.now()
    return ensure_job(key=KEY, kind=kind, order={"folder": str(folder)}, at=at, deadline_at=at + timedelta(hours=1))


def row() -> Job:
    return Job.objects.get(key=KEY)


def until(holds: Callable[[], bool], *, seconds: float = 150) -> None:
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at, list(Job.objects.values())
        time.sleep(0.1)


def cleared(ground: Ground) -> bool:
    return row().placed_at is None and ground.jobs() == [] and ground.pods() == []


def begun(folder: Path) -> int:
    path = folder / "began"
    return len(path.read_text().split()) if path.exists() else 0


def test_a_job_is_done_by_a_pod_and_nothing_is_left(
    ground: Ground, kubelet: Kubelet, dispatch: Callable[[], object], tmp_path: Path
) -> None:
    order("note", tmp_path)

    dispatch()

    until(lambda: row().state == "done")
    until(lambda: cleared(ground))
    assert (row().result, row().attempts, len(kubelet.begun)) == ({"lines": 1}, 0, 1)


def test_a_killed_pod_is_told_and_its_job_goes_on_in_another(
    ground: Ground, kubelet: Kubelet, dispatch: Callable[[], object], tmp_path: Path
) -> None:
    order("wait", tmp_path)
    dispatch()
    until(lambda: begun(tmp_path) == 1)

    (first,) = kubelet.begun.values()
    os.killpg(first.pid, signal.SIGKILL)
    until(lambda: row().trouble == "Its pod took more memory than it may, and was ended (JOB_MEMORY_MIB).")
    until(lambda: begun(tmp_path) == 2)
    (tmp_path / "go").touch()

    until(lambda: row().state == "done")
    until(lambda: cleared(ground))
    assert len(kubelet.begun) == 2


def test_a_deleted_kubernetes_job_gives_its_work_back_and_another_goes_on(
    ground: Ground, kubelet: Kubelet, dispatch: Callable[[], object], tmp_path: Path
) -> None:
    order("wait", tmp_path)
    dispatch()
    until(lambda: begun(tmp_path) == 1)

    path = f"{ground.path('jobs', base='/apis/batch/v1')}/{ground.jobs()[0]['metadata']['name']}"
    ground.admin.call("DELETE", path, doing="delete", body={"propagationPolicy": "Background"})
    until(lambda: begun(tmp_path) == 2)
    assert row().attempts == 0
    (tmp_path / "go").touch()

    until(lambda: row().state == "done")
    until(lambda: cleared(ground))


def test_a_pod_goes_on_while_whoever_began_it_is_away(
    ground: Ground, kubelet: Kubelet, dispatch: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    order("wait", tmp_path)
    first = dispatch()
    until(lambda: begun(tmp_path) == 1)

    first.kill()
    first.wait()
    (tmp_path / "go").touch()
    until(lambda: row().state == "done")
    assert row().placed_at is not None

    dispatch()
    until(lambda: cleared(ground))
    assert len(kubelet.begun) == 1


def test_a_stop_ends_the_pod(ground: Ground, kubelet: Kubelet, dispatch: Callable[[], object], tmp_path: Path) -> None:
    order("wait", tmp_path)
    dispatch()
    until(lambda: begun(tmp_path) == 1)

    ask_stop(key=KEY, at=clock.now())

    until(lambda: row().state == "stopped")
    until(lambda: cleared(ground))
    assert row().reason == "Stopped because somebody asked for it."
