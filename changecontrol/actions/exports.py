"""Builds the evidence pack of a change: one zip file that proves itself offline.

The pack holds what is recorded and nothing of the moment it is asked for, so asked twice without anything happening in
between it is the same bytes. It grows in a file, one artefact after another, whatever its size. That somebody exported
is recorded on the person's own chain, outside the pack.
"""

from __future__ import annotations

import base64
import json
import tempfile
import zipfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self

from django.conf import settings
from django.db import transaction
from django.template.loader import render_to_string
from django.utils.module_loading import import_string

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.evidence import observe_artefacts
from changecontrol.actions.locking import locked_change
from changecontrol.actions.refusals import audited
from changecontrol.errors import Conflict, Permanent
from changecontrol.events import Tag
from changecontrol.models import ChangeRequest
from changecontrol.offline import verify
from changecontrol.queries import evidence
from changecontrol.queries.evidence import Timeline
from changecontrol.rules.evidence import Entry, manifest_bytes, manifest_of
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
gates.json                every verdict
approvals.json, votes.json
artefacts/                rendered manifests, differences, and what each gate wrote
runs/                     what was carried out, on what, and what was measured
events.ndjson             the audit events, each with the hash of the one before
manifest.json, manifest.sig, public_key.pem
"""


@dataclass(frozen=True, slots=True)
class Pack:
    """A built pack, and the SHA-256 of its manifest, which the audit trail keeps.

    `file` stands at its beginning, has no name on disk, and is gone once it is closed. `size` is in bytes.
    """

    name: str
    file: IO[bytes]
    size: int
    manifest_sha256: str


@audited
def export_evidence_pack(*, actor: Actor, change_id: int, at: datetime) -> Pack:
    """Build the pack of a change and record who took it. Raises `Conflict` where there is no key to sign with."""
    with transaction.atomic():
        # Under the lock nothing is written between two of the facts; fetching, printing and signing come after it.
        change = locked_change(actor, change_id)
        access.require(actor, Ability.EVIDENCE_EXPORT, change)
        facts = _facts(change)
        kept = evidence.artefacts(change)
        contributed = {
            path: data for name in settings.EVIDENCE_CONTRIBUTORS for path, data in import_string(name)(change)
        }
    try:
        signer = wiring.adapter("signer")(settings.EVIDENCE_SIGNING_KEY, secrets=wiring.secrets())
    except Permanent as refusal:
        raise Conflict(refusal.reason) from refusal
    documents = {**_documents(facts), **contributed, verify.KEY: signer.public_key()}
    with ExitStack() as until_built:
        file = until_built.enter_context(tempfile.TemporaryFile())
        with _Zip(file) as pack:
            for name, data in sorted(documents.items()):
                pack.add(name, data)
            for artefact, data in observe_artefacts(kept):
                pack.add(f"artefacts/{artefact.sha256[:12]}-{artefact.name}", data)
            manifest = manifest_bytes(manifest_of(pack.entries, change=change.number, chains=_chains(facts.events)))
            pack.add(verify.MANIFEST, manifest)
            pack.add(verify.SIGNATURE, base64.b64encode(signer.sign(manifest)))
        size, manifest_sha256 = file.tell(), Entry.of(manifest).sha256
        with transaction.atomic():
            audit.record(
                Tag.EVIDENCE_EXPORTED,
                subject=actor.person,
                actor=actor,
                at=at,
                tenant=change.tenant_id,
                data={"change": change.number, "manifest_sha256": manifest_sha256, "size": size},
            )
        file.seek(0)
        until_built.pop_all()  # whoever sends the pack closes it
    return Pack(name=f"{change.number}.zip", file=file, size=size, manifest_sha256=manifest_sha256)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the database says of one change, at one moment."""

    change: dict[str, Any]
    revisions: list[dict[str, Any]]
    plans: dict[str, bytes]
    gates: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    votes: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    events: list[dict[str, Any]]
    timeline: Timeline


def _facts(change: ChangeRequest) -> _Facts:
    return _Facts(
        change=evidence.change_facts(change),
        revisions=evidence.plan_facts(change),
        plans=dict(evidence.plan_documents(change)),
        gates=evidence.gate_facts(change),
        rounds=evidence.round_facts(change),
        votes=evidence.vote_facts(change),
        runs=evidence.run_facts(change),
        events=evidence.event_lines(change),
        timeline=evidence.timeline(change),
    )


def _documents(facts: _Facts) -> dict[str, bytes]:
    """Return the files that are written from facts: the JSON, the report, and the program that verifies them."""
    number = str(facts.change["number"])
    report = render_to_string(
        "changecontrol/evidence_report.html",
        {
            "change": facts.change,
            "revision": facts.revisions[-1] if facts.revisions else None,
            "plan": json.loads(facts.plans[facts.change["plan_digest"]]) if facts.change["plan_digest"] else None,
            "runs": facts.runs,
            "gates": facts.gates,
            "rounds": facts.rounds,
            "votes": facts.votes,
            "timeline": facts.timeline,
        },
    )
    return {
        "README.txt": README.format(number=number).encode(),
        "verify.py": Path(verify.__file__).read_bytes(),
        "change.json": _json(facts.change),
        "plan.json": _json({"current": facts.change["plan_digest"], "revisions": facts.revisions}),
        "gates.json": _json(facts.gates),
        "approvals.json": _json(facts.rounds),
        "votes.json": _json(facts.votes),
        "report.html": report.encode(),
        "report.pdf": wiring.adapter("pdf")(report),
        verify.EVENTS: b"".join(_json(line, indent=None) for line in facts.events),
        **{f"plans/{digest}.json": document for digest, document in facts.plans.items()},
    }


def _chains(events: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many events each subject's chain has."""
    return dict(Counter(str(event["subject"]) for event in events))


def _json(value: Any, *, indent: int | None = 2) -> bytes:
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent) + "\n").encode()


class _Zip:
    """A zip written file by file, undated: the same files in the same order are the same bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self.entries: dict[str, Entry] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def add(self, name: str, data: bytes) -> None:
        if name in self.entries:
            return  # one artefact kept under one name twice is one file
        info = zipfile.ZipInfo(name, date_time=ZIP_DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (0o755 if name.endswith(".py") else 0o644) << 16
        self._archive.writestr(info, data)
        self.entries[name] = Entry.of(data)
