"""The real settings, with the kinds of jobs that tests order and a short lease. For processes that tests start."""

from changecontrol.project.settings import *  # noqa: F403

JOBS = {name: f"tests.changecontrol.workflows.toy_jobs.{name}" for name in ("note", "wait", "refuse", "stumble")}
WORKFLOW_LEASE_SECONDS = 2
ROOT_URLCONF = __name__
urlpatterns: list[object] = []
