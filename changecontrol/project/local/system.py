"""What no Python package brings: Chromium for the browser tests and Pango for PDF reports.

As root on a Debian-like machine they are installed; otherwise a sentence says what to install and what is left out.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Need:
    """One thing that the machine should bring."""

    name: str
    packages: tuple[str, ...]
    without: str

    def is_met(self) -> bool:
        """Tell whether the machine has it."""
        if self.name == "Chromium":
            return any(shutil.which(browser) for browser in BROWSERS)
        return all(ctypes.util.find_library(library) for library in ("pango-1.0", "pangoft2-1.0"))


NEEDS = (
    Need(name="Chromium", packages=("chromium",), without="the browser tests are skipped"),
    Need(
        name="Pango",
        packages=("libpango-1.0-0", "libpangoft2-1.0-0"),
        without="evidence packs come without report.pdf, and its tests are skipped",
    ),
)


def main() -> int:
    """Install or name what is missing. Always 0: everything else works without."""
    missing = [need for need in NEEDS if not need.is_met()]
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
    sys.exit(main())
