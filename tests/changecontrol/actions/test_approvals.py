"""Votes and rounds, against the real database."""

from __future__ import annotations

import pytest

from changecontrol.lifecycles.change import ChangeState
from tests.factories import advance_to, small_estate

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", list(ChangeState))
def test_every_state_is_reached_by_actions(state: ChangeState) -> None:
    assert advance_to(small_estate(), state).state == state
