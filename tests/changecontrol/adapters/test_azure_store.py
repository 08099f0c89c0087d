"""What the adapter makes of what Azure says, where no server of Azure is at hand: the answers are as documented."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from tests.changecontrol.adapters.https_server import HttpsServer, Reply, Request, serve

KEY = base64.b64encode(b"canary of the account's key, 64 bytes long, is not to be quoted.").decode()
SIGNATURE = "sv=2020-08-04&sr=c&sp=rl&se=2100-01-01T00%3A00%3A00Z&sig=canary%3D"
PRINCIPAL = {"appId": "app", "displayName": "reader", "password": "canary", "tenant": "corp"}
NOWHERE = "http://127.0.0.1:1"
OF_THE_PROCESS = {
    "AZURE_STORAGE_ACCOUNT_KEY": KEY,
    "AZURE_STORAGE_SAS_KEY": "sv=1&sig=process",
    "AZURE_STORAGE_TOKEN": "process",
    "AZURE_STORAGE_ENDPOINT": NOWHERE,
    "AZURE_STORAGE_AUTHORITY_HOST": NOWHERE,
    "AZURE_STORAGE_USE_EMULATOR": "true",
    "AZURE_USE_FABRIC_ENDPOINT": "true",
    "AZURE_SKIP_SIGNATURE": "true",
    "AZURE_CREDENTIAL_TYPE": "bearer_token",
    "AZURE_CLIENT_ID": "process",
    "AZURE_TENANT_ID": "process",
    "AZURE_CONTAINER_NAME": "elsewhere",
    "AZURE_PROXY_URL": NOWHERE,
}
BLOB = {"ETag": '"0x1"', "Last-Modified": "Sun, 29 Nov 2026 10:00:00 GMT", "x-ms-blob-type": "BlockBlob"}


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[HttpsServer]:
    with serve(lambda _: Reply(500), folder=tmp_path, scheme="http") as server:
        yield server


Opener = Callable[..., ObjectStore]


@pytest.fixture
def opened(azure: HttpsServer) -> Opener:
    def opener(secret: str = KEY) -> ObjectStore:
        url = f"az://account/evidence/packs?endpoint={azure.url}/account"
        return open_store(url, credential="env:AZURE", secrets=FakeSecrets({"env:AZURE": secret}))

    return opener


def refusal(status: int, code: str) -> Reply:
    return Reply(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Words.</Message></Error>")


def batch(status: int, reason: str) -> Reply:
    """Answer as a batch that deletes one blob is answered: it was taken, and one part says how it went."""
    part = f"--batchresponse_1\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 {status} {reason}"
    body = f"{part}\r\nx-ms-request-id: 1\r\nx-ms-version: 2023-11-03\r\n\r\n--batchresponse_1--\r\n"
    return Reply(202, body, headers={"Content-Type": "multipart/mixed; boundary=batchresponse_1"})


def test_container_that_does_not_exist_is_said_and_nothing_is_missing_from_it(
    azure: HttpsServer, opened: Opener
) -> None:
    sentence = "could not {} packs/a: its bucket does not exist".replace("packs/", "")

    def answer(request: Request) -> Reply:
        if request.params.get("comp") == "batch":
            return batch(404, "The specified container does not exist.")
        return refusal(404, "ContainerNotFound")

    azure.answer = answer
    store = opened()

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


def test_blob_that_is_absent_is_nothing(azure: HttpsServer, opened: Opener) -> None:
    azure.answer = lambda request: (
        batch(404, "The specified blob does not exist.")
        if request.params.get("comp") == "batch"
        else refusal(404, "BlobNotFound")
    )

    assert opened().observe_object("a") is None
    assert opened().observe_range("a", start=0, size=1) is None
    opened().ensure_absent("a")


@pytest.mark.parametrize(
    ("status", "reason", "sentence"),
    [
        (403, "This request is not authorized to perform this operation using this permission.", "does not let this"),
        (409, "This operation is not permitted as the blob is immutable due to a policy.", "a lock, a hold, a lease"),
        (409, "This operation is not permitted because the blob has snapshots.", "a lock, a hold, a lease"),
        (412, "There is currently a lease on the blob and no lease ID was specified.", "a lock, a hold, a lease"),
    ],
)
def test_blob_that_may_not_be_deleted_stays_until_a_person_changes_something(
    azure: HttpsServer, opened: Opener, status: int, reason: str, sentence: str
) -> None:
    azure.answer = lambda _: batch(status, reason)

    with pytest.raises(Permanent, match=sentence):
        opened().ensure_absent("a")


@pytest.mark.parametrize("code", ["BlobArchived", "BlobBeingRehydrated"])
def test_blob_in_the_archive_is_not_waited_for(azure: HttpsServer, opened: Opener, code: str) -> None:
    azure.answer = lambda _: refusal(409, code)

    with pytest.raises(Permanent, match="could not read a: it lies in an archive that is not read at once"):
        opened().observe_object("a")


@pytest.mark.parametrize(
    ("held", "outcome"), [(b"1", ""), (b"2", "does not let this credential store a"), (None, "does not let this")]
)
def test_who_may_only_create_is_not_refused_what_is_stored_already(
    azure: HttpsServer, opened: Opener, held: bytes | None, outcome: str
) -> None:
    def answer(request: Request) -> Reply:
        if request.method == "PUT":
            return refusal(403, "AuthorizationPermissionMismatch")
        return refusal(404, "BlobNotFound") if held is None else Reply(200, held, headers=BLOB)

    azure.answer = answer

    if not outcome:
        assert opened().ensure_object("a", b"1").size == 1
        return
    with pytest.raises(Permanent, match=outcome):
        opened().ensure_object("a", b"1")


def test_objects_are_created_and_never_overwritten(azure: HttpsServer, opened: Opener) -> None:
    azure.answer = lambda _: Reply(201, headers=BLOB)

    opened().ensure_object("a", b"1")

    assert {name.lower(): value for name, value in azure.requests[0].headers.items()}["if-none-match"] == "*"
    assert azure.requests[0].path == "/account/evidence/packs/a"


@pytest.fixture
def of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OF_THE_PROCESS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("of_the_process")
def test_a_key_by_reference_signs_whatever_the_environment_says(azure: HttpsServer, opened: Opener) -> None:
    azure.answer = lambda _: Reply(200, b"1", headers=BLOB)

    assert opened().observe_object("a") == b"1"

    headers = {name.lower(): value for name, value in azure.requests[0].headers.items()}
    assert (azure.requests[0].path, azure.requests[0].params) == ("/account/evidence/packs/a", {})
    assert headers["authorization"].startswith("SharedKey account:")


@pytest.mark.usefixtures("of_the_process")
def test_a_shared_access_signature_is_what_counts_and_nothing_of_the_environment(
    azure: HttpsServer, opened: Opener
) -> None:
    azure.answer = lambda _: refusal(403, "AuthorizationPermissionMismatch")

    for secret in (SIGNATURE, f"?{SIGNATURE}\n"):
        with pytest.raises(Permanent, match="does not let this credential read a") as raised:
            opened(secret).observe_object("a")
        assert "canary" not in raised.value.reason

    assert [request.params.get("sig") for request in azure.requests] == ["canary=", "canary="]
    assert not any("Authorization" in {name.title() for name in request.headers} for request in azure.requests)


@pytest.mark.usefixtures("of_the_process")
def test_a_service_principal_signs_in_and_shows_its_token(azure: HttpsServer, opened: Opener) -> None:
    def answer(request: Request) -> Reply:
        if request.path == "/corp/oauth2/v2.0/token":
            return Reply(200, {"access_token": "token-of-the-reader", "expires_in": 3600, "token_type": "Bearer"})
        return Reply(200, b"1", headers=BLOB)

    azure.answer = answer

    assert opened(json.dumps(PRINCIPAL | {"authority": azure.url})).observe_object("a") == b"1"
    asked = {name.lower(): value for name, value in azure.requests[-1].headers.items()}
    assert asked["authorization"] == "Bearer token-of-the-reader"
    assert "client_secret=canary" in azure.requests[0].raw.decode()


def test_a_service_principal_that_is_refused_is_a_sentence(azure: HttpsServer, opened: Opener) -> None:
    azure.answer = lambda _: Reply(401, {"error": "invalid_client", "error_description": "AADSTS7000215 canary"})

    with pytest.raises(Permanent, match="does not let this credential read a") as raised:
        opened(json.dumps(PRINCIPAL | {"authority": azure.url})).observe_object("a")

    assert "canary" not in raised.value.reason


@pytest.mark.parametrize("answer", [Reply(500), Reply(503, "ServerBusy"), Reply(cut=True), refusal(429, "ServerBusy")])
def test_azure_that_stumbles_is_asked_again(azure: HttpsServer, opened: Opener, answer: Reply) -> None:
    azure.answer = lambda _: answer

    with pytest.raises(Transient, match="The object store could not read a now"):
        opened().observe_object("a")

    assert len(azure.requests) == 3
