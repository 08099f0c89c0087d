from __future__ import annotations

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
    "assigned_password": "db_password: " + "hunter2hunter2",
}


@pytest.mark.parametrize("key", [rule.key for rule in RULES])
def test_every_rule_finds_its_sample(key: str) -> None:
    rule = find_secret(f"    value: {SAMPLES[key]}")

    assert rule is not None
    assert rule.key == key


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


def test_finding_never_holds_the_secret() -> None:  # RUN-9
    (finding, *_) = scan_diff(DIFF)

    assert finding == SecretFinding(
        "app.yaml", 3, "assigned_password", "app.yaml, line 3: this looks like a password in clear text."
    )


def test_secret_far_into_a_long_line_is_found_in_short_time() -> None:
    line = "x" * 500_000 + " " + SAMPLES["github_token"]

    begun = time.perf_counter()
    rule = find_secret(line)

    assert rule is not None
    assert rule.key == "github_token"
    assert time.perf_counter() - begun < 2


def test_empty_diff_has_no_findings() -> None:
    assert scan_diff("") == ()
