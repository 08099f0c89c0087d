"""Lists: selectors, pages and the tokens that lead from one page to the next."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

from deployments.practice import selectors, status
from deployments.practice.kinds import Kind
from deployments.practice.store import Item, Store

Query = Mapping[str, str]


def filter_of(kind: Kind, query: Query) -> Callable[[Item], bool]:
    """Compile the selectors of a query. Raises the 400 for one that does not parse."""
    labels, wanted = query.get("labelSelector", ""), query.get("fieldSelector", "")
    by_label = selectors.label_test(labels) if labels else None
    allowed = selectors.selectable_fields(kind.plural)
    by_field = selectors.field_test(wanted, plural=kind.plural, allowed=allowed) if wanted else None

    def passes(item: Item) -> bool:
        return (by_label is None or by_label(item.labels)) and (by_field is None or by_field(item.body))

    return passes


def page(store: Store, kind: Kind, namespace: str | None, query: Query) -> tuple[list[Item], dict[str, Any]]:
    """Return the objects of one page and the list's metadata."""
    passes = filter_of(kind, query)
    limit = _limit(query.get("limit", ""))
    version, start = store.version, ""
    if query.get("continue"):
        version, start = _position(query["continue"])
        if version < store.oldest:
            raise status.expired("The provided continue parameter is too old to display a consistent list result.")
    items: list[Item] = []
    left = 0
    for item in store.items(kind, namespace):
        if start and _place(item) <= start:
            continue
        if not passes(item):
            continue
        if limit and len(items) == limit:
            left += 1
        else:
            items.append(item)
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if left:
        token = {"v": "meta.k8s.io/v1", "rv": version, "start": _place(items[-1])}
        metadata["continue"] = base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")
        # The API server cannot count what a selector has yet to judge, so it leaves the number out.
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = left
    return items, metadata


def rendered(kind: Kind, items: list[Item], metadata: dict[str, Any]) -> bytes:
    """Write a list from the bytes its objects keep."""
    head = json.dumps(
        {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": metadata}, separators=(",", ":")
    )
    if kind.is_custom:
        return f'{head[:-1]},"items":[{",".join(item.full() for item in items)}]}}\n'.encode()
    return f'{head[:-1]},"items":[{",".join(item.bare() for item in items)}]}}\n'.encode()


def _place(item: Item) -> str:
    return f"{item.namespace}/{item.name}\0"


def _limit(text: str) -> int:
    if not text:
        return 0
    try:
        return max(0, int(text))
    except ValueError as error:
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error


def _position(token: str) -> tuple[int, str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(found["rv"]), str(found["start"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise status.bad_request("continue key is not valid: it is malformed") from error
