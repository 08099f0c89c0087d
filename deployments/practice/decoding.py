"""From bytes to an object of its kind: what is unknown is dropped, warned about or refused; a wrong type always is."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

import yaml

from deployments.practice.defaults import quantity
from deployments.practice.fields import item_element
from deployments.practice.kinds import Kind
from deployments.practice.schema import Node, child_of
from deployments.practice.status import ApiError, bad_request, internal

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_GO_NAMES = {"integer": "int32", "string": "string", "boolean": "bool", "number": "float64"}
_NO_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_TABLES = frozenset({"hard", "limits", "requests"})
_PYTHON: dict[str, tuple[type, ...]] = {"integer": (int,), "string": (str,), "boolean": (bool,), "number": (int, float)}


def parsed(data: bytes) -> Any:
    """Read JSON, or YAML where it is not JSON. Raises the 400."""
    try:
        return json.loads(data)
    except ValueError:
        pass
    try:
        return yaml.load(data, Loader=_YAML)  # noqa: S506 - a safe loader, in C where there is one
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise bad_request(f"error decoding YAML: {error}") from error


def decoded(kind: Kind, node: Node, body: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the object without its unknown fields, and where those stood. Raises the 400 for a wrong type."""
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    unknown: list[str] = []
    out = _clean(kind, node, body, "", unknown)
    if why := _unreadable(kind, out):
        raise _unhandled(kind, why)
    return out, unknown


def strict_error(kind: Kind, unknown: list[str]) -> ApiError:
    found = ", ".join(f'unknown field "{path}"' for path in unknown)
    return _unhandled(kind, f"strict decoding error: {found}")


def _unhandled(kind: Kind, why: str) -> ApiError:
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}')


def _clean(kind: Kind, node: Node, value: Any, path: str, unknown: list[str]) -> Any:
    if value is None or node.shape == "any":
        return value
    if node.name == "custom":
        return {key: _clean(kind, child_of(node, key) or node, entry, key, unknown) for key, entry in value.items()}
    if node.shape == "scalar":
        wanted = _PYTHON.get(node.scalar)
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and node.scalar != "boolean")):
            raise _mismatch(kind, value, path, _GO_NAMES[node.scalar])
        if isinstance(value, dict | list):
            raise _mismatch(kind, value, path, "string")
        return value
    if node.shape == "list":
        if not isinstance(value, list):
            raise _mismatch(kind, value, path, "[]" + (node.element.name if node.element else ""))
        element = node.element
        return (
            [_clean(kind, element, item, f"{path}[{at}]", unknown) for at, item in enumerate(value)]
            if element
            else value
        )
    if not isinstance(value, dict):
        raise _mismatch(kind, value, path, node.name or "map[string]string")
    out = {}
    for key, entry in value.items():
        child = child_of(node, key)
        below = f"{path}.{key}" if path else str(key)
        if child is None:
            unknown.append(below)
        elif entry is not None:
            out[key] = _clean(kind, child, entry, below, unknown)
    return out


def _mismatch(kind: Kind, value: Any, path: str, wanted: str) -> ApiError:
    names: dict[type, str] = {
        bool: "bool",
        str: "string",
        int: "number",
        float: "number",
        dict: "object",
        list: "array",
    }
    names_found = names.get(type(value), "value")
    return _unhandled(
        kind, f"json: cannot unmarshal {names_found} into Go struct field {kind.kind}.{path} of type {wanted}"
    )


