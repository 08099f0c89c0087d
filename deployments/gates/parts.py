"""A gate that asks clusters does so environment by environment, as far as one tick reaches, and goes on in the next.

Threads talk to clusters alone: what they learn is handed back as JSON values, and whoever owns the tick settles it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from changecontrol.errors import Permanent, Transient
from changecontrol.gates import GateVerdict
from deployments.gates.context import DeployContext
from deployments.resolution import ResolvedEnvironment

CALLS_AT_ONCE = 4
"""Calls to one cluster at a time for one environment."""

Part = dict[str, Any]
"""What is known of one environment, as JSON values. Incomplete until `ask` says so."""
IsTimeUp = Callable[[], bool]


class EnvironmentGate(ABC):
    """A gate whose verdict is made of one part for each environment."""

    @abstractmethod
    def ask(self, one: ResolvedEnvironment, part: Part, *, is_time_up: IsTimeUp) -> bool:
        """Add to the part what its cluster says, until all is known or time is up; return whether all is known.

        Runs in a thread: no database. Raises `Transient` and `Permanent`, and what the part holds by then stays.
        """

    @abstractmethod
    def conclude(self, context: DeployContext, parts: Mapping[str, Part]) -> GateVerdict:
        """Return the verdict on these environments, by slug. One whose cluster could not be asked is missing."""

    def attachments(self, one: ResolvedEnvironment, part: Part) -> dict[str, bytes]:
        """Take out of a complete part what becomes artefacts of its own, by name."""
        return {}


def fill(known: dict[str, Any], work: Iterable[tuple[str, Callable[[], Any]]], *, is_time_up: IsTimeUp) -> bool:
    """Do what is not known yet, several at once, and note each answer under its name; return whether all is known.

    Raises the first refusal, once what was begun beside it has ended and is noted.
    """
    left = [(name, do) for name, do in work if name not in known]

    def one(name: str, do: Callable[[], Any]) -> Transient | Permanent | None:
        if is_time_up():
            return None
        try:
            known[name] = do()
        except (Transient, Permanent) as trouble:
            return trouble
        return None

    with ThreadPoolExecutor(max_workers=CALLS_AT_ONCE) as pool:
        troubles = [trouble for trouble in pool.map(lambda pair: one(*pair), left) if trouble is not None]
    if troubles:
        raise troubles[0]
    return all(name in known for name, _ in left)
