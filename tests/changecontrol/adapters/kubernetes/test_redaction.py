from __future__ import annotations

import json

import pytest

from changecontrol.adapters.kubernetes.redaction import is_secret_name, redact_object, redact_text


def test_secret_values_never_leave() -> None:  # RUN-9
    secret = {
        "kind": "Secret",
        "metadata": {
            "name": "db",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"data":{"a":"Y2FuYXJ5"}}'},
        },
        "data": {"a": "Y2FuYXJ5"},
        "stringData": {"b": "canary"},
    }

    redacted = redact_object(secret)

    assert redacted["data"] == {"a": "redacted"}
    assert redacted["stringData"] == {"b": "redacted"}
    assert "anary" not in json.dumps(redacted)
    assert "Y2FuYXJ5" not in json.dumps(redacted)
    assert secret["data"] == {"a": "Y2FuYXJ5"}


def test_environment_flags_keys_and_urls_that_look_secret_are_redacted() -> None:  # RUN-9
    container = {
        "name": "odoo",
        "env": [
            {"name": "DB_PASSWORD", "value": "canary"},
            {"name": "QUEUE", "value": "amqp://odoo:canary@mq/vhost"},
            {"name": "WORKERS", "value": "4"},
            {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}},
        ],
        "args": ["--db-password=canary", "--admin-passwd", "canary", "--workers=4"],
        "command": ["sh", "-c", "PGPASSWORD=canary psql"],
    }
    pod = {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [container]}}}}
    settings = {"kind": "ConfigMap", "data": {"admin_passwd": "canary", "workers": "4"}}

    redacted = [redact_object(pod), redact_object(settings)]

    assert "canary" not in json.dumps(redacted)
    seen = redacted[0]["spec"]["template"]["spec"]["containers"][0]
    assert seen["env"][2:] == container["env"][2:]
    assert seen["args"][3] == "--workers=4"
    assert redacted[1]["data"]["workers"] == "4"


@pytest.mark.parametrize(
    "name", ["PASSWORD", "db_pass", "ADMIN_PASSWORDS", "ODOO_API_KEY", "clientSecret", "SENTRY_DSN", "DATABASE_URL"]
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["WORKERS", "PGHOST", "PASSENGERS", "BYPASS_CACHE", "KEYBOARD", "LOG_LEVEL"])
def test_other_names_are_left_alone(name: str) -> None:
    assert not is_secret_name(name)


def test_text_loses_its_credentials() -> None:
    text = "cannot reach https://ada:canary@host/x with Bearer canarycanary and token=canary"

    assert redact_text(text) == "cannot reach https://redacted@host/x with Bearer redacted and token=redacted"
