"""The errors of the domain, each with a sentence a user may read.

Actions raise `Forbidden`, `IllegalTransition`, `Conflict`, `Invalid` and `NotFound`; every edge maps them to HTTP once
(403, 409, 409, 422, 404). Adapters raise only `Transient` (or its `UnderWay`),
`Permanent` and `Hindered`.
"""

from __future__ import annotations


class DomainError(Exception):
    """A refusal. `sentence` says what is wrong and, where there is one, the way out."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Forbidden(DomainError):
    """The actor may not do this."""


class NotFound(DomainError):
    """There is no such thing among what the actor may see."""


class IllegalTransition(DomainError):
    """The state table has no such move."""


class Conflict(DomainError):
    """Somebody else changed what the actor was looking at, or holds what the actor wants."""


class Invalid(DomainError):
    """The words given do not make sense. `fields` maps a field's name to its sentences."""

    def __init__(self, sentence: str, *, fields: dict[str, list[str]] | None = None) -> None:
        super().__init__(sentence)
        self.fields = fields or {}


class Transient(Exception):
    """The far side could not answer now; asking again may help. `after` is in seconds, where the far side named it."""

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class UnderWay(Transient):
    """The far side is still at it: asking again later is no failed attempt. `reason` says how far it is."""


class Permanent(Exception):
    """The far side refused, and will refuse again until a person changes something."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Hindered(Exception):
    """What was asked could not be tried: no room, no time, somebody stopped it. It says nothing of the far side.

    Not a `Permanent`: whoever takes that for an answer must not take this for one, nor go on after it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
