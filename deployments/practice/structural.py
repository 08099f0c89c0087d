"""What the definition of a custom kind says beyond its fields: defaults, what is required, enums, patterns, bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from deployments.practice.store import cloned

Cause = tuple[str, str, str]
Schema = dict[str, Any]


def fill(schema: Schema, body: dict[str, Any]) -> None:
    """Set the defaults of a definition, in place; a map that is not there gets none."""
    for key, child in (schema.get("properties") or {}).items():
        if body.get(key) is None and "default" in child:
            body[key] = cloned(child["default"])
        value = body.get(key)
        if isinstance(value, dict):
            fill(child, value)
        elif isinstance(value, list) and isinstance(child.get("items"), dict):
            for item in value:
                if isinstance(item, dict):
                    fill(child["items"], item)


def causes(schema: Schema, value: Any, where: str = "") -> Iterator[Cause]:
    """Yield why a value does not fit, as the API server words it. What `fields.py` and `decoding.py` judge is left."""
    if isinstance(value, dict):
        yield from _of_map(schema, value, where)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from causes(schema.get("items") or {}, item, f"{where}[{at}]")
    elif value is not None:
        yield from _of_scalar(schema, value, where)


def _of_map(schema: Schema, value: dict[str, Any], where: str) -> Iterator[Cause]:
    for key in schema.get("required") or ():
        if value.get(key) is None:
            yield "FieldValueRequired", _below(where, key), "Required value"
    properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
    for key, entry in value.items():
        child = properties.get(key, others)
        if isinstance(child, dict):
            yield from causes(child, entry, _below(where, key))


def _of_scalar(schema: Schema, value: Any, where: str) -> Iterator[Cause]:
    supported = schema.get("enum")
    if supported and value not in supported:
        listed = ", ".join(json.dumps(one) for one in supported)
        yield "FieldValueNotSupported", where, f"Unsupported value: {json.dumps(value)}: supported values: {listed}"
    pattern = schema.get("pattern")
    if pattern and isinstance(value, str) and not re.search(pattern, value):
        yield _wrong(where, value, f"should match '{pattern}'")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            yield _wrong(where, value, f"should be greater than or equal to {schema['minimum']}")
        if "maximum" in schema and value > schema["maximum"]:
            yield _wrong(where, value, f"should be less than or equal to {schema['maximum']}")
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield _wrong(where, value, f"should be at least {schema['minLength']} chars long")


def _wrong(where: str, value: Any, why: str) -> Cause:
    return "FieldValueInvalid", where, f"Invalid value: {json.dumps(value)}: {where} in body {why}"


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
