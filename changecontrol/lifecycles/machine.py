"""A state machine as data: a table of verbs, and one place that says no.

A `Lifecycle` knows which verb leads from which states to which; it holds no state itself and does no work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Self, TypeVar

from changecontrol.errors import IllegalTransition


class Word(StrEnum):
    """A word of the vocabulary; `choices()` suits a Django field."""

    @property
    def label(self) -> str:
        return self.value.replace("_", " ").capitalize()

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        return [(word.value, word.label) for word in cls]

    @classmethod
    def among(cls, words: Iterable[str]) -> frozenset[Self]:
        """Return the words named, each of which must exist."""
        return frozenset(cls(word) for word in words)


S = TypeVar("S", bound=Word)


@dataclass(frozen=True, slots=True)
class Lifecycle(Generic[S]):
    """What may become of a kind of thing. `transitions` maps a verb to the states it leaves and the one it reaches."""

    name: str
    initial: S
    transitions: Mapping[str, tuple[frozenset[S], S]]

    def target(self, verb: str, state: str) -> S:
        """Return the state that the verb leads to. Raises `IllegalTransition` where there is no such move."""
        if verb not in self.transitions:
            raise IllegalTransition(f"A {self.name} has no step called “{_words(verb)}”.")
        leaves, reaches = self.transitions[verb]
        if state in leaves:
            return reaches
        possible = " or ".join(f"“{_words(one)}”" for one in self.states if one in leaves)
        raise IllegalTransition(
            f"{_words(verb).capitalize()} is not possible while this {self.name} is at “{_words(state)}”; "
            f"it must be at {possible}."
        )

    def allows(self, verb: str, state: str) -> bool:
        return verb in self.transitions and state in self.transitions[verb][0]

    def verbs(self, state: str) -> tuple[str, ...]:
        """List the verbs possible from the state, in the order of the table."""
        return tuple(verb for verb, (leaves, _) in self.transitions.items() if state in leaves)

    @property
    def states(self) -> tuple[S, ...]:
        return tuple(type(self.initial))

    @property
    def final(self) -> frozenset[S]:
        """The states that no verb leaves."""
        return frozenset(state for state in self.states if not self.verbs(state))


def _words(slug: str) -> str:
    return str(slug).replace("_", " ")
