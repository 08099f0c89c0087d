#!/usr/bin/env python3
"""Verifies a ChangeControl evidence pack offline: `python3 verify.py PACK [--key PUBLIC_KEY.pem]`.

PACK is the zip file or the folder it was unpacked to. Exit codes: 0, everything holds; 1, something was changed, and
the first line says what; 2, it cannot be told (not a pack, or no `cryptography` to check the signature with).
Python 3.8 or newer and its standard library; the signature alone needs the package `cryptography`.

What this proves: the files are those that the holder of the key signed, the plan digests are those of the plans, each
vote names a plan that is in the pack, and the audit events form unbroken chains. What it cannot prove: that the key is
whose you think (compare its fingerprint), or that the server recorded what really happened.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

FORMAT = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
KEY = "public_key.pem"
EVENTS = "events.ndjson"
UNLISTED = {MANIFEST, SIGNATURE}
"""Not in the manifest: the manifest itself and its signature."""
FILE_BYTES_LIMIT = 512 * 1024 * 1024
PART_BYTES = 1024 * 1024
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
"""What reading a damaged archive raises; RuntimeError is also a password, an unknown method and too deep a nesting."""


class Broken(Exception):
    """Something is not what it was when it was signed."""


class CannotTell(Exception):
    """There is not enough here to judge."""


def event_hash(previous_hash: bytes, sequence: int, body: str) -> bytes:
    """Return sha256(previous hash || sequence as 8 bytes, big-endian || body as UTF-8)."""
    return hashlib.sha256(previous_hash + sequence.to_bytes(8, "big") + body.encode("utf-8")).digest()


def check_chains(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Follow every subject's chain from its first event; return how many events each has. Raises `Broken`.

    An event is {"subject", "sequence", "previous_hash", "hash", "body"}, hashes in hexadecimal, in order of sequence.
    """
    tips: dict[str, bytes] = {}
    counts: dict[str, int] = {}
    for event in events:
        subject, sequence = str(event["subject"]), int(event["sequence"])
        name = f"event {sequence} of {subject}"
        expected = counts.get(subject, 0) + 1
        if sequence != expected:
            raise Broken(f"{name} stands where event {expected} should: one is missing, repeated or moved")
        previous = tips.get(subject, bytes(32))
        if bytes.fromhex(event["previous_hash"]) != previous:
            raise Broken(f"{name} does not follow the event before it")
        found = event_hash(previous, sequence, event["body"])
        if bytes.fromhex(event["hash"]) != found:
            raise Broken(f"{name} was changed: its content does not have its hash")
        if json.loads(event["body"]).get("subject") != subject:
            raise Broken(f"{name} was moved from another subject")
        tips[subject], counts[subject] = found, expected
    return counts


