"""Steps, the time to recover in its parts, and what makes a live part be drawn again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from recovery.models import Restore
from recovery.queries.progress import Progress
from recovery.views.restore_facts import restore_steps
from recovery.views.step_facts import drawn, progress_facts, time_split
from tests.factories import NOW

REACHED = ("provisioned_at", "restored_at", "validated_at")


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def restore(state: str, *reached: float, ended: float | None = None) -> Restore:
    """Return a restore that was declared 5 minutes before it was decided, and came as far as these minutes tell."""
    times: dict[str, Any] = {name: NOW + minutes(one) for name, one in zip(REACHED, reached, strict=False)}
    finished_at = None if ended is None else NOW + minutes(ended)
    return Restore(state=state, declared_at=NOW, decided_at=NOW + minutes(5), finished_at=finished_at, **times)


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (restore("queued"), "[queued] provisioning restoring validating succeeded"),
        (restore("provisioning"), "[provisioning] restoring validating succeeded"),
        (restore("restoring", 7), "provisioning+ [restoring] validating succeeded"),
        (restore("validating", 7, 9), "provisioning+ restoring+ [validating] succeeded"),
        (restore("succeeded", 7, 9, 12, ended=12), "provisioning+ restoring+ validating+ [succeeded]"),
        (restore("failed", 7, ended=8), "provisioning+ restoring validating [failed]"),
        (restore("canceled", ended=6), "provisioning restoring validating [canceled]"),
    ],
    ids=lambda one: one.state if isinstance(one, Restore) else "",
)
def test_a_way_shows_what_is_done_what_is_now_and_where_it_ends(row: Restore, shown: str) -> None:
    found = restore_steps(row)

    words = [f"[{one['state']}]" if one["is_now"] else one["state"] + "+" * one["is_done"] for one in found]
    assert " ".join(words) == shown


@pytest.mark.parametrize(
    ("row", "values", "total", "is_over_target"),
    [
        (restore("provisioning"), ["5 min", "15 min", "to come", "to come"], "20 min", False),
        (restore("restoring", 7), ["5 min", "2 min", "13 min", "to come"], "20 min", False),
        (restore("succeeded", 7, 37, 42, ended=42), ["5 min", "2 min", "30 min", "5 min"], "42 min", True),
        (restore("failed", 7, ended=8), ["5 min", "2 min", "not reached", "not reached"], "7 min", False),
    ],
    ids=["provisioning", "restoring", "succeeded-late", "failed"],
)
def test_the_time_to_recover_counts_on_until_it_is_over(
    row: Restore, values: list[str], total: str, is_over_target: bool
) -> None:
    found = time_split(row, target=minutes(40), at=NOW + minutes(20))

    assert [one.value.replace("\N{NO-BREAK SPACE}", " ") for one in found["parts"]] == values
    assert (found["total"].replace("\N{NO-BREAK SPACE}", " "), found["is_over_target"]) == (total, is_over_target)


def test_bars_lie_side_by_side_and_the_longer_of_target_and_time_is_the_whole() -> None:
    found = time_split(restore("succeeded", 10, 30, 40, ended=40), target=minutes(80), at=NOW + minutes(99))

    assert [(one.x, one.width) for one in found["parts"]] == [
        ("0%", "6.25%"), ("6.25%", "6.25%"), ("12.5%", "25%"), ("37.5%", "12.5%"),
    ]  # fmt: skip


def test_a_live_part_is_drawn_again_when_it_says_something_else_or_time_has_passed() -> None:
    said = Progress("unpacking", "The base.", 10, 100, 0.1, minutes(9))

    first = drawn("restoring", progress=said, at=NOW)

    assert first == drawn("restoring", progress=said, at=NOW + timedelta(seconds=2))
    assert first != drawn("restoring", progress=said, at=NOW + timedelta(seconds=20))
    assert first != drawn("validating", progress=said, at=NOW)
    assert first != drawn("restoring", progress=None, at=NOW)


def test_without_a_job_there_is_no_progress_and_without_a_share_no_end() -> None:
    assert progress_facts(None, at=NOW) is None

    found = progress_facts(Progress("waiting", "It waits for its turn."), at=NOW)

    assert found is not None
    assert (found["left"], found["ends_at"], found["share"]) == ("", None, None)
