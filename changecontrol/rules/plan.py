"""The plan as bytes: canonical JSON (RFC 8785), its digest, and the difference between two plans field by field."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rfc8785

IDENTITY_KEYS = ("key", "id", "digest", "name")
"""By the first of these that all items of both lists have, and no two share, list items are matched."""

_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs. `path` is for programs, `label` for people; a side that lacks the field is None.

    `was_there` and `is_there` tell a missing field from one that holds null.
    """

    path: str
    label: str
    old: Any
    new: Any
    was_there: bool = True
    is_there: bool = True


def canonical(document: Any) -> bytes:
    """Return the one way to write the document. Raises `ValueError` for what JSON cannot hold, such as NaN."""
    try:
        return rfc8785.dumps(document)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"The plan cannot be written as canonical JSON: {error}.") from error


def digest_of(document: Any) -> str:
    """Return the plan digest: the SHA-256 of the canonical bytes, in hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()


def differences(old: Any, new: Any) -> tuple[Difference, ...]:
    """List what differs, in the order of the paths. Lists are matched by identity where their items have one."""
    found: list[Difference] = []
    _compare(old, new, (), found)
    return tuple(found)


def _compare(old: Any, new: Any, path: tuple[str, ...], found: list[Difference]) -> None:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            _compare(old.get(key, _MISSING), new.get(key, _MISSING), (*path, str(key)), found)
    elif _is_list(old) and _is_list(new):
        _compare_lists(old, new, path, found)
    elif not _is_same(old, new):
        was_there, is_there = old is not _MISSING, new is not _MISSING
        found.append(
            Difference(
                path="/".join(one.replace("~", "~0").replace("/", "~1") for one in path),
                label=" › ".join(one.replace("_", " ") for one in path),
                old=old if was_there else None,
                new=new if is_there else None,
                was_there=was_there,
                is_there=is_there,
            )
        )


def _compare_lists(old: Sequence[Any], new: Sequence[Any], path: tuple[str, ...], found: list[Difference]) -> None:
    identity = next((key for key in IDENTITY_KEYS if _identifies(key, old) and _identifies(key, new)), None)
    if identity is None or not (old or new):
        for index in range(max(len(old), len(new))):
            left = old[index] if index < len(old) else _MISSING
            right = new[index] if index < len(new) else _MISSING
            _compare(left, right, (*path, str(index + 1)), found)
        return
    before = {str(item[identity]): item for item in old}
    after = {str(item[identity]): item for item in new}
    for key in sorted(before.keys() | after.keys()):
        _compare(before.get(key, _MISSING), after.get(key, _MISSING), (*path, key), found)
    kept_before = [key for key in before if key in after]
    kept_after = [key for key in after if key in before]
    if kept_before != kept_after:
        # The order of waves is part of what was approved, so a mere swap is a difference too.
        _compare(", ".join(kept_before), ", ".join(kept_after), (*path, "order"), found)


def _identifies(key: str, items: Sequence[Any]) -> bool:
    if not all(isinstance(item, Mapping) and isinstance(item.get(key), str | int) for item in items):
        return False
    return len({str(item[key]) for item in items}) == len(items)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_same(old: Any, new: Any) -> bool:
    # 1, 1.0 and True are equal to Python; to a digest only 1 and 1.0 are.
    return old is new or (isinstance(old, bool) == isinstance(new, bool) and bool(old == new))
