"""Only actions move things between states; everything else asks them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("changecontrol", "deployments", "recovery")
HELD_BY_TABLES = {"state"}


def writers(source: str) -> list[int]:
    """Return the lines that assign an attribute called `state`, or write it through a queryset."""
    found = []
    for node in ast.walk(ast.parse(source)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_write = node.func.attr in {"update", "bulk_update"}
            if is_write and any(keyword.arg in HELD_BY_TABLES for keyword in node.keywords):
                found.append(node.lineno)
        flat = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
        found += [one.lineno for one in flat if isinstance(one, ast.Attribute) and one.attr in HELD_BY_TABLES]
    return found


def modules() -> list[Path]:
    # The practice estate is a far side of its own, which no production code imports.
    left_out = {"actions", "practice", "fakes", "migrations"}
    return [
        path
        for app in APPS
        for path in sorted((ROOT / app).rglob("*.py"))
        if not left_out & set(path.relative_to(ROOT).parts)
    ]


def test_only_actions_assign_a_state() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path in modules() for line in writers(path.read_text())]

    assert found == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("change.state = 'closed'", [1]),
        ("a, run.state = 1, 2", [1]),
        ("rows.update(state='closed')", [1]),
        ("run.state: str = 'x'", [1]),
        ("rows.filter(state='closed')\nstate = change.state", []),
    ],
)
def test_the_search_finds_every_way_of_writing(source: str, lines: list[int]) -> None:
    assert writers(source) == lines
