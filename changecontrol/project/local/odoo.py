"""A real Odoo 19 for tests: Debian's package unpacked below a folder, its Python needs in an environment of its own.

`python -m changecontrol.project.local.odoo` sets it up and runs the tests marked `odoo`. Nothing is installed into the
system. As root Odoo runs as an unprivileged user, so it lies where that user can reach it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from changecontrol.project.local.distribution import shared_folder
from changecontrol.project.local.processes import (
    Account,
    LocalServiceError,
    run_as,
    unprivileged_account,
    waiting_lock,
)
from changecontrol.project.local.services import CLONE

LOCK_FILE = CLONE / "requirements" / "odoo.lock"
SUITE = "sid"
# The fonts and scripts are what Odoo's pages link to: without them every page is an error, while calls work.
PACKAGES = (
    "odoo-19",
    "libjs-jquery",
    "libjs-jquery-form",
    "libjs-underscore",
    "fonts-font-awesome",
    "fonts-roboto-unhinted",
    "fonts-montserrat",
    "fonts-inconsolata",
    "fonts-ocr-b",
    "fonts-glyphicons-halflings",
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = ("/etc/apt/sources.list.d", "/etc/apt/sources.list")
PYTHONS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3", "/usr/bin/python3.11", "/usr/bin/python3.12")
OLDEST, NEWEST = (3, 11), (3, 12)
"""For newer ones some of the packages that Odoo 19 names have no wheels."""


def main(arguments: list[str]) -> int:
    """Set Odoo up and run the tests that need it; return pytest's code."""
    try:
        command = ensure_odoo()
    except LocalServiceError as error:
        sys.exit(str(error))
    tests = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "odoo", *(arguments or ["tests/recovery"])]
    environment = os.environ | {"TEST_ODOO_COMMAND": str(command)}
    return subprocess.run(tests, cwd=CLONE, env=environment, check=False).returncode


def ensure_odoo() -> Path:
    """Return the program of an Odoo made from the pinned needs, after making it where there is none.

    Raises `LocalServiceError` with a sentence about what is in the way.
    """
    account = unprivileged_account()
    parent = CLONE / ".local" if account is None else shared_folder()
    parent.mkdir(exist_ok=True)
    folder = parent / f"odoo-{_key()}"
    with waiting_lock(parent / "odoo.lock"):
        if not (folder / "odoo").is_file():
            print(f"Setting Odoo 19 up in {folder}; this takes a minute or two.", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o755)
            _unpack(folder)
            _make_environment(folder, account=account)
            # Last, so that a half-made one is made again.
            _write_program(folder)
    return folder / "odoo"


def _key() -> str:
    made_of = f"{SUITE} {PACKAGES} {os.uname().machine}".encode() + LOCK_FILE.read_bytes()
    return hashlib.sha256(made_of).hexdigest()[:12]


def _unpack(folder: Path) -> None:
    if not shutil.which("apt-get") or not KEYRING.is_file():
        raise LocalServiceError("Odoo comes as Debian's package, and this machine has no apt-get with Debian's keys.")
    apt = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial", "packages"):
        (apt / part).mkdir(parents=True)
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_archive()} {SUITE} main\n")
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
    }
    apt_get = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt_get, "update"], cwd=apt, refusal="Debian's list of packages could not be fetched")
    _run([*apt_get, "download", *PACKAGES], cwd=apt / "packages", refusal="Debian's packages could not be fetched")
    for package in sorted((apt / "packages").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(folder / "root")], cwd=folder, refusal=f"{package.name} does not unpack")
    shutil.rmtree(apt)


def _archive() -> str:
    """Return the address of Debian's archive that this machine takes its own packages from."""
    listed = [*sorted(Path(SOURCES[0]).glob("*")), Path(SOURCES[1])]
    for path in (path for path in listed if path.is_file()):
        for words in map(str.split, path.read_text(errors="replace").splitlines()):
            is_source = bool(words) and words[0] in ("URIs:", "deb")
            for word in words[1:] if is_source else []:
                if "://" in word and not word.rstrip("/").endswith("-security"):
                    return word
    raise LocalServiceError("This machine's apt names no archive of Debian from which Odoo could be fetched.")


def _make_environment(folder: Path, *, account: Account | None) -> None:
    python = _python_for(account)
    environment = folder / "python"
    _run([python, "-m", "venv", "--without-pip", str(environment)], cwd=folder, refusal="Python made no environment")
    install = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "-qq"]
    install += ["--no-input", "--disable-pip-version-check", "--require-hashes", "--prefer-binary"]
    install += ["--requirement", str(LOCK_FILE)]
    _run(install, cwd=folder, refusal="Odoo's Python packages could not be installed")


def _python_for(account: Account | None) -> str:
    """Return a Python that the user whom Odoo runs as can reach: ours may lie where only root enters."""
    question = "import sys; print(*sys.version_info[:2])"
    for python in PYTHONS:
        base = os.path.realpath(python)
        try:
            found = subprocess.run(
                [base, "-c", question], capture_output=True, text=True, check=False, cwd="/", **run_as(account)
            )
        except OSError:
            continue
        if found.returncode == 0 and OLDEST <= tuple(map(int, found.stdout.split())) <= NEWEST:
            return base
    raise LocalServiceError(
        "Odoo needs Python 3.11 or 3.12"
        + (f", where the user '{account.name}' can reach it; install Debian's python3." if account else ".")
    )


def _write_program(folder: Path) -> None:
    code = folder / "root" / "usr" / "lib" / "python3" / "dist-packages"
    draft = folder / "odoo.draft"
    draft.write_text(f'#!/bin/sh\nPYTHONPATH={code} exec {folder}/python/bin/python -m odoo "$@"\n')
    draft.chmod(0o755)
    draft.rename(folder / "odoo")


def _run(command: list[str], *, cwd: Path, refusal: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise LocalServiceError(f"{refusal}: {lines[-1] if lines else 'it says nothing'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
