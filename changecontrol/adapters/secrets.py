"""Reads secrets by reference: `env:NAME`, `file:/path`, `vault:path#field`. Never logs, quotes or keeps them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from changecontrol.adapters.vault import VaultSettings, read_vault
from changecontrol.errors import Permanent, Transient

MAX_SECRET_BYTES = 1024 * 1024


class ReferencedSecrets:
    """The `Secrets` port on environment variables, files and a vault."""

    def __init__(self, *, vault: VaultSettings | None = None) -> None:
        self._vault = vault

    def read(self, reference: str) -> str:
        scheme, separator, rest = reference.partition(":")
        if separator and scheme == "env":
            return _read_variable(rest)
        if separator and scheme == "file":
            return _read_file(rest)
        if separator and scheme == "vault":
            return read_vault(rest, self._vault)
        # The reference itself may be a secret somebody pasted, so it is not quoted.
        raise Permanent("A secret is named as env:NAME, file:/absolute/path or vault:path#field.")


def open_secrets(*, vault: Mapping[str, str]) -> ReferencedSecrets:
    """Return the port with the vault of this installation; without an address there is none."""
    return ReferencedSecrets(vault=VaultSettings(**vault) if vault["address"] else None)


def _read_variable(name: str) -> str:
    value = os.environ.get(name)
    if not value or not value.strip():
        raise Permanent(f"The environment variable {name} is not set." if name.isidentifier() else "No such variable.")
    return value


def _read_file(name: str) -> str:
    path = Path(name)
    if not path.is_absolute():
        raise Permanent("A secret file is named by its absolute path.")
    try:
        # The descriptor is checked, not the name: a file swapped in between is not read unchecked. Not blocking, so
        # that a named pipe cannot hang the worker.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Permanent(f"The secret file {path} does not exist.") from None
    except OSError as error:
        raise Permanent(f"The secret file {path} cannot be read: {error.strerror}.") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise Permanent(f"The secret file {path} is not a regular file.")
    with os.fdopen(descriptor, "rb") as file:
        if mode & stat.S_IRWXO:
            raise Permanent(f"The secret file {path} is open to every user. Take that away: chmod o-rwx {path}")
        try:
            content = file.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise Transient(f"The secret file {path} cannot be read now: {error.strerror}.") from None
    if len(content) > MAX_SECRET_BYTES:
        raise Permanent(f"The secret file {path} is larger than {MAX_SECRET_BYTES // 1024} KiB.")
    try:
        secret = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Permanent(f"The secret file {path} is not text.") from None
    if not secret.strip():
        # Nothing would count as no credential, and what else the process has in its place. Whoever renews the file may
        # just have emptied it.
        raise Transient(f"The secret file {path} is empty.")
    return secret
