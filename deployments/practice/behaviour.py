"""What a release does when it runs, read from what a person can see: its image's name, or an annotation.

See the package's docstring for the marks. The digest behind `@` never counts: its hex may spell anything.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

ANNOTATION = "practice.changecontrol.io/behaviour"
REGISTRIES_UNKNOWN = (".invalid",)
"""No image can be pulled from a registry whose host ends so."""


class Behaviour(StrEnum):
    """How a pod fares."""

    GOOD = "good"
    BAD_IMAGE = "bad-image"
    NEVER_READY = "never-ready"
    CRASH_LOOP = "crash-loop"
    SLOW_LEAK = "slow-leak"
    SLOW_START = "slow-start"
    FAIL = "fail"


_MARKS = (
    ("bad", Behaviour.BAD_IMAGE),
    ("never-ready", Behaviour.NEVER_READY),
    ("crash", Behaviour.CRASH_LOOP),
    ("slow-leak", Behaviour.SLOW_LEAK),
    ("slow-start", Behaviour.SLOW_START),
    ("fail", Behaviour.FAIL),
)
_FAILING_COMMAND = re.compile(r"(^|[\s;&|/])(false|exit\s+[1-9][0-9]*)\s*$")


def behaviour_of(pod: dict[str, Any]) -> Behaviour:
    """Decide how a pod (or a pod template) fares."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    named = annotations.get(ANNOTATION, "")
    if named in {entry.value for entry in Behaviour}:
        return Behaviour(named)
    for container in (pod.get("spec") or {}).get("containers") or ():
        reference = str(container.get("image", "")).partition("@")[0]
        host = reference.partition("/")[0].partition(":")[0]
        if "/" in reference and host.endswith(REGISTRIES_UNKNOWN):
            return Behaviour.BAD_IMAGE
        for mark, behaviour in _MARKS:
            if mark in reference:
                return behaviour
        words = [str(word) for word in [*(container.get("command") or ()), *(container.get("args") or ())]]
        if words and _FAILING_COMMAND.search(" ".join(words)):
            return Behaviour.FAIL
    return Behaviour.GOOD


def image_id(image: str) -> str:
    """Return the imageID a node reports: repository and digest where the image is pinned, else the image as named."""
    reference, _, digest = image.partition("@")
    if not digest:
        return image
    repository, slash, last = reference.rpartition("/")
    return f"{repository}{slash}{last.partition(':')[0]}@{digest}"
