"""What an evidence pack lists and how a subject's chain of audit events is checked. Pure: bytes in, findings out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from changecontrol.rules.plan import canonical

MANIFEST_FORMAT = "changecontrol-evidence/1"
GENESIS = bytes(32)
"""What the first event of a subject names as its predecessor."""


@dataclass(frozen=True, slots=True)
class ChainedEvent:
    """One event as stored. `body` is its canonical JSON text; hashes are raw; `sequence` counts from 1 per subject."""

    sequence: int
    previous_hash: bytes
    body: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class BadEvent:
    """The first event that does not hold."""

    sequence: int
    sentence: str


def event_hash(*, previous_hash: bytes, sequence: int, body: str) -> bytes:
    """Return SHA-256 of the previous hash (32 bytes), the sequence (8 bytes, big endian) and the body (UTF-8)."""
    if len(previous_hash) != 32:
        raise ValueError("A previous hash is 32 bytes.")
    return hashlib.sha256(previous_hash + sequence.to_bytes(8, "big") + body.encode()).digest()


def verify_chain(events: Iterable[ChainedEvent]) -> BadEvent | None:
    """Name the first event that is missing, out of place or altered; None where the chain holds. Order is as given."""
    previous, expected = GENESIS, 1
    for event in events:
        if event.sequence != expected:
            return BadEvent(event.sequence, f"Event {expected} is missing: event {event.sequence} stands in its place.")
        if event.previous_hash != previous:
            return BadEvent(event.sequence, f"Event {event.sequence} does not follow the event before it.")
        if event.hash != event_hash(previous_hash=previous, sequence=event.sequence, body=event.body):
            return BadEvent(event.sequence, f"Event {event.sequence} was altered: its hash does not fit its content.")
        previous, expected = event.hash, expected + 1
    return None


def manifest_of(files: Mapping[str, bytes], *, subject: str) -> dict[str, Any]:
    """Describe the files of a pack, in order of their paths. Raises `ValueError` for a path that leaves the pack."""
    for path in files:
        parts = path.split("/")
        if not path or "\\" in path or any(part in {"", ".", ".."} for part in parts):
            raise ValueError(f"“{path}” is no path inside a pack.")
    return {
        "format": MANIFEST_FORMAT,
        "subject": subject,
        "files": [
            {"path": path, "sha256": hashlib.sha256(files[path]).hexdigest(), "size": len(files[path])}
            for path in sorted(files)
        ],
    }


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the bytes that are stored and signed."""
    return canonical(dict(manifest)) + b"\n"


def verify_files(manifest: Mapping[str, Any], *, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Say in sentences which files are missing, altered or not listed; an empty tuple where all is as listed."""
    listed = {entry["path"]: entry for entry in manifest["files"]}
    sentences: list[str] = []
    for path in sorted(listed.keys() | files.keys()):
        if path not in files:
            sentences.append(f"{path} is missing.")
        elif path not in listed:
            sentences.append(f"{path} is not listed in the manifest.")
        elif hashlib.sha256(files[path]).hexdigest() != listed[path]["sha256"]:
            sentences.append(f"{path} was altered.")
    return tuple(sentences)
