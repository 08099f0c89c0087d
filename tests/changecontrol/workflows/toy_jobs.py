"""Jobs for tests: what they did stands in the folder that their order names, a line for each time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from changecontrol.errors import Permanent, Transient
from changecontrol.workflows.jobs import Report, taking_room_in


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


def hoard(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Have a process of its own take 300 MiB of memory, and wait."""
    child = subprocess.Popen([sys.executable, "-c", "import time; kept = b'x' * 300 * 1024**2; time.sleep(60)"])
    try:
        child.wait(60)
    finally:
        child.kill()
        child.wait()
    return {}


def fill(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Write 32 MiB into a folder two levels below the order's, and wait."""
    sandbox = Path(order["folder"]) / "sandbox"
    with taking_room_in(sandbox):
        (sandbox / "data").mkdir(parents=True)
        (sandbox / "data" / "file").write_bytes(b"x" * 32 * 1024**2)
        time.sleep(60)
    return {}


def refuse(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    raise Permanent("The key does not open this.")


def stumble(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    raise Transient("The store does not answer.")


JOBS = {name: f"{__name__}.{name}" for name in ("note", "wait", "refuse", "stumble", "hoard", "fill")}
