from __future__ import annotations

from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient

SECRETS = FakeSecrets({"env:KEY": "key", "env:SECRET": "canary"})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/tmp/objects",
        "file://host/objects",
        "s3://",
        "s3://user@bucket",
        "s3://bucket?endpoint=https://x&skip_signature=true",
        "https://bucket.example",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(Permanent):
        open_store(url)


def test_half_a_credential_is_refused() -> None:
    with pytest.raises(Permanent, match="two references"):
        open_store("s3://bucket", access_key="env:KEY", secrets=SECRETS)


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Permanent, match="cannot be made"):
        open_store(f"file://{tmp_path}/file/objects")


def test_s3_server_that_is_down_is_transient_and_quotes_no_secret() -> None:
    store = open_store(
        "s3://bucket/prefix?endpoint=http://127.0.0.1:1",
        access_key="env:KEY",
        secret_key="env:SECRET",
        secrets=SECRETS,
    )

    with pytest.raises(Transient) as raised:
        store.observe_reachable()

    assert "canary" not in raised.value.reason
