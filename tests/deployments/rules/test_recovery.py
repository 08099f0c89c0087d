"""Which proof of its backups a change needs, by its rollback class, the stage and the policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from deployments.rules.recovery import Allowed, Backups, judge_backups
from deployments.rules.rollback_class import RollbackClass

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
R0, R1, R2, R3 = RollbackClass
SHOP = Backups(
    environment="shop",
    is_production=True,
    sentence="Point nightly is verified at L2.",
    level=2,
    age=2 * HOUR,
    fresh=Allowed(25 * HOUR, "One is taken every day."),
    proved=Allowed(8 * DAY + HOUR, "One is proved every 7 days."),
)
BARE = replace(SHOP, sentence="No recovery point is verified.", level=0, age=None, fresh=None, proved=None)
STAGING = replace(BARE, environment="trial", is_production=False)


@pytest.mark.parametrize(
    ("age", "rollback_class", "is_enough"),
    [
        (25 * HOUR, R2, True),
        (25 * HOUR + timedelta(seconds=1), R2, False),
        (25 * HOUR + timedelta(seconds=1), R3, False),
        (25 * HOUR + timedelta(seconds=1), R1, True),
        (8 * DAY + HOUR, R0, True),
        (8 * DAY + 2 * HOUR, R0, False),
        (8 * DAY + 2 * HOUR, R1, False),
    ],
)
def test_what_only_a_restore_undoes_needs_a_point_as_fresh_as_the_schedule_makes_them(
    age: timedelta, rollback_class: RollbackClass, is_enough: bool
) -> None:  # RBK-2
    answer = judge_backups(replace(SHOP, age=age), rollback_class=rollback_class, is_policy_required=True)

    assert answer.is_enough is is_enough
    assert answer.sentence.startswith("shop: Point nightly is verified at L2.")


@pytest.mark.parametrize("one", [replace(SHOP, age=None, level=0), replace(SHOP, level=1)], ids=["copied", "only-l1"])
@pytest.mark.parametrize("rollback_class", list(RollbackClass))
def test_a_point_that_is_not_verified_is_never_enough(one: Backups, rollback_class: RollbackClass) -> None:
    answer = judge_backups(one, rollback_class=rollback_class, is_policy_required=False)

    assert (answer.is_enough, "hold a drill of it at L2 or above" in answer.sentence) == (False, True)


def test_a_schedule_that_has_ended_promises_nothing() -> None:
    ended = Allowed(None, "The schedule of its backup policy has ended.")

    answer = judge_backups(
        replace(SHOP, fresh=ended, proved=ended, age=HOUR), rollback_class=R0, is_policy_required=False
    )

    assert (answer.is_enough, answer.sentence) == (
        False,
        "shop: The schedule of its backup policy has ended. Publish one whose schedule goes on.",
    )


@pytest.mark.parametrize(
    ("one", "rollback_class", "is_policy_required", "is_enough"),
    [
        (BARE, R0, True, False),
        (BARE, R0, False, True),
        (BARE, R1, False, True),
        (BARE, R2, False, False),
        (BARE, R3, False, False),
        (STAGING, R0, True, True),
        (STAGING, R3, True, True),
    ],
)
def test_without_a_policy_production_fails_where_one_is_needed(
    one: Backups, rollback_class: RollbackClass, is_policy_required: bool, is_enough: bool
) -> None:
    answer = judge_backups(one, rollback_class=rollback_class, is_policy_required=is_policy_required)

    assert (answer.is_enough, "nobody backs it up" in answer.sentence) == (is_enough, True)


def test_too_old_says_why_and_the_way_out() -> None:
    answer = judge_backups(replace(SHOP, age=26 * HOUR), rollback_class=R2, is_policy_required=True)

    assert answer.sentence == (
        "shop: Point nightly is verified at L2. That is too old. Only a restore undoes R2. One is taken every day. "
        "Take a backup, and hold a drill of it at L2 or above."
    )
