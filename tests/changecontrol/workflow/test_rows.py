"""Rows read by statements written out are the rows that the manager reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db.models import Model

from changecontrol.models import Message, Run, RunTarget, User
from changecontrol.models.leased import Leased
from changecontrol.workflow.rows import lock_row
from tests.changecontrol.workflow.toy import MemoryFarSide, ToyRun, ToyTarget, claim_one, make_runs

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)


@pytest.fixture
def rows(db: None) -> list[Leased]:
    """One row of each leased model, with documents, times and nulls in it."""
    make_runs(1, at=AT, targets=1)
    Run.objects.update(data={"finishing": {"at": [1, None]}}, deadline_at=AT)
    RunTarget.objects.update(applied=[{"ref": "Deployment/odoo"}], next_due_at=AT)
    person = User.objects.create_user("ben")
    message = Message.objects.create(recipient=person, tag="t", subject="s", text="ü", created_at=AT)
    return [Run.objects.get(), RunTarget.objects.get(), message]


def values_of(row: Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_a_locked_row_holds_what_the_manager_reads(rows: list[Leased]) -> None:
    for row in rows:
        locked = lock_row(type(row), row.pk)

        assert values_of(locked) == values_of(type(row)._default_manager.get(pk=row.pk))
        assert (locked == row, locked._state.adding, locked._state.db) == (True, False, "default")


def test_a_claimed_row_holds_what_the_manager_reads(rows: list[Leased]) -> None:
    workflows: list[Any] = [ToyRun(MemoryFarSide()), ToyTarget(MemoryFarSide())]
    for workflow in workflows:
        claimed = claim_one(workflow, at=AT)

        assert claimed is not None
        assert values_of(claimed.row) == values_of(workflow.model._default_manager.get())


def test_a_row_that_is_gone_is_missing_by_name(db: None) -> None:
    with pytest.raises(Message.DoesNotExist, match="There is no message 1"):
        lock_row(Message, 1)
