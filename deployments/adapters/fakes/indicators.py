"""The `Indicators` port from a table: a query answers with what a test says, at the moment it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from changecontrol.adapters.fakes.script import Call, Script
from deployments.ports import Sample

Answer = Sequence[tuple[Mapping[str, str], float]] | Callable[[datetime], float | None]


class FakeIndicators:
    """Answers no series until told otherwise by `set_value`, `set_series` or `follow`."""

    def __init__(self) -> None:
        self.script = Script()
        self._answers: dict[str, Answer] = {}

    def set_value(self, query: str, value: float) -> None:
        """Let the query answer one series without labels."""
        self._answers[query] = (({}, value),)

    def set_series(self, query: str, series: Sequence[tuple[Mapping[str, str], float]]) -> None:
        self._answers[query] = tuple(series)

    def follow(self, query: str, curve: Callable[[datetime], float | None]) -> None:
        """Let the value depend on the moment; None is no data."""
        self._answers[query] = curve

    def clear(self, query: str) -> None:
        """Let the query find no data again."""
        self._answers.pop(query, None)

    def observe_query(self, query: str, *, at: datetime) -> Sequence[Sample]:
        def act() -> Sequence[Sample]:
            answer = self._answers.get(query, ())
            if callable(answer):
                value = answer(at)
                return () if value is None else (Sample(labels={}, at=at, value=value),)
            return tuple(Sample(labels=dict(labels), at=at, value=value) for labels, value in answer)

        samples: Sequence[Sample] = self.script.run(Call("observe_query", (query,), {"at": at}), act)
        return samples
