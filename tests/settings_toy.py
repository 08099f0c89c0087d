"""The real settings, with the toy workflows of the engine's tests and a short lease. For processes that tests start."""

from __future__ import annotations

from changecontrol.project.settings import *  # noqa: F403

WORKFLOWS = [
    "tests.changecontrol.workflow.toy.ToyTarget",
    "tests.changecontrol.workflow.toy.ToyRun",
]
WORKFLOW_LEASE_SECONDS = 4
ROOT_URLCONF = __name__
urlpatterns: list[object] = []
"""Workers answer no requests."""
