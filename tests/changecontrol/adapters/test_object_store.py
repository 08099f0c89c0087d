from __future__ import annotations

from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient
from tests.sessions import sessions_of

SECRETS = FakeSecrets(
    {
        "env:PAIR": "key:canary",
        "env:HALF": "canary",
        "env:CUT": '{"AccessKeyId": "key", "SecretAccessKey": "canary',
        "env:KEYLESS": '{"AccessKeyId": "key", "SessionToken": "canary"}',
        "file:/gcs": "{canary",
        "env:AZURE": "canary!",
        "env:WHO": '{"appId": "canary"}',
    }
)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/tmp/objects",
        "file://host/objects",
        "s3://",
        "s3://user@bucket",
        "s3://bucket?endpoint=https://x&skip_signature=true",
        "gs://bucket?region=here",
        "az://account/container?region=here",
        "az://account",
        "az://account/?endpoint=https://x",
        "https://bucket.example",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(Permanent):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "credential"),
    [
        ("s3://bucket", "env:HALF"),
        ("s3://bucket", "env:CUT"),
        ("s3://bucket", "env:KEYLESS"),
        ("gs://bucket/points", "file:/gcs"),
        ("az://account/container", "env:AZURE"),
        ("az://account/container", "env:WHO"),
    ],
)
def test_a_credential_of_another_form_is_refused_and_not_quoted(url: str, credential: str) -> None:
    with pytest.raises(Permanent) as raised:
        open_store(url, credential=credential, secrets=SECRETS)

    assert "canary" not in raised.value.reason


def test_a_credential_needs_something_to_read_it_with() -> None:
    with pytest.raises(Permanent, match="nothing here to read it with"):
        open_store("s3://bucket", credential="env:PAIR")


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Permanent, match="cannot be made"):
        open_store(f"file://{tmp_path}/file/objects")


def test_s3_server_that_is_down_is_transient_and_quotes_no_secret() -> None:
    store = open_store(
        "s3://bucket/prefix?endpoint=http://127.0.0.1:1",
        credential="env:PAIR",
        secrets=SECRETS,
    )

    with pytest.raises(Transient) as raised:
        store.observe_reachable()

    assert "canary" not in raised.value.reason


def test_listing_goes_on_from_where_it_was_when_its_credential_ends() -> None:
    with sessions_of(lasts=1) as sessions:
        sessions.objects |= {f"points/{number:05d}": b"1" for number in range(3500)}
        store = sessions.store()

        found = [one.key for one in store.observe_objects("points")]

        assert found == sorted(sessions.objects)
        assert sessions.given == 4


def test_range_is_read_although_the_look_at_its_object_is_refused_without_a_word() -> None:
    with sessions_of(lasts=1) as sessions:
        sessions.objects["a"] = b"0123456789"
        store = sessions.store()

        assert store.observe_object("a") == b"0123456789"
        assert store.observe_range("a", start=0, size=10) == b"0123456789"
        assert sessions.given == 3


def test_session_with_a_token_of_its_own_is_followed_by_the_next() -> None:
    with sessions_of(lasts=2) as sessions:
        sessions.objects["a"] = b"1"
        store = sessions.store(field="session")

        assert [store.observe_object("a") for _ in range(5)] == [b"1"] * 5
        assert sessions.tokens == {"token1", "token2", "token3"}


def test_session_that_is_over_and_not_followed_by_another_is_a_refusal() -> None:
    with sessions_of(lasts=2) as sessions:
        sessions.objects["points/1"] = b"1"
        store = sessions.store()
        assert (store.observe_object("points/1"), store.observe_object("points/1")) == (b"1", b"1")
        sessions.is_stopped = True

        for act, doing in (
            (lambda: store.observe_object("points/1"), "read points/1"),
            (lambda: store.ensure_object("points/2", b"2"), "store points/2"),
            (lambda: list(store.observe_objects("points")), "list points"),
        ):
            with pytest.raises(Permanent) as raised:
                act()
            assert raised.value.reason == f"The object store does not let this credential {doing}."
