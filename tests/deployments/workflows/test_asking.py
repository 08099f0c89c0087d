"""Asking a gate of many environments: bounded in each tick, kept between ticks, closed where a cluster is down."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from changecontrol.actions.gates import Judged
from changecontrol.adapters.kubernetes import transport
from changecontrol.errors import Permanent, Transient
from changecontrol.gates import GateVerdict
from changecontrol.models.gate import Verdict
from deployments.gates.parts import CALLS_AT_ONCE, EnvironmentGate, Part, fill
from deployments.workflows import asking, looking
from deployments.workflows.asking import Unfinished, go_on
from tests.factories import NOW


@dataclass
class Gate(EnvironmentGate):
    """Does to an environment what the test says, and passes."""

    does: Callable[[str], Any] = lambda slug: None
    findings: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    key, name, tool = "toy", "Toy", "toy"
    time_to_live = timedelta(hours=1)

    def ask(self, one: Any, part: Part, *, is_time_up: Callable[[], bool]) -> bool:
        self.asked[one.environment.slug] += 1
        self.does(one.environment.slug)
        part["answer"] = one.environment.slug
        return True

    def conclude(self, context: Any, parts: Mapping[str, Part]) -> GateVerdict:
        assert all(part == {"answer": slug} for slug, part in parts.items())
        verdict = Verdict.FAIL if self.findings else Verdict.PASS
        return GateVerdict(verdict, " ".join(self.findings) or f"{len(parts)} asked.", "0" * 64, "things")


def context(clusters: Mapping[str, int], *, commit: str = "c1", minutes: int = 0, run_id: int | None = None) -> Any:
    environments = tuple(
        SimpleNamespace(environment=SimpleNamespace(slug=f"{name}-{number}", cluster=cluster))
        for name, count in clusters.items()
        for cluster in [SimpleNamespace(slug=name, name=name.upper())]
        for number in range(count)
    )
    resolved = SimpleNamespace(environments=environments, commit=SimpleNamespace(sha=commit), manifests_hash="hash")
    return SimpleNamespace(resolved=resolved, at=NOW + timedelta(minutes=minutes), run_id=run_id, change=None)


def tick_until_judged(gate: Gate, about: Any, *, limit: int = 30) -> tuple[Judged, list[Unfinished]]:
    ticks: list[Unfinished] = []
    for _ in range(limit):
        found = go_on(gate, about, kept=ticks[-1].kept if ticks else None, attempts=0)
        if isinstance(found, Judged):
            return found, ticks
        ticks.append(found)
    raise AssertionError("It never came to an end.")


def test_many_slow_environments_take_several_ticks_and_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "BEGIN_FOR_SECONDS", 0.45)
    gate = Gate(does=lambda slug: time.sleep(0.3))

    begun = time.monotonic()
    judged, ticks = tick_until_judged(gate, context({"a": 20}))
    lasted = time.monotonic() - begun

    assert judged.verdict.sentence == "20 asked."
    assert set(gate.asked.values()) == {1}
    assert len(ticks) >= 2
    assert ticks[0].due_in == timedelta()
    counts = [int(one.sentence.split()[0]) for one in ticks]
    assert counts == sorted(counts)
    assert counts[0] >= 4
    assert all(one.sentence.endswith("of 20 environments asked.") for one in ticks)
    assert lasted < 20 * 0.3


def test_at_most_four_environments_are_asked_at_once() -> None:
    running: list[int] = []
    lock, now = threading.Lock(), Counter[str]()

    def does(slug: str) -> None:
        with lock:
            now["asked"] += 1
            running.append(now["asked"])
        time.sleep(0.02)
        with lock:
            now["asked"] -= 1

    tick_until_judged(Gate(does=does), context({"a": 12}))

    assert max(running) == asking.ENVIRONMENTS_AT_ONCE


def test_no_more_threads_talk_to_one_cluster_than_keep_a_connection() -> None:
    assert max(asking.ENVIRONMENTS_AT_ONCE, looking.THREADS) <= transport.CALLERS
    # A dry run makes its calls at the same time, each of one request at a time.
    assert asking.ENVIRONMENTS_AT_ONCE * CALLS_AT_ONCE <= transport.POOL_SIZE


def test_a_cluster_that_is_down_is_named_and_holds_nobody() -> None:  # GATE-1, RUN-8
    def does(slug: str) -> None:
        if slug.startswith("dead"):
            raise Transient("The cluster at 192.0.2.1 cannot be reached.")

    gate = Gate(does=does)
    judged, ticks = tick_until_judged(gate, context({"dead": 3, "well": 9}))

    assert judged.verdict.verdict == Verdict.ERROR
    assert judged.verdict.sentence == (
        "It could not be judged, so it does not pass. DEAD: The cluster at 192.0.2.1 cannot be reached. "
        "(dead-0, dead-1, dead-2)"
    )
    assert len(ticks) == asking.GATE_ATTEMPTS - 1
    # The others are through in the first ticks; nothing of them is asked again.
    assert ticks[1].sentence == "9 of 12 environments asked."
    assert all(gate.asked[f"well-{number}"] == 1 for number in range(9))
    assert all(one.due_in > timedelta(seconds=1) for one in ticks[1:])


def test_what_was_found_elsewhere_is_said_beside_the_error() -> None:
    def does(slug: str) -> None:
        if slug == "dead-0":
            raise Permanent("The kubeconfig runs a program.")

    judged, ticks = tick_until_judged(Gate(does=does, findings=["well-0: bad."]), context({"dead": 1, "well": 1}))

    assert judged.verdict.verdict == Verdict.ERROR
    assert "DEAD: The kubeconfig runs a program. (dead-0)" in judged.verdict.sentence
    assert judged.verdict.sentence.endswith("well-0: bad.")
    assert ticks == []


def test_a_cluster_that_asks_to_wait_is_left_alone_that_long() -> None:
    def does(slug: str) -> None:
        raise Transient("It asks for fewer requests.", after=90)

    found = go_on(Gate(does=does), context({"a": 1}), kept=None, attempts=0)

    assert isinstance(found, Unfinished)
    assert found.due_in >= timedelta(seconds=90)


def test_a_cluster_that_always_asks_to_wait_long_ends_as_an_error() -> None:  # GATE-1, RUN-8
    def does(slug: str) -> None:
        raise Transient("The cluster is busy.", after=3600)

    gate, about = Gate(does=does), context({"a": 1})
    kept = None
    for _ in range(asking.GATE_ATTEMPTS):
        found = go_on(gate, about, kept=kept, attempts=0)
        if isinstance(found, Judged):
            break
        kept, about = found.kept, SimpleNamespace(**{**vars(about), "at": about.at + found.due_in})

    assert isinstance(found, Judged)
    assert found.verdict.verdict == Verdict.ERROR


def test_a_cluster_that_fails_now_and_then_is_not_given_up() -> None:
    class Flapping(Gate):
        def ask(self, one: Any, part: Part, *, is_time_up: Callable[[], bool]) -> bool:
            known = part.setdefault("objects", {})
            known[str(len(known))] = True
            if len(known) < 12:
                raise Transient("Try again.")
            return True

        def conclude(self, about: Any, parts: Mapping[str, Part]) -> GateVerdict:
            return GateVerdict(Verdict.PASS, "All asked.", "0" * 64, "things")

    judged, ticks = tick_until_judged(Flapping(), context({"a": 1}))

    assert judged.verdict.verdict == Verdict.PASS
    assert len(ticks) == 11


def test_a_call_that_outlasts_the_tick_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WAIT_FOR_SECONDS", 0.2)
    held = threading.Event()
    gate = Gate(does=lambda slug: held.wait(60) if slug == "hung-0" else None)

    begun = time.monotonic()
    found = go_on(gate, context({"hung": 1, "well": 2}), kept=None, attempts=0)
    lasted = time.monotonic() - begun
    held.set()

    assert lasted < 30
    assert isinstance(found, Unfinished)
    assert found.kept["failures"] == {"hung": 1}
    assert sorted(found.kept["done"]) == ["well-0", "well-1"]


@pytest.mark.parametrize(
    ("words", "asked_again"),
    [({"commit": "c2"}, True), ({"minutes": 6}, True), ({"run_id": 7}, True), ({"minutes": 1}, False)],
)
def test_what_was_kept_counts_for_the_same_plan_and_for_minutes(words: dict[str, Any], asked_again: bool) -> None:
    gate = Gate(does=lambda slug: _fail(slug == "b-0" and gate.asked[slug] == 1))
    first = go_on(gate, context({"a": 1, "b": 1}), kept=None, attempts=0)
    assert isinstance(first, Unfinished)

    judged = go_on(gate, context({"a": 1, "b": 1}, **words), kept=first.kept, attempts=0)

    assert isinstance(judged, Judged)
    assert gate.asked == {"a-0": 2 if asked_again else 1, "b-0": 2}


def test_filling_keeps_what_was_learnt_beside_a_failure_and_stops_in_time() -> None:
    known: dict[str, Any] = {"first": 1}
    work = [("first", lambda: 0), ("second", lambda: 2), ("broken", lambda: _fail(True))]

    with pytest.raises(Transient):
        fill(known, work, is_time_up=lambda: False)
    is_whole = fill(known, [("third", lambda: 3)], is_time_up=lambda: True)

    assert known == {"first": 1, "second": 2}
    assert not is_whole
    assert fill(known, work[:2], is_time_up=lambda: True)


def _fail(is_due: bool) -> None:
    if is_due:
        raise Transient("Not now.")
