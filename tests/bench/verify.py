"""Verifying an evidence pack of about 50 MB, as its reader would, against the SHA-256 of the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from changecontrol.actions import exports
from changecontrol.offline import verify
from changecontrol.rules.evidence import Entry, manifest_bytes, manifest_of
from tests.bench.harness import Figure, in_turns
from tests.plugin import TestDatabase

TARGETS = 500
EVENTS_OF_A_TARGET = 8
MANIFEST_BYTES = 40_000
ROUNDS = 3


def measure(database: TestDatabase) -> Iterator[Figure]:
    files = _files()
    size = sum(len(data) for data in files.values())
    with tempfile.TemporaryDirectory(prefix="changecontrol-bench-") as folder:
        path = Path(folder) / "CHG-000001.zip"
        with path.open("wb") as file, exports._Zip(file) as pack:
            for name, data in sorted(files.items()):
                pack.add(name, data)
        key = Path(folder) / "key.pem"
        key.write_bytes(files[verify.KEY])
        ours, floor = in_turns(
            lambda: verify.check(str(path), str(key), say=lambda line: None),
            lambda: [hashlib.sha256(data).digest() for data in files.values()],
            rounds=ROUNDS,
        )
    megabytes = size / 1_000_000
    yield Figure("verify_pack", megabytes / ours, "MB/s", megabytes / floor)
    yield Figure("verify_pack_seconds", ours, "s", floor)


def _files() -> dict[str, bytes]:
    """Return the files of a rollout over 500 targets: rendered manifests, diffs, events, and a large tool's answer."""
    chance = random.Random(1)
    plan = json.dumps({"targets": [f"Deployment/odoo-{n}" for n in range(TARGETS)]}).encode()
    digest = hashlib.sha256(plan).hexdigest()
    events, chains = _events()
    files = {
        "verify.py": Path(verify.__file__).read_bytes(),
        "votes.json": json.dumps([{"voter": "ben", "plan_digest": digest}]).encode(),
        f"plans/{digest}.json": plan,
        verify.EVENTS: events,
        # What a scanner writes packs as text does; a screenshot or an archive within does not.
        "artefacts/scan.json": json.dumps(
            [hashlib.sha256(bytes([n % 251])).hexdigest() for n in range(150_000)]
        ).encode(),
        "artefacts/report.tar.gz": chance.randbytes(15_000_000),
    }
    for number in range(TARGETS):
        line = f"- name: ODOO_{number}\n  value: {chance.getrandbits(64):x}\n"
        files[f"manifests/odoo-{number}.yaml"] = (line * (MANIFEST_BYTES // len(line))).encode()
    signing = Ed25519PrivateKey.generate()
    public = signing.public_key()
    files[verify.KEY] = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    manifest = manifest_bytes(
        manifest_of({name: Entry.of(data) for name, data in files.items()}, change="CHG-000001", chains=chains)
    )
    return {**files, verify.MANIFEST: manifest, verify.SIGNATURE: base64.b64encode(signing.sign(manifest))}


def _events() -> tuple[bytes, dict[str, int]]:
    lines, chains = [], {}
    for number in range(TARGETS):
        subject, previous = f"runtarget:{number}", bytes(32)
        for sequence in range(1, EVENTS_OF_A_TARGET + 1):
            sentence = f"production Deployment/odoo-{number}: healthy, 2 of 2 pods run the new version."
            body = json.dumps({"data": {"sentence": sentence, "turn": sequence}, "subject": subject})
            found = verify.event_hash(previous, sequence, body)
            event = {"subject": subject, "sequence": sequence, "body": body}
            lines.append(json.dumps({**event, "previous_hash": previous.hex(), "hash": found.hex()}))
            previous = found
        chains[subject] = EVENTS_OF_A_TARGET
    return ("\n".join(lines) + "\n").encode(), chains
