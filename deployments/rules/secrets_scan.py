"""Finds secrets in the added lines of a unified diff. A finding names file, line and rule, never the secret.

A line is looked at as it is and, where it holds base64 of text, as that text. Some secrets show by their neighbours
only: the value of a variable whose name stands above it, and whatever stands in the data of a Secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from deployments.rules.policy import is_secret_variable

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
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@'\"]{0,80}:(?![$<{*%])[^\s/@'\"]{3,200}@",
    ),
    _rule("registry_login", "a registry login", r"\"auth\"\s{0,4}:\s{0,4}\"[A-Za-z0-9+/]{8,4000}={0,2}\""),
    _rule(
        "assigned_password",
        "a password in clear text",
        r"(?i)(?:password|passwd|passphrase|secret[_-]?key|api[_-]?key|access[_-]?token|client[_-]?secret"
        r"|secret[_-]?access[_-]?key)['\"]?\s{0,4}[:=]\s{0,4}['\"]?"
        r"(?![$<{*%]|(?:true|false|null|none|changeme|redacted)\b)[^\s'\",;#{}]{5,200}",
    ),
    _rule(
        "assigned_token",
        "a token in clear text",
        r"(?i)token['\"]?\s{0,4}[:=]\s{0,4}['\"]?(?=[a-z._~+/-]{0,60}\d)[A-Za-z0-9._~+/-]{16,500}",
    ),
)
_OF_VARIABLE = SecretRule("secret_variable", "the value of a secret variable", re.compile(""))
_OF_SECRET = SecretRule("secret_object", "a value of a Secret", re.compile(""))
_NO_VALUE = re.compile(
    r"(?i)['\"]?(?:$|['\"]|[$<{*%\[#&]|(?:true|false|null|none|changeme|redacted|\d{1,4})['\"]?\s*(?:#|,|}|$))"
)
_KIND = re.compile(r"kind:\s*['\"]?(\w+)")
_SECTION = re.compile(r"(?:data|stringData):\s*(?:#.*)?$")
_ENTRY = re.compile(r"\s+['\"]?[\w.-]+['\"]?:\s+(\S.*)")
_VARIABLE = re.compile(r"\s*(?:-\s+)?(?:\{\s*)?['\"]?name['\"]?:\s*['\"]?([\w.-]+)['\"]?\s*(?:,\s*(.*))?")
_VALUE = re.compile(r"\s*['\"]?value['\"]?:\s*(.*)")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{24,20000}={0,2}")
_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")


def scan_diff(diff: str) -> tuple[SecretFinding, ...]:
    """Look through the added lines. The first rule that fits a line is reported, once a line."""
    return tuple(
        SecretFinding(file, line.number, rule.key, f"{file}, line {line.number}: this looks like {rule.name}.")
        for file, lines in _hunks(diff)
        for line, rule in _found_in(lines)
    )


def find_secret(line: str) -> SecretRule | None:
    """Return the first rule that fits the line, or the text that is base64 in it; or None."""
    return _fitting(line) or next((rule for text in _decoded(line) if (rule := _fitting(text)) is not None), None)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    is_added: bool


def _hunks(diff: str) -> Iterator[tuple[str, list[_Line]]]:
    """Yield the lines of the new file, hunk by hunk."""
    file, number, left = "", 0, 0
    lines: list[_Line] = []
    for line in diff.split("\n"):
        hunk = _HUNK.match(line)
        # Inside a hunk "+++" may be content: only a line count tells.
        if left <= 0 and (hunk or line.startswith("+++ ")):
            yield file, lines
            lines = []
        if left <= 0 and line.startswith("+++ "):
            file = line[4:].split("\t")[0].removeprefix("b/")
        elif hunk and left <= 0:
            number, left = int(hunk.group(1)), int(hunk.group(2) or 1)
        elif line.startswith(("+", " ")) or (not line and left > 0):
            lines.append(_Line(number, line[1:], line.startswith("+")))
            number, left = number + 1, left - 1
    yield file, lines


def _found_in(lines: Sequence[_Line]) -> Iterator[tuple[_Line, SecretRule]]:
    for document in _documents(lines):
        of_secret = _of_secret(document)
        of_variable = _of_variables(document)
        for line in document:
            if line.is_added:
                rule = find_secret(line.text)
                if rule is None and line.number in of_variable:
                    rule = _OF_VARIABLE
                if rule is None and line.number in of_secret:
                    rule = _OF_SECRET
                if rule is not None:
                    yield line, rule


def _documents(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    document: list[_Line] = []
    for line in lines:
        if line.text.startswith("---") and not line.text.startswith("-----"):
            yield document
            document = []
        document.append(line)
    yield document


def _of_secret(document: Iterable[_Line]) -> frozenset[int]:
    """Return the lines that give values to a Secret. Its kind may stand behind its data."""
    found: set[int] = set()
    kind, is_data = "", False
    for line in document:
        if line.text[:1].strip() and not line.text.startswith("#"):
            is_data = _SECTION.match(line.text) is not None
            kind = match.group(1) if (match := _KIND.match(line.text)) else kind
        elif is_data and (match := _ENTRY.match(line.text)) and not _NO_VALUE.match(match.group(1)):
            found.add(line.number)
    return frozenset(found) if kind == "Secret" else frozenset()


def _of_variables(document: Iterable[_Line]) -> frozenset[int]:
    """Return the lines that give a value to a variable whose name, on the same line or the one above, looks secret."""
    found: set[int] = set()
    name = ""
    for line in document:
        given = _VALUE.match(line.text)
        if (named := _VARIABLE.match(line.text)) is not None:
            name, given = named.group(1), _VALUE.match(named.group(2) or "")
        if given and name and is_secret_variable(name) and not _NO_VALUE.match(given.group(1)):
            found.add(line.number)
        if named is None:
            name = ""
    return frozenset(found)


def _fitting(text: str) -> SecretRule | None:
    step = MAX_LINE_LENGTH - _OVERLAP
    pieces = [text[at : at + MAX_LINE_LENGTH] for at in range(0, max(1, len(text)), step)]
    return next((rule for rule in RULES for piece in pieces if rule.pattern.search(piece)), None)


def _decoded(line: str) -> Iterator[str]:
    for match in _BASE64.finditer(line):
        word = match.group().rstrip("=")
        try:
            text = base64.b64decode(word + "=" * (-len(word) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
        yield from text.splitlines()
