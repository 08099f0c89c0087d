from __future__ import annotations

from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient

SECRETS = FakeSecrets(
    {
        "env:PAIR": "key:canary",
        "env:HALF": "canary",
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
