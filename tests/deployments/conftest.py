"""The scene of a rollout, for the tests of workflows, gates, actions and queries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from changecontrol import clock
from tests.deployments.workflows.scene import ADAPTERS, NOW, Scene, setting


@pytest.fixture
def scene(db: None, settings: Any, tmp_path: Path) -> Iterator[Scene]:
    """Northwind, ready to deploy: windows are open, time stands at Monday 10:12 UTC but for the test's own pace."""
    settings.ADAPTERS = {**settings.ADAPTERS, **ADAPTERS}
    clock.set_offset(NOW - datetime.now(UTC))
    with setting(tmp_path) as playing:
        yield playing
    clock.set_offset(timedelta())
