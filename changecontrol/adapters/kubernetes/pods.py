"""Reads from raw pods what keeps one from beginning, and says it in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from changecontrol.rules.redaction import redact_text

MAX_MESSAGE_CHARACTERS = 300
STARTING = {"ContainerCreating", "PodInitializing"}
NO_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}

Json = Mapping[str, Any]


def why_it_waits(pods: Iterable[Json]) -> str:
    """Return why the first pod that waits does not begin; empty where none does."""
    for pod in pods:
        scheduled = next((one for one in conditions_of(pod) if one.get("type") == "PodScheduled"), {})
        if scheduled.get("status") == "False":
            return f"No node takes its pod: {short(scheduled.get('message'))}"
        for state in states_of(pod):
            waiting = state.get("waiting") or {}
            reason = waiting.get("reason")
            if reason in NO_IMAGE:
                return f"Its image cannot be pulled: {short(waiting.get('message') or reason)}"
            if reason and reason not in STARTING:
                return f"Its pod cannot start: {short(waiting.get('message') or reason)}"
    return ""


def states_of(pod: Json) -> Iterator[Json]:
    """Yield the states of a pod's containers, those that prepare it first."""
    status = pod.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        yield one.get("state") or {}


def conditions_of(item: Json | None) -> Sequence[Json]:
    """Return the conditions of an object, whether they hold or not."""
    found: Sequence[Json] = ((item or {}).get("status") or {}).get("conditions") or ()
    return found


def short(text: object) -> str:
    """Return the cluster's words as the end of a sentence: one line without credentials, not too long."""
    words = redact_text(" ".join(str(text or "no reason given").split()))
    words = words if len(words) <= MAX_MESSAGE_CHARACTERS else words[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    return words if words.endswith((".", "…")) else f"{words}."
