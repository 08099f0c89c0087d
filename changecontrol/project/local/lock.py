"""Writes requirements/*.lock from pyproject.toml and odoo.in with uv, which stays in a tool environment of its own."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from changecontrol.project.local.services import CLONE

TOOL = CLONE / ".local" / "uv"
# One lock for every platform and every Python from 3.11 on; no index address, so that each machine uses its own.
OPTIONS = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-header")
LOCKS = {
    "runtime": ("pyproject.toml",),
    "dev": ("pyproject.toml", "--group", "dev"),
    "odoo": ("requirements/odoo.in",),
}


def main() -> int:
    """Make all lock files; return uv's code when it refuses."""
    program = TOOL / "bin" / "uv"
    if not program.exists():
        venv.create(TOOL, with_pip=True, clear=True)
        subprocess.run([TOOL / "bin" / "python", "-m", "pip", "install", "-qq", "--no-input", "uv"], check=True)
    for name, sources in LOCKS.items():
        target = Path("requirements") / f"{name}.lock"
        command: list[str | Path] = [
            program,
            "pip",
            "compile",
            *sources,
            *OPTIONS,
            "--upgrade",
            "--quiet",
            "-o",
            target,
        ]
        done = subprocess.run(command, cwd=CLONE, check=False)
        if done.returncode != 0:
            return done.returncode
        print(f"{target} written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
