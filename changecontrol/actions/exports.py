"""Builds the evidence pack of a change: one zip file that proves itself offline.

The pack holds what is recorded and nothing of the moment it is asked for, so asked twice without anything happening in
between it is the same bytes. That somebody exported is recorded on the person's own chain, outside the pack.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.template.loader import render_to_string
from django.utils.module_loading import import_string

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.errors import Conflict, NotFound, Permanent
from changecontrol.events import Tag
from changecontrol.models import ChangeRequest
from changecontrol.offline import verify
from changecontrol.queries import evidence
from changecontrol.rules.evidence import manifest_bytes, manifest_of
from changecontrol.rules.roles import Ability

ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The zip format's first date: a date of today would make two packs differ."""

README = """Evidence of {number}

Verify it, offline, with Python 3 (and its package "cryptography" for the signature):

    python3 verify.py {number}.zip --key PUBLIC_KEY.pem

or, unpacked, python3 verify.py in this folder. Exit code 0: everything holds; 1: something was changed, and the first
line names it; 2: it cannot be told. PUBLIC_KEY.pem is the key your platform administrator gave you; without it the
pack's own is used, and its fingerprint is printed for you to compare.

report.pdf, report.html   for people
change.json               what was asked, by whom, and how it ended
plan.json, plans/         every revision, and every plan as the bytes its digest is taken of
gates.json, gates/        every verdict, and what the tools wrote
approvals.json, votes.json
run/, manifests/          what was carried out, on what, and what was measured
events.ndjson             the audit events, each with the hash of the one before
manifest.json, manifest.sig, public_key.pem
"""


@dataclass(frozen=True, slots=True)
class Pack:
    """A built pack, and the SHA-256 of its manifest, which the audit trail keeps."""

    name: str
    data: bytes
    manifest_sha256: str


def export_evidence_pack(*, actor: Actor, change_id: int, at: datetime) -> Pack:
    """Build the pack of a change and record who took it. Raises `NotFound`, `Forbidden`, or `Conflict` without a key."""
    with transaction.atomic():
        # One snapshot: nothing may be written between two of the files.
        change = (
            access.visible(access.scope_of(actor), ChangeRequest.objects.all())
            .select_for_update(of=["self"])
            .filter(pk=change_id)
            .first()
        )
        if change is None:
            raise NotFound("There is no such change.")
        access.require(actor, Ability.EVIDENCE_EXPORT, change)
        files = _files(change)
        try:
            signer = wiring.adapter("signer")(settings.EVIDENCE_SIGNING_KEY, secrets=wiring.adapter("secrets")())
        except Permanent as refusal:
            raise Conflict(refusal.reason) from refusal
        files["public_key.pem"] = signer.public_key()
        manifest = manifest_bytes(
            manifest_of(files, change=change.number, chains=_chains(files[verify.EVENTS].decode().splitlines()))
        )
        pack = Pack(
            name=f"{change.number}.zip",
            data=_zip(
                {
                    **files,
                    verify.MANIFEST: manifest,
                    verify.SIGNATURE: base64.b64encode(signer.sign(manifest)),
                }
            ),
            manifest_sha256=_sha256(manifest),
        )
        audit.record(
            Tag.EVIDENCE_EXPORTED,
            subject=actor.person,
            actor=actor,
            at=at,
            tenant=change.tenant_id,
            data={"change": change.number, "manifest_sha256": pack.manifest_sha256, "size": len(pack.data)},
        )
    return pack


def _files(change: ChangeRequest) -> dict[str, bytes]:
    store = wiring.adapter("object_store")(settings.OBJECT_STORE_URL)
    facts, gates, rounds, votes = (
        evidence.change_facts(change),
        evidence.gate_facts(change),
        evidence.round_facts(change),
        evidence.vote_facts(change),
    )
    revisions = evidence.plan_facts(change)
    files: dict[str, bytes] = {
        "README.txt": README.format(number=change.number).encode(),
        "verify.py": Path(verify.__file__).read_bytes(),
        "change.json": _json(facts),
        "plan.json": _json({"current": facts["plan_digest"], "revisions": revisions}),
        "gates.json": _json(gates),
        "approvals.json": _json(rounds),
        "votes.json": _json(votes),
        verify.EVENTS: b"".join(_json(line, indent=None) for line in evidence.event_lines(change)),
    }
    files.update({f"plans/{digest}.json": document for digest, document in evidence.plan_documents(change)})
    for artefact in evidence.artefacts(change):
        data = store.observe_object(f"sha256/{artefact.sha256[:2]}/{artefact.sha256}")
        if data is None or _sha256(data) != artefact.sha256:
            raise Conflict(f"The stored artefact “{artefact.name}” is missing or was changed: no pack can be made.")
        files[f"artefacts/{artefact.sha256[:12]}-{artefact.name}"] = data
    for path in settings.EVIDENCE_CONTRIBUTORS:
        files.update(dict(import_string(path)(change)))
    report = render_to_string(
        "changecontrol/evidence_report.html",
        {
            "change": facts,
            "revision": revisions[-1] if revisions else None,
            "gates": gates,
            "rounds": rounds,
            "votes": votes,
            "timeline": evidence.timeline(change),
        },
    )
    files["report.html"] = report.encode()
    files["report.pdf"] = wiring.adapter("pdf")(report)
    return files


def _chains(lines: list[str]) -> dict[str, int]:
    """Return how many events each subject's chain has."""
    counts: dict[str, int] = {}
    for line in lines:
        subject = json.loads(line)["subject"]
        counts[subject] = counts.get(subject, 0) + 1
    return counts


def _json(value: Any, *, indent: int | None = 2) -> bytes:
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _zip(files: Mapping[str, bytes]) -> bytes:
    """Return the files as a zip: sorted, undated, the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if name.endswith(".py") else 0o644) << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()
