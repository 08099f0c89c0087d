"""The real settings with a short lease, for worker processes that a scene kills and replaces."""

from __future__ import annotations

from changecontrol.project.settings import *  # noqa: F403

WORKFLOW_LEASE_SECONDS = 6
