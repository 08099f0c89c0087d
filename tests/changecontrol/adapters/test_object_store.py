from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient
from tests.changecontrol.adapters.https_server import Reply, Request, serve
from tests.sessions import sessions_of

SECRETS = FakeSecrets(
    {
        "env:PAIR": "key:canary",
        "env:SESSION": json.dumps({"AccessKeyId": "key", "SecretAccessKey": "canary", "SessionToken": "mine"}),
        "env:HALF": "canary",
        "env:CUT": '{"AccessKeyId": "key", "SecretAccessKey": "canary',
        "env:KEYLESS": '{"AccessKeyId": "key", "SessionToken": "canary"}',
        "file:/gcs": "{canary",
        "env:AZURE": "canary!",
        "env:SIGNATURE": "sv=2020-08-04&sig=canary",
        "env:WHO": '{"appId": "canary"}',
        "env:NUMBER": '{"appId": "canary", "password": "canary", "tenant": "corp", "authority": 1}',
    }
)
NOWHERE = "http://127.0.0.1:1"
OF_THE_PROCESS = {
    "AWS_ACCESS_KEY_ID": "process",
    "AWS_SECRET_ACCESS_KEY": "process",
    "AWS_SESSION_TOKEN": "process",
    "AWS_ENDPOINT": NOWHERE,
    "AWS_ENDPOINT_URL": NOWHERE,
    "AWS_ENDPOINT_URL_S3": NOWHERE,
    "AWS_REGION": "elsewhere",
    "AWS_DEFAULT_REGION": "elsewhere",
    "AWS_BUCKET": "elsewhere",
    "AWS_PROXY_URL": NOWHERE,
    "AWS_ALLOW_HTTP": "false",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_UNSIGNED_PAYLOAD": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_REQUEST_PAYER": "requester",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_SSE_CUSTOMER_KEY_BASE64": "cHJvY2Vzcw==",
    "AWS_SSE_KMS_KEY_ID": "process",
}


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
        ("az://account/container", "env:NUMBER"),
    ],
)
def test_a_credential_of_another_form_is_refused_and_not_quoted(url: str, credential: str) -> None:
    with pytest.raises(Permanent) as raised:
        open_store(url, credential=credential, secrets=SECRETS)

    assert "canary" not in raised.value.reason


def test_a_credential_needs_something_to_read_it_with() -> None:
    with pytest.raises(Permanent, match="nothing here to read it with"):
        open_store("s3://bucket", credential="env:PAIR")


def sent(request: Request) -> tuple[object, ...]:
    """Return what a request says, but for what its time alone makes of it."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    signed = re.sub(r"/\d{8}/|Signature=\w+", "", headers.get("authorization", ""))
    plain = {name: value for name, value in headers.items() if name not in ("authorization", "x-amz-date")}
    return request.method, request.path, signed, plain


@pytest.mark.parametrize(("credential", "token"), [("env:PAIR", None), ("env:SESSION", "mine")])
def test_a_credential_by_reference_is_what_counts_and_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, credential: str, token: str | None
) -> None:
    with serve(lambda _: Reply(headers={"ETag": '"1"'}), folder=tmp_path, scheme="http") as server:
        url = f"s3://bucket/shops?endpoint={server.url}"
        open_store(url, credential=credential, secrets=SECRETS).ensure_object("a", b"1")
        for name, value in OF_THE_PROCESS.items():
            monkeypatch.setenv(name, value)
        open_store(url, credential=credential, secrets=SECRETS).ensure_object("a", b"1")

    alone, among = (sent(one) for one in server.requests)
    assert among == alone
    assert [dict(one.headers).get("x-amz-security-token") for one in server.requests] == [token, token]
    assert "Credential=key" in str(alone[2])


@pytest.mark.parametrize(
    ("url", "credential", "variable", "setting", "value"),
    [
        (
            *("s3://bucket?region=eu-west-1", "env:PAIR", "AWS_ENDPOINT_URL_S3"),
            *("endpoint_url_s3", "https://s3.eu-west-1.amazonaws.com"),
        ),
        (
            *("az://account/container", "env:SIGNATURE", "AZURE_STORAGE_ENDPOINT"),
            *("endpoint", "https://account.blob.core.windows.net"),
        ),
    ],
)
def test_an_address_without_an_endpoint_names_the_provider_s_own(
    monkeypatch: pytest.MonkeyPatch, url: str, credential: str, variable: str, setting: str, value: str
) -> None:
    monkeypatch.setenv(variable, NOWHERE)

    store = open_store(url, credential=credential, secrets=SECRETS)

    found = {name.removeprefix("storage_"): one for name, one in store._store.config.items()}
    assert found[setting] == value


def test_an_address_is_what_counts_for_the_process_s_own_credential_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, OF_THE_PROCESS[name])

    with serve(lambda _: Reply(headers={"ETag": '"1"'}), folder=tmp_path, scheme="http") as server:
        open_store(f"s3://bucket/shops?endpoint={server.url}").ensure_object("a", b"1")

    assert dict(server.requests[0].headers)["x-amz-security-token"] == "process"


@pytest.mark.parametrize(
    ("name", "url", "credential"),
    [
        ("AWS_SERVER_SIDE_ENCRYPTION", "s3://bucket", "env:PAIR"),
        ("GOOGLE_BEARER_TOKEN", "gs://bucket", "file:/gcs"),
        ("AZURE_STORAGE_ENCRYPTION_KEY", "az://account/container", "env:AZURE"),
    ],
)
def test_a_variable_that_would_count_all_the_same_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, credential: str
) -> None:
    monkeypatch.setenv(name, "canary")

    with pytest.raises(Permanent, match=f"^{name} in the environment counts for every store") as raised:
        open_store(url, credential=credential, secrets=SECRETS)

    assert "canary" not in raised.value.reason


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
