"""The offline verifier: one file, no import of ours, and nothing changed gets past it."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from changecontrol.offline import verify
from changecontrol.rules.evidence import Entry, manifest_bytes, manifest_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def chain(subject: str, count: int) -> list[dict[str, Any]]:
    events, previous = [], bytes(32)
    for sequence in range(1, count + 1):
        body = json.dumps({"data": {"turn": sequence}, "subject": subject})
        found = verify.event_hash(previous, sequence, body)
        events.append(
            {
                "subject": subject,
                "sequence": sequence,
                "previous_hash": previous.hex(),
                "hash": found.hex(),
                "body": body,
            }
        )
        previous = found
    return events


def files_of_a_pack() -> dict[str, bytes]:
    plan = b'{"waves":[]}'
    digest = hashlib.sha256(plan).hexdigest()
    events = chain("changerequest:1", 4) + chain("run:1", 2)
    return {
        "verify.py": Path(verify.__file__).read_bytes(),
        "votes.json": json.dumps([{"voter": "ben", "plan_digest": digest}]).encode(),
        f"plans/{digest}.json": plan,
        verify.EVENTS: "".join(json.dumps(event) + "\n" for event in events).encode(),
        verify.KEY: pem(KEY),
    }


def signed(files: dict[str, bytes], *, key: Ed25519PrivateKey = KEY, chains: dict[str, int] | None = None) -> bytes:
    counts = {"changerequest:1": 4, "run:1": 2} if chains is None else chains
    manifest = manifest_bytes(
        manifest_of({name: Entry.of(data) for name, data in files.items()}, change="CHG-000001", chains=counts)
    )
    return zipped({**files, verify.MANIFEST: manifest, verify.SIGNATURE: base64.b64encode(key.sign(manifest))})


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def run(pack: Path, *arguments: str) -> tuple[int, str]:
    """Run the verifier as its reader would: the file from the pack, in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-I", verify.__file__, str(pack), *arguments], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "CHG-000001.zip"
    path.write_bytes(signed(files_of_a_pack()))
    return path


def test_a_whole_pack_verifies_against_the_key_one_trusts(pack: Path, tmp_path: Path) -> None:  # AUD-3
    (tmp_path / "key.pem").write_bytes(pem(KEY))

    code, said = run(pack, "--key", str(tmp_path / "key.pem"))

    assert code == 0
    assert said.splitlines()[:5] == [
        "VERIFIED",
        "files: 5, each with its SHA-256",
        "plans: 1, each with its digest",
        "votes: 1, each on a plan of this pack",
        "audit events: 6, in unbroken chains",
    ]


