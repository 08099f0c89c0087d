"""A store whose credential is refused, from when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from changecontrol.adapters.fakes.script import Scripted
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent

SENTENCE = "The object store does not let this credential read it."
REFUSED: list[tuple[str, str]] = []


def open_refusing(address: str, **words: Any) -> Scripted:
    opened = Scripted(open_store(address, **words))
    for verb, part in REFUSED:
        opened.script.fail_before(verb, Permanent(SENTENCE), times=10_000, when=_names(part))
    return opened


def _names(part: str) -> Callable[[Any], bool]:
    return lambda call: part in str(call.args[0])


def refuse(settings: Any, *, verb: str, part: str) -> None:
    """Have every store refuse what a verb asks for below names with this part, as one does whose key was withdrawn."""
    REFUSED[:] = [(verb, part)]
    settings.ADAPTERS = {**settings.ADAPTERS, "object_store": f"{__name__}.open_refusing"}
