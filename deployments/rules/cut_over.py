"""Do manifests put a restored database in the place of the one in use? A name counts where it is a whole word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from changecontrol.ports import ObjectRef

_WORD = re.compile(r"\w+", re.ASCII)
_NOT_READ = frozenset({"apiVersion", "kind", "metadata", "status"})
"""What names and describes an object configures nothing."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Which objects name the new database, and which still name the old one. The latter may be a role or a host."""

    new: tuple[str, ...]
    old: tuple[str, ...]


def naming_of(manifests: Iterable[Mapping[str, Any]], *, new: str, old: str) -> Naming:
    """Look for both names in everything that configures, such as a ConfigMap's text, arguments and variables."""
    found: dict[str, list[str]] = {new: [], old: []}
    for manifest in manifests:
        words = {word for text in _texts(manifest) for word in _WORD.findall(text)}
        for name in words & found.keys():
            found[name].append(str(ObjectRef.of(manifest)))
    return Naming(new=tuple(sorted(found[new])), old=tuple(sorted(found[old])))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        # Below the top too: the metadata of a pod's template are its labels and annotations.
        for key, one in value.items():
            if key not in _NOT_READ:
                yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value
