"""Merge (RFC 7386), JSON (RFC 6902) and strategic merge patches. Server-side apply is in `managed.py`."""

from __future__ import annotations

from typing import Any

from deployments.practice.schema import ANY, Node, child_of
from deployments.practice.status import ApiError, bad_request


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


def strategic(node: Node, target: Any, patch: Any) -> Any:
    """Apply a strategic merge patch: lists merge by their key; `$patch` and `$deleteFromPrimitiveList` are obeyed."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    out = dict(target) if isinstance(target, dict) else {}
    retained = patch.get("$retainKeys")
    if retained is not None:
        out = {key: value for key, value in out.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            out[field] = [item for item in out.get(field) or () if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            out.pop(key, None)
        else:
            child = child_of(node, key) or ANY
            if isinstance(value, list) and child.shape == "list" and child.merge_key is not None:
                out[key] = _strategic_list(child, out.get(key) or [], value)
            else:
                out[key] = strategic(child, out.get(key), value)
    return out


def _strategic_list(node: Node, target: list[Any], patch: list[Any]) -> list[Any]:
    element, key = node.element or ANY, node.merge_key
    if not key:
        return [*target, *(item for item in patch if item not in target)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" and key not in item for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    out = list(target)
    for item in patch:
        name = item.get(key) if isinstance(item, dict) else None
        if name is None:
            raise bad_request(f"map: {item!r} does not contain declared merge key: {key}")
        at = next((index for index, old in enumerate(out) if old.get(key) == name), None)
        if item.get("$patch") == "delete":
            out = [old for old in out if old.get(key) != name]
        elif at is None:
            out.append(strategic(element, {}, item))
        else:
            out[at] = strategic(element, out[at], item)
    return out


def json_patch(target: Any, operations: Any) -> Any:
    """Apply a JSON patch to a private copy. Raises the 422 where an operation does not fit."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    document = target
    for operation in operations:
        document = _operate(document, operation)
    return document


def _refused() -> ApiError:
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", details={})


def _operate(document: Any, operation: Any) -> Any:
    verb, path = operation.get("op"), _steps(operation.get("path"))
    if verb == "test":
        if _found(document, path) != operation.get("value"):
            raise _refused()
        return document
    if verb == "remove":
        return _changed(document, path, None, "remove")
    if verb in ("add", "replace"):
        return _changed(document, path, operation.get("value"), verb)
    if verb in ("move", "copy"):
        source = _steps(operation.get("from"))
        value = _found(document, source)
        if verb == "move":
            document = _changed(document, source, None, "remove")
        return _changed(document, path, value, "add")
    raise _refused()


def _steps(pointer: Any) -> list[str]:
    if pointer == "":
        return []
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise _refused()
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")]


def _index(sequence: list[Any], step: str, *, extra: int) -> int:
    if step == "-" and extra:
        return len(sequence)
    if not step.isdigit() or int(step) >= len(sequence) + extra:
        raise _refused()
    return int(step)


def _found(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, list):
            document = document[_index(document, step, extra=0)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            raise _refused()
    return document


def _changed(document: Any, path: list[str], value: Any, verb: str) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(document, list):
        sequence = list(document)
        at = _index(sequence, step, extra=1 if verb == "add" and not rest else 0)
        if rest:
            sequence[at] = _changed(sequence[at], rest, value, verb)
        elif verb == "add":
            sequence.insert(at, value)
        elif verb == "replace":
            sequence[at] = value
        else:
            del sequence[at]
        return sequence
    if not isinstance(document, dict) or ((rest or verb != "add") and step not in document):
        raise _refused()
    table = dict(document)
    if rest:
        table[step] = _changed(table[step], rest, value, verb)
    elif verb == "remove":
        del table[step]
    else:
        table[step] = value
    return table
