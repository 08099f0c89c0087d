"""Jobs for tests: what they did stands in the folder that their order names, a line for each time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from changecontrol.errors import Permanent, Transient
from changecontrol.workflows.jobs import Report


def note(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Write one line, and return how often that was done."""
    report({"percent": 50})
    path = Path(order["folder"]) / "done"
    with path.open("a") as file:
        file.write("once\n")
    return {"lines": len(path.read_text().splitlines())}


def wait(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Say that it has begun, start a process of its own, and wait until the order's file is there, 60 s at most."""
    folder = Path(order["folder"])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with (folder / "began").open("a") as file:
        file.write(f"{child.pid}\n")
    report({"waits": True})
    ends_at = time.monotonic() + 60
    try:
        while not (folder / "go").exists() and time.monotonic() < ends_at:
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    return {"waited": True}


def refuse(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    raise Permanent("The key does not open this.")


def stumble(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    raise Transient("The store does not answer.")


JOBS = {name: f"{__name__}.{name}" for name in ("note", "wait", "refuse", "stumble")}