def checked_configuration(kind: Kind, node: Node, body: Any, *, namespace: str, name: str) -> dict[str, Any]:
    """Return an apply configuration without nulls. Raises the 500 where it does not fit the schema."""
    if not isinstance(body, dict):
        raise bad_request("error decoding YAML: the object provided is unrecognized (must be of type object)")
    where = f"({namespace}/{name}; {_group_version(kind)}, Kind={kind.kind})"
    faults: list[str] = []
    out = _checked(node, body, "", faults)
    if faults:
        said = faults[0] if len(faults) == 1 else "errors:\n" + "\n".join(f"  {fault}" for fault in faults)
        raise internal(f"failed to create typed patch object {where}: {said}")
    if not isinstance(out, dict):
        raise internal(f"failed to create typed patch object {where}: expected map")
    if why := _unreadable(kind, out):
        # `encoding/json` prefixes what a type of its own says; a quantity reads itself.
        said = why if why == _NO_QUANTITY else f"error decoding from json: {why}"
        what = f"{_group_version(kind)}, Kind={kind.kind}"
        raise internal(
            f"failed to convert new object {where} to proper version: unable to convert unstructured object to "
            f"{what}: {said}"
        )
    return out


def _group_version(kind: Kind) -> str:
    return f"{kind.group}/{kind.version}"


def _unreadable(kind: Kind, body: dict[str, Any]) -> str:
    """Return what the API server says of a value whose text it cannot read; empty where it reads all."""
    if kind.is_custom or kind.kind == "CustomResourceDefinition":
        # The one is judged by its schema; the other may have such tables in its schema.
        return ""
    coded = body.get("data") if kind.kind == "Secret" else body.get("binaryData") if kind.kind == "ConfigMap" else None
    if not all(map(_is_base64, (coded or {}).values())):
        return "illegal base64 data at input byte 0"
    return "" if all(map(_is_quantity, _quantities(body))) else _NO_QUANTITY


def _quantities(value: Any) -> Iterator[Any]:
    """Yield the quantities of an object: of resources, and of what a quota allows."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key in _TABLES and isinstance(entry, dict):
            yield from entry.values()
        else:
            yield from _quantities(entry)


def _is_quantity(value: Any) -> bool:
    try:
        quantity(value)
    except ValueError:
        return False
    return True


def _is_base64(value: Any) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _checked(node: Node, value: Any, path: str, faults: list[str]) -> Any:
    if node.shape == "any" or value is None:
        return value
    if node.shape == "scalar":
        wanted = _PYTHON.get(node.scalar)
        is_wrong = wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and node.scalar != "boolean"))
        if is_wrong or isinstance(value, dict | list):
            shown = "numeric (int or float)" if node.scalar in ("integer", "number") else node.scalar or "scalar"
            faults.append(f"{path}: expected {shown}, got {json.dumps(value)}")
        return value
    if node.shape == "list":
        if not isinstance(value, list):
            faults.append(f"{path}: expected list, got {json.dumps(value)}")
            return value
        return _checked_list(node, value, path, faults)
    if not isinstance(value, dict):
        faults.append(f"{path}: expected map, got {json.dumps(value)}")
        return value
    out = {}
    for key, entry in value.items():
        child = child_of(node, key)
        if child is None:
            faults.append(f"{path}.{key}: field not declared in schema")
        elif entry is not None:
            out[key] = _checked(child, entry, f"{path}.{key}", faults)
    return out


def _checked_list(node: Node, value: list[Any], path: str, faults: list[str]) -> list[Any]:
    seen: set[str] = set()
    out = []
    for at, item in enumerate(value):
        shown = f"[{at}]"
        if node.keys is not None:
            named = item_element(node, item)
            shown = _item_shown(named)
            if named in seen:
                faults.append(f"{path}: duplicate entries for key {shown}")
            elif node.keys and named == "k:{}":
                keys = ", ".join(f'"{key}"' for key in node.keys)
                faults.append(
                    f"{path}: element {at}: associative list with keys has an element that omits key field {keys}"
                )
            seen.add(named)
        out.append(_checked(node.element, item, path + shown, faults) if node.element else item)
    return out


def _item_shown(element: str) -> str:
    mark, _, rest = element.partition(":")
    if mark == "v":
        return f"[={rest}]"
    return "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(rest).items()) + "]"
