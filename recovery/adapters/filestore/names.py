"""Odoo's content-addressed layout: a file's name is `xx/sha1`, and the SHA-1 is that of its content."""

from __future__ import annotations

import re

NAME = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{38})")


def is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def name_of(digest: str) -> str:
    return f"{digest[:2]}/{digest}"
