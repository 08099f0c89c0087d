from __future__ import annotations

import os
from pathlib import Path

import pytest

from changecontrol.adapters.secrets import ReferencedSecrets
from changecontrol.errors import Permanent, Transient

CANARY = "canary-value"


def secret_file(folder: Path, *, mode: int = 0o600, content: bytes = CANARY.encode()) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_environment_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TOKEN", CANARY)

    assert ReferencedSecrets().read("env:GIT_TOKEN") == CANARY


def test_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    secrets = ReferencedSecrets()
    first = secrets.read(f"file:{path}")
    path.write_text("renewed")

    assert (first, secrets.read(f"file:{path}")) == (CANARY, "renewed")


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_file_open_to_every_user_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, mode=mode)

    with pytest.raises(Permanent, match="open to every user") as refusal:
        ReferencedSecrets().read(f"file:{path}")

    assert CANARY not in refusal.value.reason


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, says in [("absent", "does not exist"), ("pipe", "not a regular file"), (".", "not a regular file")]:
        with pytest.raises(Permanent, match=says):
            ReferencedSecrets().read(f"file:{tmp_path / name}")


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_nothing_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    path = secret_file(tmp_path, content=content)
    monkeypatch.setenv("GIT_TOKEN", content.decode())

    with pytest.raises(Transient, match=f"The secret file {path} is empty."):
        ReferencedSecrets().read(f"file:{path}")
    with pytest.raises(Permanent, match="GIT_TOKEN is not set"):
        ReferencedSecrets().read("env:GIT_TOKEN")


def test_content_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    for content, says in [(b"\xff\xfe", "not text"), (b"x" * (1024 * 1024 + 1), "larger than")]:
        path = secret_file(tmp_path, content=content)

        with pytest.raises(Permanent, match=says):
            ReferencedSecrets().read(f"file:{path}")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"),
        ("vault:secret/git#token", "VAULT_ADDR"),
        ("file:relative", "absolute path"),
        (CANARY, "named as env:NAME"),
        (f"https://{CANARY}", "named as env:NAME"),
    ],
)
def test_other_references_are_refused_without_echo(reference: str, says: str) -> None:
    with pytest.raises(Permanent, match=says) as refusal:
        ReferencedSecrets().read(reference)

    assert CANARY not in refusal.value.reason
