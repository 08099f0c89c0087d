"""Finds secrets in the added lines of a unified diff. A finding names file, line and rule, never the secret."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE_LENGTH = 4000
"""Longer lines are looked at in pieces that overlap, so that no expression runs over a megabyte."""
_OVERLAP = 400


@dataclass(frozen=True, slots=True)
class SecretRule:
    key: str
    name: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class SecretFinding:
    """Where a secret seems to be. `line` counts in the new file, from 1."""

    file: str
    line: int
    rule: str
    sentence: str


def _rule(key: str, name: str, pattern: str) -> SecretRule:
    return SecretRule(key, name, re.compile(pattern))


RULES = (
    _rule("private_key", "a private key", r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    _rule("age_key", "an age identity", r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
    _rule("aws_access_key", "an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    _rule("github_token", "a GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})\b"),
    _rule("gitlab_token", "a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,64}"),
    _rule("slack_token", "a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    _rule("stripe_key", "a Stripe key", r"\b[sr]k_live_[A-Za-z0-9]{20,250}\b"),
    _rule("google_api_key", "a Google API key", r"\bAIza[0-9A-Za-z_-]{35}"),
    _rule("vault_token", "a Vault token", r"\bhv[sbr]\.[A-Za-z0-9_-]{20,300}"),
    _rule("jwt", "a JSON web token", r"\beyJ[A-Za-z0-9_-]{10,1000}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,1000}"),
    _rule(
        "url_password",
        "a password in an address",
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@'\"]{1,80}:(?![$<{*])[^\s/@'\"]{3,200}@",
    ),
    _rule(
        "assigned_password",
        "a password in clear text",
        r"(?i)(?:password|passwd|passphrase|secret[_-]?key|api[_-]?key|access[_-]?token|client[_-]?secret)"
        r"['\"]?\s{0,4}[:=]\s{0,4}['\"]?(?![$<{*%]|(?:true|false|null|none|changeme|redacted)\b)[^\s'\",;#{}]{8,200}",
    ),
)
_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")


def scan_diff(diff: str) -> tuple[SecretFinding, ...]:
    """Look through the added lines. The first rule that fits a line is reported, once a line."""
    findings: list[SecretFinding] = []
    file, number, left = "", 0, 0
    for line in diff.split("\n"):
        hunk = _HUNK.match(line)
        # Inside a hunk "+++" may be content: only a line count tells.
        if left <= 0 and line.startswith("+++ "):
            file = line[4:].split("\t")[0].removeprefix("b/")
        elif hunk and left <= 0:
            number, left = int(hunk.group(1)), int(hunk.group(2) or 1)
        elif line.startswith("+"):
            rule = find_secret(line[1:])
            if rule is not None:
                findings.append(
                    SecretFinding(file, number, rule.key, f"{file}, line {number}: this looks like {rule.name}.")
                )
            number, left = number + 1, left - 1
        elif line.startswith(" ") or (not line and left > 0):
            number, left = number + 1, left - 1
    return tuple(findings)


def find_secret(line: str) -> SecretRule | None:
    """Return the first rule that fits, or None."""
    step = MAX_LINE_LENGTH - _OVERLAP
    pieces = [line[at : at + MAX_LINE_LENGTH] for at in range(0, max(1, len(line)), step)]
    return next((rule for rule in RULES for piece in pieces if rule.pattern.search(piece)), None)
