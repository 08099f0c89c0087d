"""What no Python package brings: Chromium for the browser tests and Pango for PDF reports.

As root on a Debian-like machine they are installed; otherwise a sentence says what to install and what is left out.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PANGO_LIBRARIES = ("libpango-1.0.so.0", "libpangoft2-1.0.so.0")


@dataclass(frozen=True)
class Need:
    """One thing that the machine should bring."""

    name: str
    packages: tuple[str, ...]
    without: str
    is_met: Callable[[], bool]


def has_browser() -> bool:
    """Tell whether there is a Chromium to run."""
    return any(shutil.which(browser) for browser in BROWSERS)


def has_pango() -> bool:
    """Tell whether the libraries that draw PDF files can be loaded."""
    for library in PANGO_LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            return False
    return True


PANGO = Need(
    name="Pango",
    packages=("libpango-1.0-0", "libpangoft2-1.0-0"),
    without="evidence packs come without report.pdf, and its tests are skipped",
    is_met=has_pango,
)
CHROMIUM = Need(name="Chromium", packages=("chromium",), without="the browser tests are skipped", is_met=has_browser)
NEEDS = {"demo": (PANGO,), "test": (PANGO, CHROMIUM)}


def main(purpose: str) -> int:
    """Install or name what this purpose lacks. Always 0: everything else works without."""
    missing = [need for need in NEEDS[purpose] if not need.is_met()]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        _install([package for need in missing for package in need.packages])
    for need in missing:
        if not need.is_met():
            packages = " ".join(need.packages)
            print(f"{need.name} is not installed, so {need.without}. On Debian or Ubuntu: apt-get install {packages}")
    return 0


def _install(packages: list[str]) -> None:
    print(f"Installing {', '.join(packages)} with apt-get.", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).strip().splitlines()
            print(f"apt-get did not succeed: {lines[-1] if lines else 'it says nothing'}", file=sys.stderr)
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "test"))
