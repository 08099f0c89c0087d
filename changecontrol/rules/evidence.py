"""What an evidence pack lists. Pure: what its files are in, the manifest's bytes out. `offline.verify` checks it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from changecontrol.offline.verify import FORMAT
from changecontrol.rules.plan import canonical


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of one file. `size` is in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> Entry:
        return cls(hashlib.sha256(data).hexdigest(), len(data))


def manifest_of(files: Mapping[str, Entry], *, change: str, chains: Mapping[str, int]) -> dict[str, Any]:
    """Describe the files and how many events each chain has. Raises `ValueError` for a path that leaves the pack."""
    for path in files:
        parts = path.split("/")
        if not path or "\\" in path or any(part in {"", ".", ".."} for part in parts):
            raise ValueError(f"“{path}” is no path inside a pack.")
    return {
        "format": FORMAT,
        "change": change,
        "chains": dict(chains),
        "files": {path: asdict(entry) for path, entry in files.items()},
    }


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the bytes that are stored and signed: one way to write each manifest."""
    return canonical(dict(manifest)) + b"\n"
