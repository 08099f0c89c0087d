from __future__ import annotations

from typing import Any

import pytest

from changecontrol.errors import IllegalTransition
from changecontrol.lifecycles.machine import Lifecycle
from recovery.lifecycles import drill, restore
from recovery.lifecycles.cut_over import CUT_OVER
from recovery.lifecycles.drill import DRILL
from recovery.lifecycles.point import ACTIVE_BACKUPS, BACKUP, POINT, RESTORABLE
from recovery.lifecycles.restore import RESTORE

Grid = dict[str, dict[str, str]]

_KEPT = {"verify": "verified", "break": "broken", "remove": "removed"}
POINT_GRID: Grid = {"copied": _KEPT, "verified": _KEPT, "broken": {**_KEPT, "mend": "copied"}, "removed": {}}

BACKUP_GRID: Grid = {
    "queued": {"start": "running", "fail": "failed", "cancel": "canceled"},
    "running": {"succeed": "succeeded", "fail": "failed", "cancel": "canceled"},
    "succeeded": {},
    "failed": {},
    "canceled": {},
}

RESTORE_GRID: Grid = {
    "queued": {"provision": "provisioning", "fail": "failed", "cancel": "canceled"},
    "provisioning": {"restore": "restoring", "fail": "failed", "cancel": "canceled"},
    "restoring": {"validate": "validating", "fail": "failed", "cancel": "canceled"},
    "validating": {"succeed": "succeeded", "fail": "failed", "cancel": "canceled"},
    "succeeded": {},
    "failed": {},
    "canceled": {},
}

_GIVEN_UP = {"tear_down": "tearing_down", "cancel": "tearing_down"}
DRILL_GRID: Grid = {
    "queued": {"provision": "provisioning", "check": "checking", **_GIVEN_UP},
    "provisioning": {"restore": "restoring", **_GIVEN_UP},
    "restoring": {"check": "checking", **_GIVEN_UP},
    "checking": _GIVEN_UP,
    "tearing_down": {"pass": "passed", "fail": "failed", "end_unjudged": "canceled"},
    "passed": {},
    "failed": {},
    "canceled": {},
}

CUT_OVER_GRID: Grid = {
    "backing_up": {"restore": "restoring", "fail": "failed", "abandon": "abandoned"},
    "restoring": {"ready": "ready", "fail": "failed", "abandon": "abandoned"},
    "ready": {"put_in_place": "ready", "keep": "kept", "abandon": "abandoned"},
    "kept": {"release": "over"},
    "over": {},
    "failed": {},
    "abandoned": {"take_back": "abandoned"},
}

TABLES: list[tuple[Lifecycle[Any], Grid]] = [
    (POINT, POINT_GRID),
    (BACKUP, BACKUP_GRID),
    (RESTORE, RESTORE_GRID),
    (DRILL, DRILL_GRID),
    (CUT_OVER, CUT_OVER_GRID),
]
MOVES = [(table, grid, state, verb) for table, grid in TABLES for state in table.states for verb in table.transitions]


@pytest.mark.parametrize(
    ("table", "grid", "state", "verb"), MOVES, ids=[f"{table.name}-{state}-{verb}" for table, _, state, verb in MOVES]
)
def test_each_moves_only_as_its_grid_says(table: Lifecycle[Any], grid: Grid, state: str, verb: str) -> None:
    reached = grid[state].get(verb)

    if reached is None:
        with pytest.raises(IllegalTransition, match=r"is not possible while this .* is at “.*”; it must be at “.*”\."):
            table.target(verb, state)
    else:
        assert table.target(verb, state) == reached


@pytest.mark.parametrize(("table", "grid"), TABLES, ids=[table.name for table, _ in TABLES])
def test_a_grid_names_every_state_and_verb(table: Lifecycle[Any], grid: Grid) -> None:
    assert set(grid) == set(table.states)
    assert {verb for moves in grid.values() for verb in moves} == set(table.transitions)


@pytest.mark.parametrize("table", [table for table, _ in TABLES], ids=[table.name for table, _ in TABLES])
def test_every_state_can_be_reached(table: Lifecycle[Any]) -> None:
    reached = {table.initial}
    for _ in table.states:
        reached |= {table.target(verb, state) for state in reached for verb in table.verbs(state)}

    assert reached == set(table.states)


def test_a_point_is_copied_until_it_is_verified() -> None:
    assert POINT.initial == "copied"
    assert not POINT.allows("verify", "removed")


def test_a_broken_point_is_not_restored() -> None:
    assert {"copied", "verified"} == RESTORABLE


def test_what_has_ended_moves_no_more() -> None:
    assert DRILL.final == drill.ENDED
    assert RESTORE.final == restore.ENDED
    assert set(BACKUP.states) - ACTIVE_BACKUPS == BACKUP.final


def test_a_drill_has_no_verdict_before_it_tore_down() -> None:  # BCK-8
    for verb in ("pass", "fail", "end_unjudged"):
        assert [state for state in DRILL.states if DRILL.allows(verb, state)] == ["tearing_down"]
