"""Digests and commits, short enough to read; `components/digest.html` keeps the whole one beside them."""

from __future__ import annotations

from django import template

register = template.Library()

_COMMIT_LENGTH = 40
_SHORT = 13


@register.filter
def short_digest(value: str | None) -> str:
    """Return `sha256:7f3ac91e…b204` of a digest, `e07b518` of a Git commit; the prefix, image name included, stays."""
    if not value:
        return ""
    prefix, separator, digits = value.rpartition(":")
    if not separator and len(digits) == _COMMIT_LENGTH:
        return digits[:7]
    if len(digits) <= _SHORT:
        return value
    return f"{prefix}{separator}{digits[:8]}…{digits[-4:]}"


@register.filter
def brief_digest(value: str | None) -> str:
    """Return `7f3ac91e`: where the longer form stands elsewhere. A commit stays `e07b518`."""
    digits = (value or "").rpartition(":")[2]
    return short_digest(digits) if len(digits) == _COMMIT_LENGTH else digits[:8]
