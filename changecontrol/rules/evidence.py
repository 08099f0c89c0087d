"""What an evidence pack lists. Pure: files in, the manifest's bytes out. `changecontrol.offline.verify` checks it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from changecontrol.offline.verify import FORMAT
from changecontrol.rules.plan import canonical


def manifest_of(files: Mapping[str, bytes], *, change: str, chains: Mapping[str, int]) -> dict[str, Any]:
    """Describe the files and how many events each chain has. Raises `ValueError` for a path that leaves the pack."""
    for path in files:
        parts = path.split("/")
        if not path or "\\" in path or any(part in {"", ".", ".."} for part in parts):
            raise ValueError(f"“{path}” is no path inside a pack.")
    return {
        "format": FORMAT,
        "change": change,
        "chains": dict(chains),
        "files": {
            path: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for path, data in files.items()
        },
    }


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the bytes that are stored and signed: one way to write each manifest."""
    return canonical(dict(manifest)) + b"\n"
