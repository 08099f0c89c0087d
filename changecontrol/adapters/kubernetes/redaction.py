"""Takes secrets out of Kubernetes objects and messages before they leave the adapter. Pure; copies, never mutates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "redacted"

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?(?![a-z])|pwd|secret|token|credential|api[-_.]?key|private[-_.]?key|access[-_.]?key"
    r"|encryption[-_.]?key|signing[-_.]?key|database[-_.]?ur[il]|dsn$|connection[-_.]?string",
    re.IGNORECASE,
)
_URL_CREDENTIALS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s\"'@]+@", re.IGNORECASE)
_FLAG = re.compile(r"^(?P<flag>--?[\w.-]+)=(?P<value>.*)$", re.DOTALL)
_ASSIGNMENT = re.compile(r"\b(?P<name>[A-Za-z_][\w-]*)=(?P<value>[^\s;&\"']+)")
_BEARER = re.compile(r"\b(?P<scheme>bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)


def redact_object(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy without secret values: Secret data, environment values, flags, keys and URLs that look secret."""
    copy: dict[str, Any] = {key: _redact(value, key) for key, value in manifest.items()}
    if manifest.get("kind") == "Secret":
        for section in ("data", "stringData"):
            if isinstance(manifest.get(section), Mapping):
                copy[section] = dict.fromkeys(manifest[section], REDACTED)
    annotations = (copy.get("metadata") or {}).get("annotations")
    if isinstance(annotations, dict) and _LAST_APPLIED in annotations:
        # It holds the whole object once more, as a string that no rule above reaches.
        annotations[_LAST_APPLIED] = REDACTED
    return copy


def redact_text(text: str) -> str:
    """Return the text without credentials in URLs, headers and assignments."""
    text = _URL_CREDENTIALS.sub(rf"\g<scheme>{REDACTED}@", text)
    text = _BEARER.sub(rf"\g<scheme> {REDACTED}", text)
    return _ASSIGNMENT.sub(_redact_assignment, text)


def is_secret_name(name: str) -> bool:
    """Say whether a variable, flag or key of this name usually holds a secret."""
    return bool(_SECRET_NAME.search(name))


def _redact_assignment(match: re.Match[str]) -> str:
    return f"{match['name']}={REDACTED}" if is_secret_name(match["name"]) else match[0]


def _redact(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        if key in ("data", "stringData"):
            return {name: _redact_entry(name, entry) for name, entry in value.items()}
        return {name: _redact(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        if key == "env":
            return [_redact_variable(entry) for entry in value]
        if key in ("command", "args"):
            return _redact_words(value)
        return [_redact(entry, "") for entry in value]
    if isinstance(value, str):
        return redact_text(value)
    return value


def _redact_entry(name: str, entry: Any) -> Any:
    if isinstance(entry, str) and is_secret_name(name):
        return REDACTED
    return _redact(entry, "")


def _redact_variable(entry: Any) -> Any:
    if (
        isinstance(entry, Mapping)
        and isinstance(entry.get("value"), str)
        and is_secret_name(str(entry.get("name", "")))
    ):
        return {**entry, "value": REDACTED}
    return _redact(entry, "")


def _redact_words(words: list[Any]) -> list[Any]:
    redacted: list[Any] = []
    is_value_due = False
    for word in words:
        if not isinstance(word, str):
            redacted.append(_redact(word, ""))
            is_value_due = False
            continue
        flag = _FLAG.match(word)
        if is_value_due and not word.startswith("-"):
            redacted.append(REDACTED)
        elif flag and is_secret_name(flag["flag"]):
            redacted.append(f"{flag['flag']}={REDACTED}")
        else:
            redacted.append(redact_text(word))
        # `--password value`: the next word is the secret.
        is_value_due = word.startswith("-") and "=" not in word and is_secret_name(word)
    return redacted
