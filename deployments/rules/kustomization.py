"""Judges a kustomization and all it builds on before a program sees it: the commit alone, no plug-ins. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from changecontrol.errors import Permanent
from deployments.rules.manifests import KUSTOMIZATIONS

MAX_KUSTOMIZATIONS = 200
MAX_KUSTOMIZATION_BYTES = 256 * 1024

# Each runs or fetches something beside the commit, or may be made to.
REFUSED_FIELDS = {
    "generators": "plug-ins",
    "transformers": "plug-ins",
    "validators": "plug-ins",
    "helmCharts": "Helm charts",
    "helmChartInflationGenerator": "Helm charts",
    "helmGlobals": "Helm charts",
}
_FOLDERS_OR_FILES = ("resources", "bases", "components")
_FILES = ("crds", "configurations")
_PATCHES = ("patches", "patchesJson6902", "replacements")
_GENERATORS = ("configMapGenerator", "secretGenerator")


def check_kustomization(files: Mapping[str, bytes], *, path: str) -> None:
    """Raise `Permanent` where building the folder `path` would read anything but these files of the commit.

    Whatever Kustomize would take for an address (https://…, github.com/…, git@…) names no file here, and is refused.
    """
    folders = {posixpath.dirname(name) for name in files}
    folders |= {parent for folder in folders for parent in _parents(folder)}
    waiting, seen = [posixpath.normpath(path)], set()
    while waiting:
        folder = waiting.pop()
        if folder in seen:
            continue
        seen.add(folder)
        if len(seen) > MAX_KUSTOMIZATIONS:
            raise Permanent(f"{path} builds on more than {MAX_KUSTOMIZATIONS} kustomizations.")
        name, document = _read(files, folder)
        for field, target in _targets(document, name):
            found = posixpath.normpath(posixpath.join("" if folder == "." else folder, target))
            if target.startswith("/") or (found not in files and not (field in _FOLDERS_OR_FILES and found in folders)):
                raise Permanent(
                    f"{name} names {target[:200]!r} under {field}, which is nothing in the commit; everything a commit "
                    "needs must be in the commit."
                )
            if found not in files:
                waiting.append(found)


def _parents(folder: str) -> Iterator[str]:
    yield "."
    while folder:
        yield folder
        folder = posixpath.dirname(folder)


def _read(files: Mapping[str, bytes], folder: str) -> tuple[str, dict[str, Any]]:
    names = [name for name in sorted(KUSTOMIZATIONS) if _join(folder, name) in files]
    if len(names) != 1:
        raise Permanent(f"{folder} holds {'more than one' if names else 'no'} kustomization.")
    name = _join(folder, names[0])
    data = files[name]
    if len(data) > MAX_KUSTOMIZATION_BYTES:
        raise Permanent(f"{name} is larger than {MAX_KUSTOMIZATION_BYTES // 1024} KiB.")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, Loader=yaml.CSafeLoader)):
            raise Permanent(f"{name} uses YAML aliases; write the values out.")
        document = yaml.load(data, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        # The parser's own message quotes the line, which may hold a secret.
        raise Permanent(f"{name} is not valid YAML.") from None
    if not isinstance(document, dict):
        raise Permanent(f"{name} is no kustomization.")
    # Kustomize knows its fields in any case; here they are looked for as written.
    known = {*REFUSED_FIELDS, *_FOLDERS_OR_FILES, *_FILES, *_PATCHES, *_GENERATORS, "patchesStrategicMerge", "openapi"}
    spellings = {field.lower(): field for field in known}
    for field in document:
        if field not in known and str(field).lower() in spellings:
            raise Permanent(f"{name} spells {spellings[str(field).lower()]} as {field}.")
    for field, what in REFUSED_FIELDS.items():
        if document.get(field):
            raise Permanent(f"{name} uses {what} ({field}), which are not run here. Commit what they make.")
    return name, document


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _targets(document: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """Yield each word that Kustomize would read from, with its field."""
    for field in (*_FOLDERS_OR_FILES, *_FILES):
        yield from ((field, _word(entry, name, field)) for entry in _list(document, field, name))
    for entry in _list(document, "patchesStrategicMerge", name):
        # A file, or the patch itself.
        if "\n" not in (word := _word(entry, name, "patchesStrategicMerge")):
            yield "patchesStrategicMerge", word
    for field in _PATCHES:
        for entry in _list(document, field, name):
            if isinstance(entry, dict) and _folded(entry, name).get("path"):
                yield field, _word(entry["path"], name, field)
    openapi = document.get("openapi")
    if isinstance(openapi, dict) and _folded(openapi, name).get("path"):
        yield "openapi", _word(openapi["path"], name, "openapi")
    for field in _GENERATORS:
        for entry in _list(document, field, name):
            yield from _sources(entry, name, field)


def _sources(entry: Any, name: str, field: str) -> Iterator[tuple[str, str]]:
    if not isinstance(entry, dict):
        raise Permanent(f"An entry of {field} in {name} is not readable.")
    folded = _folded(entry, name)
    if folded.get("env"):
        yield field, _word(entry["env"], name, field)
    for words in ("envs", "files"):
        for source in _list(folded, words, name):
            # `key=file`, or the file alone.
            yield field, _word(source, name, field).rpartition("=")[2]


def _folded(entry: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """Return the entry, refusing fields that differ from those read here by capitals alone."""
    known = ("path", "env", "envs", "files")
    for field in entry:
        if field not in known and str(field).lower() in known:
            raise Permanent(f"{name} spells {str(field).lower()} as {field}.")
    return {str(field): value for field, value in entry.items()}


def _list(document: Mapping[str, Any], field: str, name: str) -> list[Any]:
    entries = document.get(field) or []
    if not isinstance(entries, list):
        raise Permanent(f"{field} of {name} is not a list.")
    return entries


def _word(value: Any, name: str, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise Permanent(f"An entry of {field} in {name} is not a name.")
    return value
