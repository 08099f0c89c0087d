"""What the adapter makes of what Google Cloud Storage says: the answers are as documented, the tokens are verified."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from tests.google import READS, WRITES, Google, google

OF_THE_PROCESS = {
    "GOOGLE_BASE_URL": "http://127.0.0.1:1",
    "GOOGLE_BUCKET": "elsewhere",
    "GOOGLE_PROXY_URL": "http://127.0.0.1:1",
    "GOOGLE_SERVICE_ACCOUNT_KEY": "{}",
    "GOOGLE_SKIP_SIGNATURE": "true",
}


@pytest.fixture
def server() -> Iterator[Google]:
    with google() as state:
        yield state


def opened(server: Google, secret: str, *, bucket: str = "evidence") -> ObjectStore:
    url = f"gs://{bucket}/packs?endpoint={server.url}/"
    return open_store(url, credential="env:GOOGLE", secrets=FakeSecrets({"env:GOOGLE": secret}))


def test_object_that_retention_keeps_stays_and_the_sentence_says_why(server: Google) -> None:
    store = opened(server, server.make_account("writer", WRITES))
    store.ensure_object("a", b"1")
    server.kept.add("packs/a")

    with pytest.raises(Permanent, match="could not delete a: a lock, a hold, a lease or a snapshot of its own keeps"):
        store.ensure_absent("a")

    assert store.observe_object("a") == b"1"


def test_bucket_that_does_not_exist_is_said_and_nothing_is_missing_from_it(server: Google) -> None:
    store = opened(server, server.make_account("writer", WRITES), bucket="absent")
    sentence = "could not {} a: its bucket does not exist"

    with pytest.raises(Permanent, match=sentence.format("store")):
        store.ensure_object("a", b"1")
    with pytest.raises(Permanent, match=sentence.format("read")):
        store.observe_object("a")
    with pytest.raises(Permanent, match=sentence.format("read")):
        store.observe_range("a", start=0, size=1)
    with pytest.raises(Permanent, match=sentence.format("list")):
        list(store.observe_objects("a"))
    with pytest.raises(Permanent, match=sentence.format("delete")):
        store.ensure_absent("a")


def test_a_credential_by_reference_is_what_counts_and_not_that_of_the_environment(
    server: Google, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    everything = tmp_path / "everything.json"
    everything.write_text(server.make_account("writer", WRITES))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(everything))
    url = f"gs://evidence/packs?endpoint={server.url}"

    open_store(url).ensure_object("a", b"1")
    for name, value in OF_THE_PROCESS.items():
        monkeypatch.setenv(name, value)
    assert opened(server, server.make_account("reader", READS)).observe_object("a") == b"1"
    with pytest.raises(Permanent, match="does not let this credential store b"):
        opened(server, server.make_account("reader", READS)).ensure_object("b", b"1")


def test_two_service_accounts_are_refused_with_the_way_out(
    server: Google, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))

    with pytest.raises(Permanent, match="say GOOGLE_APPLICATION_CREDENTIALS instead"):
        opened(server, server.make_account("writer", WRITES))


def test_credential_that_is_no_service_account_is_refused_and_not_quoted(server: Google) -> None:
    person = '{"type": "authorized_user", "client_id": "x", "client_secret": "canary", "refresh_token": "canary"}'

    with pytest.raises(Permanent, match="address or credential of the Google Cloud Storage is not accepted") as raised:
        opened(server, person)

    assert "canary" not in raised.value.reason