def test_an_unpacked_pack_verifies_itself(pack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    zipfile.ZipFile(pack).extractall(folder)

    done = subprocess.run([sys.executable, "verify.py"], cwd=folder, capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert "the key came with the pack" in done.stdout


def test_another_key_is_not_enough(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(pem(OTHER_KEY))

    code, said = run(pack, "--key", str(tmp_path / "other.pem"))

    assert (code, said.splitlines()[0]) == (
        1,
        "NOT VERIFIED: the signature is not one of this key over this manifest",
    )


@pytest.mark.parametrize("name", [*files_of_a_pack(), verify.MANIFEST, verify.SIGNATURE])
def test_one_changed_byte_of_any_file_is_caught(pack: Path, name: str) -> None:  # AUD-3
    files = {entry: zipfile.ZipFile(pack).read(entry) for entry in zipfile.ZipFile(pack).namelist()}
    position = random.Random(name).randrange(len(files[name]))
    changed = bytearray(files[name])
    changed[position] ^= 1
    pack.write_bytes(zipped({**files, name: bytes(changed)}))

    code, said = run(pack)

    assert code in {1, 2}
    assert not said.startswith("VERIFIED")
    if name not in {verify.MANIFEST, verify.SIGNATURE}:
        assert said.splitlines()[0] == f"NOT VERIFIED: {name} was changed"


def test_a_flipped_byte_of_the_archive_itself_never_verifies_as_something_else(pack: Path) -> None:
    whole = pack.read_bytes()
    dice = random.Random(7)
    for position in (dice.randrange(len(whole)) for _ in range(40)):
        pack.write_bytes(whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :])
        try:
            verify.check(str(pack), say=lambda line: None)
        except (verify.Broken, verify.CannotTell, zipfile.BadZipFile, OSError, NotImplementedError):
            continue
        # What is left is a change that no reader of the archive can see, such as a file's date.
        with zipfile.ZipFile(pack) as archive:
            assert {name: archive.read(name) for name in files_of_a_pack()} == files_of_a_pack()


def test_a_missing_and_an_added_file_are_named(pack: Path) -> None:
    files = {entry: zipfile.ZipFile(pack).read(entry) for entry in zipfile.ZipFile(pack).namelist()}

    pack.write_bytes(zipped({name: data for name, data in files.items() if name != "votes.json"}))
    assert run(pack)[1].splitlines()[0] == "NOT VERIFIED: votes.json is missing"

    pack.write_bytes(zipped({**files, "extra.txt": b"hello"}))
    assert run(pack)[1].splitlines()[0] == "NOT VERIFIED: extra.txt was added"


def test_a_vote_on_a_plan_that_is_not_here_is_refused(tmp_path: Path) -> None:
    files = files_of_a_pack()
    files["votes.json"] = json.dumps([{"voter": "ben", "plan_digest": "0" * 64}]).encode()
    pack = tmp_path / "pack.zip"
    pack.write_bytes(signed(files))

    assert run(pack)[1].splitlines()[0] == "NOT VERIFIED: the vote of ben names a plan that is not here"


def test_a_tail_cut_before_signing_does_not_fit_the_chains(tmp_path: Path) -> None:
    files = files_of_a_pack()
    files[verify.EVENTS] = b"".join(files[verify.EVENTS].splitlines(keepends=True)[:-1])
    pack = tmp_path / "pack.zip"
    pack.write_bytes(signed(files))

    assert run(pack)[1].splitlines()[0] == "NOT VERIFIED: the audit events do not end where the manifest says"


@pytest.mark.parametrize(
    "tamper, sentence",
    [
        (lambda e: e[1].update(body=e[1]["body"].replace("2", "3")), "event 2 of a was changed"),
        (lambda e: e.pop(1), "event 3 of a stands where event 2 should"),
        (lambda e: e.insert(1, e[0]), "event 1 of a stands where event 2 should"),
        (lambda e: e.reverse(), "event 3 of a stands where event 1 should"),
        (lambda e: e[1].update(previous_hash="00" * 32), "event 2 of a does not follow the event before it"),
    ],
)
def test_each_tampering_with_a_chain_is_named(tamper: Any, sentence: str) -> None:
    events = chain("a", 3)
    tamper(events)

    with pytest.raises(verify.Broken, match=sentence):
        verify.check_chains(events)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_archive_is_told_in_a_sentence_wherever_it_is_damaged(tmp_path: Path, method: int) -> None:  # AUD-3
    files = zipfile.ZipFile(io.BytesIO(signed(files_of_a_pack())))
    pack = tmp_path / "pack.zip"
    with zipfile.ZipFile(pack, "w", method) as archive:
        for name in files.namelist():
            archive.writestr(name, files.read(name), compress_type=method)
    whole = pack.read_bytes()
    dice = random.Random(11)
    for position in (dice.randrange(len(whole)) for _ in range(300)):
        changed = bytearray(whole)
        changed[position] = dice.randrange(256)
        pack.write_bytes(changed)
        verify.main([str(pack)])  # a verdict and no traceback


def test_a_file_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    pack = tmp_path / "pack.zip"
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files_of_a_pack(), verify.MANIFEST: b"{}", verify.SIGNATURE: b""}.items():
            archive.writestr(name, data)
    [info] = [one for one in zipfile.ZipFile(pack).infolist() if one.filename == verify.MANIFEST]
    whole = bytearray(pack.read_bytes())
    at = info.header_offset + 30 + len(verify.MANIFEST)
    whole[at : at + 2] = b"\xff\xff"
    pack.write_bytes(whole)

    code, said = run(pack)

    assert (code, said.startswith(f"NOT VERIFIED: {verify.MANIFEST} cannot be read")) == (1, True)


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "3", "\x00", "[{}]", '[{"plan_digest": []}]'])
def test_nonsense_in_a_signed_file_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    pack = tmp_path / "pack.zip"
    pack.write_bytes(signed({**files_of_a_pack(), "votes.json": text.encode()}))

    code, said = run(pack)

    assert (code, said.startswith("NOT VERIFIED: ")) == (1, True)


def test_an_event_may_hold_any_character(tmp_path: Path) -> None:
    events = [{**one, "body": one["body"]} for one in chain("changerequest:1\u2028\x85\u2029", 2)]
    lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    pack = tmp_path / "pack.zip"
    pack.write_bytes(
        signed({**files_of_a_pack(), verify.EVENTS: lines.encode()}, chains={events[0]["subject"]: len(events)})
    )

    assert run(pack)[0] == 0


def test_what_is_no_pack_cannot_be_told(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")

    assert run(tmp_path / "x.zip")[0] == 2
    assert run(tmp_path / "absent")[0] == 2
    assert run(tmp_path)[0] == 2


def test_without_cryptography_all_but_the_signature_is_checked_and_it_says_so(pack: Path) -> None:
    """-S leaves out installed packages, so `cryptography` is not there."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", verify.__file__, str(pack)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stdout.splitlines()[0].startswith("CANNOT TELL: the signature was not checked")
    assert "audit events: 6, in unbroken chains" in done.stdout


def test_the_verifier_stands_alone() -> None:
    tree = ast.parse(Path(verify.__file__).read_text(encoding="utf-8"))
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    assert imported - set(sys.stdlib_module_names) == {"cryptography"}
