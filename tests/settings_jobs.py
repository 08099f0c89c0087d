"""The real settings, with the kinds of jobs that tests order, a short lease and little room, for processes of tests."""

from changecontrol.project.settings import *  # noqa: F403

_KINDS = ("note", "wait", "refuse", "stumble", "hoard", "fill")
JOBS = {name: f"tests.changecontrol.workflows.toy_jobs.{name}" for name in _KINDS}
JOB_DISK_GIB = JOB_DISK_GIB or 1 / 64  # type: ignore[assignment]  # noqa: F405
WORKFLOW_LEASE_SECONDS = 5
ROOT_URLCONF = __name__
urlpatterns: list[object] = []
