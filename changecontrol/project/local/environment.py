"""Makes `.venv` from the hash-pinned lock file: `python3 changecontrol/project/local/environment.py`.

Run as a file, before any package is installed, so it imports the standard library alone. An environment is used only
when its stamp names this lock, this Python and this place; a half-made or outdated one is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

OLDEST_PYTHON = (3, 11)
CLONE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
LOCK_FILE = os.path.join(CLONE, "requirements", "dev.lock")
ENVIRONMENT = os.path.join(CLONE, ".venv")
STAMP = os.path.join(ENVIRONMENT, "made-from")


def main() -> int:
    """Return 0 once the environment is there, else 1 after a sentence about what is in the way."""
    if sys.version_info < OLDEST_PYTHON:
        return _refuse(
            "ChangeControl needs Python 3.11 or newer, and this is {}.{} ({}). "
            "Name a newer one, such as: make demo PYTHON=python3.12".format(*sys.version_info[:2], sys.executable)
        )
    os.makedirs(os.path.join(CLONE, ".local"), exist_ok=True)
    with open(os.path.join(CLONE, ".local", "environment.lock"), "w") as lock:
        # Two commands at once in a fresh clone: the second waits, then finds it made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = stamp()
        if _found_stamp() == wanted and os.access(os.path.join(ENVIRONMENT, "bin", "python"), os.X_OK):
            return 0
        return _make(wanted)


def stamp() -> str:
    """Describe what an environment was made from: the lock file, the Python, and where it stands."""
    with open(LOCK_FILE, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return f"{digest} {sys.implementation.name}-{sys.version.split()[0]} {ENVIRONMENT}\n"


def _found_stamp() -> str:
    try:
        with open(STAMP) as file:
            return file.read()
    except OSError:
        return ""


def _make(wanted: str) -> int:
    print("Making the Python environment in .venv from requirements/dev.lock; this takes a minute or two.", flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        detail = (made.stdout + made.stderr).strip().splitlines()
        return _refuse(
            "Python could not make a virtual environment; on Debian and Ubuntu install python3-venv. "
            + (detail[-1] if detail else "")
        )
    command = [os.path.join(ENVIRONMENT, "bin", "python"), "-m", "pip", "install", "-qq", "--no-input"]
    command += ["--disable-pip-version-check", "--require-hashes", "--prefer-binary", "--requirement", LOCK_FILE]
    if subprocess.run(command, check=False).returncode != 0:
        return _refuse("The packages could not be installed: pip says above why. Run the same command to try again.")
    with open(STAMP, "w") as file:
        file.write(wanted)
    return 0


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
