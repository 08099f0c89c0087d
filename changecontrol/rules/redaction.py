"""Takes secrets out of Kubernetes objects and messages: one list of names and one walk, for live objects and manifests.

Pure; copies, never mutates. What stands in place of a secret is the caller's to say, and is left alone when met again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

REDACTED = "redacted"

Hide = Callable[[Any], str]
"""Returns what stands in place of a secret value; it begins with `REDACTED`."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SECRET_NAME = re.compile(
    r"(?<!by)pass(?![a-z])|pass(word|wd|phrase)|pwd|secret|token|credential"
    r"|api[-_.]?key|private[-_.]?key|access[-_.]?key|encryption[-_.]?key|signing[-_.]?key"
    r"|database[-_.]?ur[il]|dsn$|connection[-_.]?string",
    re.IGNORECASE,
)
_URL_CREDENTIALS = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://)(?P<secret>[^/\s\"'@]+)(?P<after>@)", re.IGNORECASE)
_BEARER = re.compile(r"(?P<before>\b(?:bearer|basic)\s+)(?P<secret>[A-Za-z0-9._~+/=-]{8,})(?P<after>)", re.IGNORECASE)
_SUSPECT = re.compile(r"[=:\s]")
"""Without one of these no pattern of a text can match; most values of an object have none."""
_FLAG = re.compile(r"^(?P<flag>--?[\w.-]+)=(?P<value>.*)$", re.DOTALL)
_ASSIGNMENTS = (
    re.compile(r"(?P<before>\b(?P<name>[A-Za-z_][\w-]*)[ \t]?=[ \t]?)(?P<value>[^\s;&\"'=]+)"),
    # Within a text a colon is prose; at the start of a line it gives a value, as files in a ConfigMap do.
    re.compile(r"(?m)^(?P<before>[ \t]*[\"']?(?P<name>[A-Za-z_][\w-]*)[\"']?:[ \t]+[\"']?)(?P<value>[^\s\"']+)"),
)


def redact(manifest: Mapping[str, Any], *, hide: Hide) -> dict[str, Any]:
    """Return a copy without secret values: Secret data, environment values, flags, keys and URLs that look secret."""
    walk = _Walk(hide)
    copy: dict[str, Any] = {key: walk.redact(value, key) for key, value in manifest.items()}
    if manifest.get("kind") == "Secret":
        for section in ("data", "stringData"):
            values = manifest.get(section)
            if isinstance(values, Mapping):
                copy[section] = {name: walk.hide(value) for name, value in values.items()}
            elif values is not None:
                copy[section] = walk.hide(values)
    metadata = copy.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if isinstance(annotations, dict) and _LAST_APPLIED in annotations:
        # It holds the whole object once more, as a string that no rule above reaches.
        annotations[_LAST_APPLIED] = walk.hide(annotations[_LAST_APPLIED])
    return copy


def redact_text(text: str, *, hide: Hide = lambda value: REDACTED) -> str:
    """Return the text without credentials in URLs, headers and assignments."""
    return _Walk(hide).text(text)


def is_secret_name(name: str) -> bool:
    """Say whether a variable, flag or key of this name usually holds a secret."""
    return bool(_SECRET_NAME.search(name))


class _Walk:
    def __init__(self, hide: Hide) -> None:
        self._hide = hide

    def hide(self, value: Any) -> str:
        # Met again it stays: what is redacted twice must equal what is redacted once.
        return value if isinstance(value, str) and value.startswith(REDACTED) else self._hide(value)

    def text(self, text: str) -> str:
        if not _SUSPECT.search(text):
            return text
        for pattern in (_URL_CREDENTIALS, _BEARER):
            text = pattern.sub(lambda found: f"{found['before']}{self.hide(found['secret'])}{found['after']}", text)
        for pattern in _ASSIGNMENTS:
            text = pattern.sub(self._assignment, text)
        return text

    def redact(self, value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            if key in ("data", "stringData"):
                return {name: self._entry(name, entry) for name, entry in value.items()}
            return {name: self.redact(entry, name) for name, entry in value.items()}
        if isinstance(value, list):
            if key == "env":
                return [self._variable(entry) for entry in value]
            if key in ("command", "args"):
                return self._words(value)
            return [self.redact(entry, "") for entry in value]
        return self.text(value) if isinstance(value, str) else value

    def _assignment(self, found: re.Match[str]) -> str:
        return f"{found['before']}{self.hide(found['value'])}" if is_secret_name(found["name"]) else found[0]

    def _entry(self, name: str, entry: Any) -> Any:
        if isinstance(entry, str) and is_secret_name(name):
            return self.hide(entry)
        return self.redact(entry, "")

    def _variable(self, entry: Any) -> Any:
        is_plain = isinstance(entry, Mapping) and isinstance(entry.get("value"), str)
        if is_plain and entry["value"] and is_secret_name(str(entry.get("name", ""))):
            return {**entry, "value": self.hide(entry["value"])}
        return self.redact(entry, "")

    def _words(self, words: list[Any]) -> list[Any]:
        redacted: list[Any] = []
        is_value_due = False
        for word in words:
            if not isinstance(word, str):
                redacted.append(self.redact(word, ""))
                is_value_due = False
                continue
            flag = _FLAG.match(word)
            if is_value_due and not word.startswith("-"):
                redacted.append(self.hide(word))
            elif flag and is_secret_name(flag["flag"]):
                redacted.append(f"{flag['flag']}={self.hide(flag['value'])}")
            else:
                redacted.append(self.text(word))
            # `--password value`: the next word is the secret.
            is_value_due = word.startswith("-") and "=" not in word and is_secret_name(word)
        return redacted
