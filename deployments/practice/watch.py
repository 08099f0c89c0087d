"""Watches: what happened since a resource version, then what happens; bookmarks, and a 410 for the too old."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from deployments.practice import status
from deployments.practice.kinds import Kind
from deployments.practice.listing import Query, filter_of
from deployments.practice.store import Change, Item, Store

BOOKMARK_SECONDS = 5.0
QUEUE_LENGTH = 10_000
"""Events a slow reader may be behind before its watch is ended; it then lists again."""
MAXIMUM_SECONDS = 600.0


class Watches:
    """Hands every change to the watches of its kind."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queues: dict[tuple[str, str], set[asyncio.Queue[Change]]] = {}
        store.listeners.append(self._tell)

    def count(self) -> int:
        return sum(len(queues) for queues in self._queues.values())

    async def stream(self, kind: Kind, namespace: str | None, query: Query) -> AsyncIterator[bytes]:
        """Yield one line per event until the query's timeout. Raises `ApiError` before the first line only."""
        passes = filter_of(kind, query)
        version = _version(query.get("resourceVersion", ""))
        deadline = asyncio.get_running_loop().time() + _seconds(query)
        wants_bookmarks = query.get("allowWatchBookmarks") in ("true", "1")

        def in_scope(item: Item) -> bool:
            return (namespace is None or item.namespace == namespace) and passes(item)

        queue: asyncio.Queue[Change] = asyncio.Queue(QUEUE_LENGTH)
        queues = self._queues.setdefault(kind.key, set())
        queues.add(queue)
        try:
            if version and version < self._store.oldest:
                why = status.expired(f"too old resource version: {version} ({self._store.oldest})")
                yield _line("ERROR", json.dumps(why.body, separators=(",", ":")))
                return
            sends_initial = query.get("sendInitialEvents") == "true"
            if version == 0 or sends_initial:
                for item in self._store.items(kind, namespace):
                    if in_scope(item):
                        yield _line("ADDED", item.full())
                if sends_initial:
                    yield self._bookmark(kind, {"k8s.io/initial-events-end": "true"})
            else:
                for change in self._store.since(kind, version):
                    if line := _seen(change, in_scope):
                        yield line
            async for line in self._live(kind, queue, in_scope, deadline, wants_bookmarks):
                yield line
        finally:
            queues.discard(queue)

    async def _live(
        self,
        kind: Kind,
        queue: asyncio.Queue[Change],
        in_scope: Callable[[Item], bool],
        deadline: float,
        wants_bookmarks: bool,
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        bookmark_at = loop.time() + BOOKMARK_SECONDS
        while (left := deadline - loop.time()) > 0:
            if queue.full():
                return
            try:
                change = await asyncio.wait_for(queue.get(), min(left, max(0.01, bookmark_at - loop.time())))
            except TimeoutError:
                if loop.time() >= bookmark_at:
                    bookmark_at += BOOKMARK_SECONDS
                    if wants_bookmarks:
                        yield self._bookmark(kind, None)
                continue
            if line := _seen(change, in_scope):
                yield line

    def _bookmark(self, kind: Kind, annotations: dict[str, str] | None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        return _line("BOOKMARK", json.dumps(body, separators=(",", ":")))

    def _tell(self, change: Change) -> None:
        for queue in self._queues.get(change.kind.key, ()):
            if not queue.full():
                queue.put_nowait(change)


def check_query(kind: Kind, query: Query) -> None:
    """Raise the 400 for a query that cannot be watched, while the answer has not begun yet."""
    filter_of(kind, query)
    _version(query.get("resourceVersion", ""))
    _seconds(query)


def _seen(change: Change, in_scope: Callable[[Item], bool]) -> bytes:
    """Say what a watch with selectors sees of a change: an object that stops matching is gone for it."""
    is_in = in_scope(change.after)
    was_in = change.before is not None and in_scope(change.before)
    if change.verb == "DELETED":
        return _line("DELETED", change.after.full()) if was_in else b""
    if is_in:
        return _line("MODIFIED" if was_in else "ADDED", change.after.full())
    return _line("DELETED", change.after.full()) if was_in else b""


def _line(verb: str, body: str) -> bytes:
    return f'{{"type":"{verb}","object":{body}}}\n'.encode()


def _version(text: str) -> int:
    if not text:
        return 0
    try:
        return int(text)
    except ValueError as error:
        raise status.bad_request(f"invalid resource version: {text}") from error


def _seconds(query: Query) -> float:
    try:
        asked = float(query.get("timeoutSeconds") or MAXIMUM_SECONDS)
    except ValueError as error:
        raise status.bad_request("timeoutSeconds must be a number") from error
    return min(asked, MAXIMUM_SECONDS)