class Pack:
    """The files of a pack, from a zip file or a folder."""

    def __init__(self, path: str) -> None:
        self._open: Callable[[str], IO[bytes]]
        if os.path.isdir(path):
            self.names = self._names_below(path)
            self._open = lambda name: open(os.path.join(path, *name.split("/")), "rb")  # noqa: SIM115
        elif zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            listed = [info for info in archive.infolist() if not info.is_dir()]
            self.names = {info.filename for info in listed}
            if len(self.names) != len(listed):
                raise Broken("the archive holds two files of one name")
            large = [info.filename for info in listed if info.file_size > FILE_BYTES_LIMIT]
            if large:
                raise CannotTell(f"{large[0]} is larger than {FILE_BYTES_LIMIT} bytes")
            self._open = archive.open
        else:
            raise CannotTell(f"{path} is neither a zip file nor a folder")

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises `Broken`, naming it, where it cannot be read."""
        return b"".join(self.parts(name))

    def parts(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes in parts of a size that any machine holds. Raises `Broken` as `read` does."""
        try:
            with self._open(name) as file:
                while True:
                    part = file.read(PART_BYTES)
                    if not part:
                        return
                    yield part
        except UNREADABLE as problem:
            raise Broken(f"{name} cannot be read: {problem}") from None

    @staticmethod
    def _names_below(root: str) -> set[str]:
        found = set()
        for folder, _, files in os.walk(root):
            for name in files:
                found.add(os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/"))
        return found


def check_files(pack: Pack, manifest: dict[str, Any]) -> int:
    """Compare every file with the manifest; return how many there are."""
    listed: dict[str, dict[str, Any]] = manifest["files"]
    for name in sorted(listed):
        if name not in pack.names:
            raise Broken(f"{name} is missing")
        size, digest = 0, hashlib.sha256()
        for part in pack.parts(name):
            size += len(part)
            digest.update(part)
        if size != listed[name]["size"] or digest.hexdigest() != listed[name]["sha256"]:
            raise Broken(f"{name} was changed")
    added = sorted(pack.names - set(listed) - UNLISTED)
    if added:
        raise Broken(f"{added[0]} was added")
    return len(listed)


def check_plans(pack: Pack) -> set[str]:
    """Each plan's file is named by its digest; return the digests."""
    digests = set()
    for name in sorted(pack.names):
        if name.startswith("plans/") and name.endswith(".json"):
            digest = name[len("plans/") : -len(".json")]
            if hashlib.sha256(pack.read(name)).hexdigest() != digest:
                raise Broken(f"{name} is not the plan its name says")
            digests.add(digest)
    return digests


def check_votes(pack: Pack, digests: set[str]) -> int:
    """Each vote names a plan of this pack; return how many votes there are."""
    votes: list[dict[str, Any]] = json.loads(pack.read("votes.json"))
    for vote in votes:
        if vote["plan_digest"] not in digests:
            raise Broken("the vote of {} names a plan that is not here".format(vote["voter"]))
    return len(votes)


def check_events(pack: Pack, manifest: dict[str, Any]) -> int:
    """Follow the chains of the pack; each ends where the manifest says. Return how many events there are."""
    # By bytes: as text, a line would also end at characters that may stand inside of one, such as U+2028.
    lines = pack.read(EVENTS).splitlines()
    counts = check_chains(json.loads(line) for line in lines)
    if counts != manifest["chains"]:
        raise Broken("the audit events do not end where the manifest says")
    return len(lines)


def check_signature(pack: Pack, key_file: str | None) -> str:
    """Check the manifest's signature; return the key's fingerprint."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise CannotTell("the signature was not checked: install the Python package “cryptography”") from None
    try:
        key = serialization.load_pem_public_key(_bytes_of(key_file) if key_file else pack.read(KEY))
    except (ValueError, OSError) as problem:
        raise CannotTell(f"the public key cannot be read: {problem}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise CannotTell("the public key is not an Ed25519 key")
    try:
        key.verify(base64.b64decode(pack.read(SIGNATURE), validate=True), pack.read(MANIFEST))
    except (InvalidSignature, ValueError):
        raise Broken("the signature is not one of this key over this manifest") from None
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def check(path: str, key_file: str | None = None, say: Callable[[str], None] = print) -> None:
    """Check a pack, saying each thing that holds. Raises `Broken` or `CannotTell` at the first that does not."""
    pack = Pack(path)
    missing = sorted({MANIFEST, SIGNATURE} - pack.names)
    if missing:
        raise CannotTell(f"{missing[0]} is missing: this is not a whole evidence pack")
    try:
        manifest = json.loads(pack.read(MANIFEST))
        if manifest["format"] != FORMAT:
            raise CannotTell(f"this pack is of format {manifest['format']}; this program knows format {FORMAT}")
        say(f"files: {check_files(pack, manifest)}, each with its SHA-256")
        digests = check_plans(pack)
        say(f"plans: {len(digests)}, each with its digest")
        say(f"votes: {check_votes(pack, digests)}, each on a plan of this pack")
        say(f"audit events: {check_events(pack, manifest)}, in unbroken chains")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise Broken(f"a file is not readable as what it should be: {problem}") from None
    say(f"signature: good, key {check_signature(pack, key_file)}")
    if not key_file:
        say("note: the key came with the pack; compare its fingerprint with the one you were given")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--key", help="the public key you trust, in PEM; without it the pack's own is used")
    options = parser.parse_args(arguments)
    lines: list[str] = []
    try:
        check(options.pack, options.key, lines.append)
    except Broken as problem:
        return _end(f"NOT VERIFIED: {problem}", lines, 1)
    except (CannotTell, *UNREADABLE) as problem:
        return _end(f"CANNOT TELL: {problem}", lines, 2)
    return _end("VERIFIED", lines, 0)


def _bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _end(verdict: str, lines: list[str], code: int) -> int:
    sys.stdout.write("\n".join([verdict, *lines]) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
