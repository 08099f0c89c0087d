"""What an S3 store may answer of a lock, and where a signed address must not go."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectLock, ObjectStore
from tests.changecontrol.adapters.https_server import HttpsServer, Reply, serve

UNTIL = "X-Amz-Object-Lock-Retain-Until-Date"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    with serve(lambda _: Reply(), folder=tmp_path, scheme="http") as found:
        yield found


def store_at(url: str) -> ObjectStore:
    secrets = FakeSecrets({"env:PAIR": "key:canary"})
    return open_store(f"s3://bucket/shops?endpoint={url}", credential="env:PAIR", secrets=secrets)


@pytest.mark.parametrize("mode", ["COMPLIANCE", "GOVERNANCE"])
@pytest.mark.parametrize("said", ["2026-11-30T14:46:45Z", "2026-11-30T14:46:45.000Z", "2026-11-30T15:46:45+01:00"])
def test_lock_of_either_mode_is_told_by_its_end(server: HttpsServer, mode: str, said: str) -> None:
    server.answer = lambda _: Reply(headers={"X-Amz-Object-Lock-Mode": mode, UNTIL: said})

    lock = store_at(server.url).observe_lock("a")

    assert lock == ObjectLock(datetime(2026, 11, 30, 14, 46, 45, tzinfo=UTC))
    assert [(one.method, one.path) for one in server.requests] == [("HEAD", "/bucket/shops/a")]


@pytest.mark.parametrize(
    "said", ["soon", "2026-11-30T14:46:45", "2026-13-30T14:46:45Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]
)
def test_time_that_is_none_says_nothing(server: HttpsServer, said: str) -> None:
    server.answer = lambda _: Reply(headers={UNTIL: said})

    assert store_at(server.url).observe_lock("a") is None


@pytest.mark.parametrize(
    ("reply", "error", "sentence"),
    [
        (Reply(400), Transient, "The object store could not tell the lock of a now."),
        (Reply(401), Permanent, "The object store does not let this credential tell the lock of a."),
        (Reply(403), Permanent, "The object store does not let this credential tell the lock of a."),
        (Reply(503), Transient, "The object store could not tell the lock of a now."),
        (Reply(cut=True), Transient, "The object store could not tell the lock of a now."),
    ],
    ids=["400", "401", "403", "503", "cut"],
)
def test_each_refusal_has_a_sentence_and_quotes_no_signature(
    server: HttpsServer, caplog: pytest.LogCaptureFixture, reply: Reply, error: type[Exception], sentence: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer = lambda _: reply

    with pytest.raises(error) as raised:
        store_at(server.url).observe_lock("a")

    assert getattr(raised.value, "reason", "") == sentence
    assert "X-Amz-Signature" in server.requests[0].params
    assert server.requests[0].params["X-Amz-Signature"] not in caplog.text


def test_signature_is_not_brought_to_where_a_redirect_leads(server: HttpsServer, tmp_path: Path) -> None:
    with serve(lambda _: Reply(headers={UNTIL: "2026-11-30T14:46:45Z"}), folder=tmp_path, scheme="http") as other:
        server.answer = lambda _: Reply(307, headers={"Location": f"{other.url}/bucket/shops/a"})

        with pytest.raises(Transient, match="could not tell the lock of a now"):
            store_at(server.url).observe_lock("a")

    assert other.requests == []


def test_no_password_of_the_machine_goes_along(
    server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password canary")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    store_at(server.url).observe_lock("a")

    assert "authorization" not in {name.lower() for name in server.requests[0].headers}


def test_certificate_that_nobody_trusts_is_no_answer(tmp_path: Path) -> None:
    with serve(lambda _: Reply(headers={UNTIL: "2026-11-30T14:46:45Z"}), folder=tmp_path) as server:
        with pytest.raises(Transient, match="could not tell the lock of a now"):
            store_at(server.url).observe_lock("a")

        assert server.requests == []
