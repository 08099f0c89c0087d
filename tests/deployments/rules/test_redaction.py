from __future__ import annotations

from typing import Any

import pytest

from deployments.rules.redaction import hash_of_rendered, redact

KEY = b"installation key"
CANARY = "canary-5f3a"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def secret(value: Any, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": {"password": value}, **more}


@pytest.mark.parametrize(
    "manifest",
    [
        secret(CANARY),
        secret("x", stringData={"a": CANARY}),
        secret("x", stringData=CANARY),
        secret({"nested": [CANARY]}),
        secret("x", metadata={"name": "db", "annotations": {LAST_APPLIED: CANARY}}),
    ],
)
def test_no_value_of_a_secret_is_kept(manifest: dict[str, Any]) -> None:  # RUN-9
    assert CANARY not in str(redact(manifest, key=KEY))


def test_what_looks_secret_outside_a_secret_is_not_kept_either() -> None:  # RUN-9
    container = {
        "args": [f"--db-password={CANARY}", "--admin-passwd", CANARY],
        "env": [{"name": "SMTP_PASSWORD", "value": CANARY}, {"name": "QUEUE", "value": f"amqp://odoo:{CANARY}@mq/x"}],
    }
    settings = {"kind": "ConfigMap", "data": {"admin_passwd": CANARY, "odoo.conf": f"db_password={CANARY}"}}
    files = {"odoo.conf": f"admin_passwd = {CANARY}\n", "a.yaml": f"smtp:\n  password: {CANARY}\n"}
    workload = {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [container]}}}}

    for manifest in (settings, workload, {"kind": "ConfigMap", "data": files}):
        once = redact(manifest, key=KEY)
        assert CANARY not in str(once)
        assert redact(once, key=KEY) == once


def test_redaction_keeps_names_and_touches_nothing_else() -> None:
    manifest = secret(CANARY)
    config = {"kind": "ConfigMap", "data": {"a": "b"}}

    assert list(redact(manifest, key=KEY)["data"]) == ["password"]
    assert redact(manifest, key=KEY)["metadata"] == {"name": "db"}
    assert redact(config, key=KEY) == config
    assert manifest == secret(CANARY)


def test_equal_values_have_equal_hashes_under_one_key_only() -> None:
    one = redact(secret("a"), key=KEY)["data"]["password"]

    assert one == redact(secret("a"), key=KEY)["data"]["password"]
    assert one != redact(secret("b"), key=KEY)["data"]["password"]
    assert one != redact(secret("a"), key=b"another key")["data"]["password"]


def test_hash_of_rendered_shows_a_changed_secret_and_no_reordered_key() -> None:  # APR-8
    reordered = dict(reversed(secret("a").items()))

    assert hash_of_rendered([secret("a")], key=KEY) == hash_of_rendered([reordered], key=KEY)
    assert hash_of_rendered([secret("a")], key=KEY) != hash_of_rendered([secret("b")], key=KEY)
