from __future__ import annotations

import base64
import time

import pytest

from deployments.rules.secrets_scan import RULES, SecretFinding, find_secret, scan_diff

# Written in pieces, so that scanners of this repository do not take them for real ones.
SAMPLES = {
    "private_key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "age_key": "AGE-SECRET-" + "KEY-1" + "Q" * 58,
    "aws_access_key": "id = AKIA" + "Z" * 16,
    "github_token": "ghp_" + "a1" * 18,
    "gitlab_token": "glpat-" + "a1" * 10,
    "slack_token": "xoxb-" + "1" * 12,
    "stripe_key": "sk_" + "live_" + "a" * 24,
    "google_api_key": "AIza" + "b" * 35,
    "vault_token": "hvs." + "c" * 24,
    "jwt": "eyJ" + "a" * 12 + ".eyJ" + "b" * 12 + "." + "c" * 12,
    "url_password": "postgres://odoo:" + "hunter22@db/odoo",
    "registry_login": '{"auths":{"registry.example":{"auth":"' + "b2Rvbzpo" + 'dW50ZXIy"}}}',
    "assigned_password": "db_password: " + "hunter2hunter2",
    "assigned_token": "token: " + "a1" * 12,
}


@pytest.mark.parametrize("key", [rule.key for rule in RULES])
def test_every_rule_finds_its_sample(key: str) -> None:
    plain = find_secret(f"    value: {SAMPLES[key]}")
    encoded = find_secret(f"    value: {base64.b64encode(('x ' + SAMPLES[key]).encode()).decode()}")

    assert plain is not None
    assert encoded is not None
    assert plain.key == encoded.key == key


@pytest.mark.parametrize(
    "line",
    [
        "aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY",
        "admin_passwd = " + "s3cretly",
        'DB_PASSWORD: "' + 'hunter2"',
        "redis://:" + "hunter22@cache:6379/0",
        "url: amqp://odoo:" + "p%40ss@mq/odoo",
        '"accessToken": "' + "abcdef0123456789abcd" + '"',
    ],
)
def test_realistic_secrets_are_found(line: str) -> None:
    assert find_secret(line) is not None


@pytest.mark.parametrize(
    "line",
    [
        "image: registry.example/odoo@sha256:" + "a" * 64,
        "password: $(DB_PASSWORD)",
        "password: ${DB_PASSWORD}",
        "password: <set-in-vault>",
        'password: "{{ .Values.password }}"',
        "passwordSecretRef: odoo-database",
        "password: changeme",
        "secretKeyRef: {name: odoo-db, key: password}",
        "url: https://example.com/path:8080/a@b",
        "url: postgres://odoo:$PASSWORD@db/odoo",
        "-----BEGIN CERTIFICATE-----",
        "caBundle: " + base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----").decode(),
        "uid: 3b241101-e2bb-4255-8caf-4136c566a962",
        "checksum/config: " + "0123456789abcdef" * 4,
        "automountServiceAccountToken: false",
        "expirationSeconds: 3600",
        "secretName: odoo-database-credentials",
        "url: postgres://odoo:%(DB_PASSWORD)s@db/odoo",
        "tokenSecretRef: {name: odoo-token, key: token}",
        "password: null",
        "",
    ],
)
def test_reference_or_placeholder_is_no_secret(line: str) -> None:
    assert find_secret(line) is None


DIFF = f"""diff --git a/app.yaml b/app.yaml
--- a/app.yaml
+++ b/app.yaml
@@ -1,3 +1,4 @@
 kind: Secret
-{SAMPLES["github_token"]}
+name: x
+{SAMPLES["assigned_password"]}
 {SAMPLES["jwt"]}
@@ -10 +11,2 @@
 last
++++ {SAMPLES["vault_token"]}
diff --git a/b.yaml b/b.yaml
--- /dev/null
+++ b/b.yaml
@@ -0,0 +1 @@
+{SAMPLES["private_key"]}
"""


def test_only_added_lines_are_found_by_file_and_line() -> None:
    assert [(one.file, one.line, one.rule) for one in scan_diff(DIFF)] == [
        ("app.yaml", 3, "assigned_password"),
        ("app.yaml", 12, "vault_token"),
        ("b.yaml", 1, "private_key"),
    ]


def added(text: str) -> str:
    lines = text.strip("\n").split("\n")
    return f"--- /dev/null\n+++ b/a.yaml\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)


SECRET = """
apiVersion: v1
data:
  # comment
  host: ZGI=
  empty: ""
  from: $(HOST)
kind: Secret
metadata:
  name: odoo
---
kind: ConfigMap
data:
  host: ZGI=
"""
ENV = """
env:
  - name: DB_PASSWORD
    value: x1y2
  - name: DB_PASSWORD_FILE
    value: /run/secrets/db
  - name: PASSWORD_MIN_LENGTH
    value: "12"
  - name: API_TOKEN
    valueFrom: {secretKeyRef: {name: api, key: token}}
  - name: WORKERS
    value: four
  - {name: SMTP_PASSWORD, value: x1y2}
  - {name: SMTP_PASSWORD, value: $(OTHER)}
  - name: SENTRY_SECRET
    value: "<from-the-store>"
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [(SECRET, [(4, "secret_object")]), (ENV, [(3, "secret_variable"), (12, "secret_variable")])],
)
def test_what_shows_by_its_neighbours_is_found(text: str, found: list[tuple[int, str]]) -> None:  # SEC-1
    assert [(one.line, one.rule) for one in scan_diff(added(text))] == found


def test_a_value_beneath_a_name_that_was_there_is_found() -> None:
    diff = "+++ b/a.yaml\n@@ -1,2 +1,2 @@\n - name: DB_PASSWORD\n-  value: $(OLD)\n+  value: x1y2\n"

    assert [(one.line, one.rule) for one in scan_diff(diff)] == [(2, "secret_variable")]


def test_finding_never_holds_the_secret() -> None:  # RUN-9
    (finding, *_) = scan_diff(DIFF)

    assert finding == SecretFinding(
        "app.yaml", 3, "assigned_password", "app.yaml, line 3: this looks like a password in clear text."
    )


def test_secret_far_into_a_long_line_is_found_in_short_time() -> None:
    line = "x" * 500_000 + " " + SAMPLES["github_token"]

    begun = time.thread_time()
    rule = find_secret(line)

    assert rule is not None
    assert rule.key == "github_token"
    assert time.thread_time() - begun < 2


def test_empty_diff_has_no_findings() -> None:
    assert scan_diff("") == ()
