"""What every fake has in common: it records each call, and fails where a test scripted it to.

A scripted failure comes either before the far side acted, or after it acted and before the answer arrived (a cut
connection), which is where a workflow that does not look before it writes goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call a fake received."""

    verb: str
    args: tuple[Any, ...] = ()
    words: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Fault:
    verb: str
    error: BaseException
    is_after: bool
    left: int
    when: Callable[[Call], bool]


class Script:
    """The calls received so far and the failures still to come."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._faults: list[_Fault] = []

    def fail_before(
        self, verb: str, error: BaseException, *, times: int = 1, when: Callable[[Call], bool] = lambda call: True
    ) -> None:
        """Raise `error` in the next `times` calls of the verb, before anything happens. `"*"` is any verb."""
        self._faults.append(_Fault(verb, error, False, times, when))

    def fail_after(
        self, verb: str, error: BaseException, *, times: int = 1, when: Callable[[Call], bool] = lambda call: True
    ) -> None:
        """Let the next `times` calls of the verb act, then raise `error` in place of the answer."""
        self._faults.append(_Fault(verb, error, True, times, when))

    def run(self, call: Call, act: Callable[[], Any]) -> Any:
        """Record the call, act, and fail where scripted."""
        self.calls.append(call)
        fault = next((fault for fault in self._faults if self._is_due(fault, call)), None)
        if fault is None:
            return act()
        fault.left -= 1
        if fault.is_after:
            act()
        # A copy: what was raised holds on to the frames it went through, and an error that parametrizes a test lives as
        # long as the process.
        raise copy(fault.error)

    def verbs(self) -> list[str]:
        """Return the verbs called so far, in order."""
        return [call.verb for call in self.calls]

    def _is_due(self, fault: _Fault, call: Call) -> bool:
        return fault.left > 0 and fault.verb in (call.verb, "*") and fault.when(call)


class Scripted:
    """Any adapter, real ones too, behind a script: `Scripted(repository)` fails and records like a fake."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.script = Script()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if not callable(method) or not name.startswith(("ensure_", "observe_", "read")):
            return method

        def call(*args: Any, **words: Any) -> Any:
            return self.script.run(Call(name, args, words), lambda: method(*args, **words))

        return call
