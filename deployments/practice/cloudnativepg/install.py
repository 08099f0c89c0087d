"""Makes an estate know the operator's kinds, as an administrator installs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deployments.practice.estate import Estate

MANAGER = "practice-administrator"


def definitions() -> list[dict[str, Any]]:
    """Return the definitions of Backup, Cluster, ScheduledBackup and the plugin's ObjectStore."""
    found: list[dict[str, Any]] = json.loads(Path(__file__).with_name("definitions.json").read_text())
    return found


def install(estate: Estate) -> None:
    """Make the estate know the operator's kinds; its controllers act on them from then on."""
    for definition in definitions():
        if not estate.has(definition):
            estate.ensure_applied(definition, manager=MANAGER)
