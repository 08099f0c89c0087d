"""The evidence pack: whole, the same bytes each time, for those who may have it, and without a secret in it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

from changecontrol import audit
from changecontrol.actions.approvals import cast_vote
from changecontrol.actions.evidence import store_artefact
from changecontrol.actions.exports import Pack, export_evidence_pack
from changecontrol.errors import Conflict, Forbidden, NotFound
from changecontrol.events import Tag
from changecontrol.models import ApprovalPolicy, AuditEvent, ChangeRequest, Requirement, User
from changecontrol.rules.roles import Role
from tests.factories.changes import authorized_change
from tests.factories.estate import NOW, SmallEstate, actor, add_person, grant, small_estate, stranger_estate

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def estate(db: None) -> SmallEstate:
    return small_estate()


def keep(change: ChangeRequest, name: str, data: bytes, *, by: User) -> None:
    store_artefact(
        change_id=change.pk,
        name=name,
        media_type="application/json",
        data=data,
        source="gate dry_run",
        actor=actor(by),
        at=NOW,
    )


@pytest.fixture
def change(estate: SmallEstate) -> ChangeRequest:
    """Waits for its approvers; Cy has reviewed it, and an artefact is kept."""
    change = authorized_change(estate)
    review = Requirement.objects.get(round__change=change, role=Role.TECHNICAL_REVIEWER)
    assert change.plan is not None
    cast_vote(
        actor=actor(estate.cy),
        requirement_id=review.pk,
        verdict="approve",
        seen_digest=change.plan.digest,
        comment="Rehearsed: 41 s.",
        at=NOW,
    )
    keep(change, "dry-run.json", b'{"differences": []}', by=estate.ada)
    return change


@pytest.fixture(autouse=True)
def signing(tmp_path: Path) -> Iterator[Path]:
    key = tmp_path / "evidence.pem"
    call_command("make_evidence_key", str(key), stdout=io.StringIO())
    with override_settings(
        EVIDENCE_SIGNING_KEY=f"file:{key}", OBJECT_STORE_URL=f"file://{tmp_path}/objects", EVIDENCE_CONTRIBUTORS=[]
    ):
        yield key.with_suffix(".public.pem")


def unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def verify(data: bytes, folder: Path, key: Path) -> tuple[int, str]:
    pack = folder / "pack.zip"
    pack.write_bytes(data)
    program = folder / "verify.py"
    program.write_bytes(unzip(data)["verify.py"])
    done = subprocess.run(
        [sys.executable, "-I", str(program), str(pack), "--key", str(key)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def read(pack: Pack) -> bytes:
    with pack.file:
        return pack.file.read()


def test_an_auditor_s_pack_verifies_by_the_program_in_it(
    estate: SmallEstate, change: ChangeRequest, signing: Path, tmp_path: Path
) -> None:  # AUD-3
    pack = export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)

    code, said = verify(read(pack), tmp_path, signing)

    assert pack.name == f"{change.number}.zip"
    assert (code, said.splitlines()[0]) == (0, "VERIFIED")


def test_a_pack_holds_what_was_asked_decided_and_done(estate: SmallEstate, change: ChangeRequest) -> None:
    files = unzip(read(export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)))

    assert {
        "README.txt",
        "approvals.json",
        "change.json",
        "events.ndjson",
        "gates.json",
        "manifest.json",
        "manifest.sig",
        "plan.json",
        "public_key.pem",
        "report.html",
        "report.pdf",
        "verify.py",
        "votes.json",
    } <= files.keys()
    assert json.loads(files["change.json"])["number"] == change.number
    [vote] = json.loads(files["votes.json"])
    assert (vote["voter"], vote["verdict"], vote["comment"]) == ("cy", "approve", "Rehearsed: 41 s.")
    assert change.plan is not None
    assert files[f"plans/{change.plan.digest}.json"] == change.plan.document.encode()
    assert [data for name, data in files.items() if name.endswith("dry-run.json")] == [b'{"differences": []}']
    assert len(files["events.ndjson"].splitlines()) == AuditEvent.objects.filter(change=change).count()
    assert files["report.pdf"].startswith(b"%PDF-")
    assert "Rehearsed: 41 s." in files["report.html"].decode()


def test_whatever_people_write_the_pack_verifies(
    estate: SmallEstate, change: ChangeRequest, signing: Path, tmp_path: Path
) -> None:  # AUD-3
    words = "Line\u2028paragraph\u2029next\x85\x0b\x0c\x1c\x1etab\t\u202eright to left, 𝒻 and <b>&amp;</b>"
    cast_vote(
        actor=actor(estate.ben),
        requirement_id=Requirement.objects.get(round__change=change, role=Role.CHANGE_MANAGER).pk,
        verdict="reject",
        seen_digest=change.plan.digest,
        comment=words,
        at=NOW,
    )

    pack = export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)

    data = read(pack)
    assert verify(data, tmp_path, signing)[0] == 0
    assert json.loads(unzip(data)["votes.json"])[-1]["comment"] == words.strip()


def test_the_same_pack_asked_twice_is_the_same_bytes(estate: SmallEstate, change: ChangeRequest) -> None:
    one = export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)
    other = export_evidence_pack(actor=actor(estate.ben), change_id=change.pk, at=LATER + timedelta(days=1))

    assert read(one) == read(other)


def test_a_pack_is_never_held_in_memory_whole(estate: SmallEstate, change: ChangeRequest) -> None:
    size, count = 4_000_000, 10
    for number in range(count):
        keep(change, f"gate-{number}.json", os.urandom(size), by=estate.ada)
    read(export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER))  # imports, templates, fonts
    tracemalloc.start()

    pack = export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    pack.file.close()
    assert pack.size > size * count
    assert peak < size * count / 2


def test_what_happens_elsewhere_later_leaves_the_pack_as_it_is(estate: SmallEstate, change: ChangeRequest) -> None:
    before = read(export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER))

    for thing in (estate.tenant, estate.production, estate.pilot, estate.region, estate.process):
        thing.name = "Another name"
        thing.save()
    for person in (estate.ada, estate.ben, estate.cy):
        person.display_name, person.zone, person.email = "Another name", "Asia/Tokyo", f"{person.pk}@elsewhere.example"
        person.save()
    ApprovalPolicy.objects.update(name="Another name")
    authorized_change(estate, title="Another change")
    stranger_estate()

    assert read(export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)) == before


def test_an_export_is_recorded_with_the_manifest_it_gave(estate: SmallEstate, change: ChangeRequest) -> None:  # AUD-1
    pack = export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)

    assert pack.size == len(read(pack))
    event = AuditEvent.objects.get(tag=Tag.EVIDENCE_EXPORTED)
    assert (event.actor, event.tenant, event.change) == (estate.dee, estate.tenant, None)
    assert json.loads(event.body)["data"] == {
        "change": change.number,
        "manifest_sha256": pack.manifest_sha256,
        "size": pack.size,
    }


def test_a_stranger_finds_no_such_change(change: ChangeRequest) -> None:  # BIZ-1
    _, eve = stranger_estate()

    with pytest.raises(NotFound):
        export_evidence_pack(actor=actor(eve), change_id=change.pk, at=LATER)


def test_who_may_only_look_is_refused_and_that_is_recorded(estate: SmallEstate, change: ChangeRequest) -> None:
    onlooker = add_person("eve")
    grant(onlooker, Role.FREEZE_OWNER, estate.tenant)

    with pytest.raises(Forbidden):
        export_evidence_pack(actor=actor(onlooker), change_id=change.pk, at=LATER)

    assert AuditEvent.objects.filter(tag=Tag.REFUSED, actor=onlooker).count() == 1
    assert not AuditEvent.objects.filter(tag=Tag.EVIDENCE_EXPORTED).exists()


def test_without_a_key_no_pack_is_made(estate: SmallEstate, change: ChangeRequest) -> None:
    with override_settings(EVIDENCE_SIGNING_KEY=""), pytest.raises(Conflict, match="EVIDENCE_SIGNING_KEY is not set"):
        export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)


def test_a_changed_artefact_in_the_store_stops_the_pack(
    estate: SmallEstate, change: ChangeRequest, tmp_path: Path
) -> None:
    [stored] = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    stored.write_bytes(b'{"differences": [1]}')

    with pytest.raises(Conflict, match=r"“dry-run.json” is missing or was changed"):
        export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)


def test_a_store_that_does_not_answer_is_said_and_no_fault(
    estate: SmallEstate, change: ChangeRequest, tmp_path: Path
) -> None:
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    (tmp_path / "objects").write_text("no folder")

    with pytest.raises(Conflict, match="does not answer"):
        export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)


def test_the_report_grows_with_the_change_and_not_with_its_targets(estate: SmallEstate, change: ChangeRequest) -> None:
    with transaction.atomic():
        for number in range(300):
            audit.record(Tag.TARGET_MOVED, subject=f"runtarget:{number}", change=change, actor=actor(estate.cy), at=NOW)

    files = unzip(read(export_evidence_pack(actor=actor(estate.dee), change_id=change.pk, at=LATER)))

    report = files["report.html"].decode()
    assert "run:target:moved" not in report
    assert "300 more events are about single targets and objects" in report
    assert "change:approval:cast" in report
    assert files["events.ndjson"].count(b"run:target:moved") == 300
