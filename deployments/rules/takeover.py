"""Whose is an object that is there already? What is somebody else's is never adopted; what is nobody's is, and is said.

Server-side apply refuses a field that another manager set to another value. It does not refuse what this adds: another
environment's label, a controller that made the object, and a second applier of the same value, who would win it back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from changecontrol.ports import FIELD_MANAGER, INVENTORY_LABEL, ObjectRef

MAX_FIELDS_NAMED = 3

Json = Mapping[str, Any]


def is_unclaimed(live: Json) -> bool:
    """Tell whether an object that is there belongs to no environment: applying takes it over."""
    return INVENTORY_LABEL not in _labels(live)


def late_refusal_of(manifest: Json, live: Json) -> str:
    """Say why an object that belongs to nobody must not be taken over, or nothing: the plan does not speak of it."""
    if not is_unclaimed(live):
        return ""
    return (
        f"{ObjectRef.of(manifest)} belongs to no environment and appeared since the plan was approved, which does not "
        "say that it is taken over. Delete it, or revise the change."
    )


def refusal_of(manifest: Json, live: Json) -> str:
    """Say why what is there must not be touched, or nothing. Both carry their labels and `metadata`; `live` its owners.

    The manifest is as it would be applied, with the inventory label of its environment.
    """
    ref = ObjectRef.of(manifest)
    mine, theirs = _labels(manifest).get(INVENTORY_LABEL, ""), _labels(live).get(INVENTORY_LABEL, "")
    if theirs and theirs != mine:
        return f"{ref} belongs to another environment ({INVENTORY_LABEL}: {theirs}). Give yours another name."
    metadata = live.get("metadata") or {}
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is not None:
        made_by = f"{owner.get('kind', 'a controller')} {owner.get('name', '')}".strip()
        return f"{ref} is managed by {made_by}, which would undo what is written. Change {made_by} instead."
    for manager, fields in _other_appliers(metadata):
        shared = sorted(_shared(fields, manifest))
        if shared:
            also = f" and {len(shared) - MAX_FIELDS_NAMED} more" if len(shared) > MAX_FIELDS_NAMED else ""
            return (
                f"{ref} is also applied by {manager}, which sets {', '.join(shared[:MAX_FIELDS_NAMED])}{also}. Let one "
                "of the two manage it."
            )
    return ""


def _other_appliers(metadata: Json) -> Iterator[tuple[str, Json]]:
    # An Update is a write that was made once. Who applies will apply again.
    for entry in metadata.get("managedFields") or ():
        is_other = entry.get("operation") == "Apply" and entry.get("manager") != FIELD_MANAGER
        if is_other and not entry.get("subresource"):
            yield str(entry.get("manager") or "somebody"), entry.get("fieldsV1") or {}


def _shared(fields: Json, value: Any, path: str = "", keys: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the fields of a managed set (`fieldsV1`) that the value sets too.

    `keys` tell an item of a list from its neighbours: whoever sets anything in the item has to name them.
    """
    for step, inner in fields.items():
        kind, _, word = step.partition(":")
        if kind == "f" and isinstance(value, Mapping) and word in value and word not in keys:
            yield from _shared_in(inner, value[word], f"{path}.{word}")
        elif kind == "k" and isinstance(value, list):
            wanted = json.loads(word)
            item = next((one for one in value if isinstance(one, Mapping) and _is_item(one, wanted)), None)
            if item is not None:
                name = ",".join(f"{key}={wanted[key]}" for key in wanted)
                yield from _shared(inner, item, f"{path}[{name}]", frozenset(wanted))
        elif kind == "v" and isinstance(value, list) and json.loads(word) in value:
            yield f"{path}[{word}]"


def _shared_in(inner: Json, value: Any, path: str) -> Iterator[str]:
    return _shared(inner, value, path) if inner else iter([path])


def _is_item(item: Json, wanted: Json) -> bool:
    # What the manifest leaves out has its default on the server, such as a port's protocol.
    return all(item.get(key, value) == value for key, value in wanted.items())


def _labels(thing: Json) -> Mapping[str, str]:
    return (thing.get("metadata") or {}).get("labels") or {}
