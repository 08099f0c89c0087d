"""The page of one change."""

from __future__ import annotations

import pytest

from changecontrol.lifecycles.change import ChangeState
from tests.factories import advance_to

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", list(ChangeState))
def test_page_shows_every_state_to_everybody_of_the_tenant(estate, signed_in, state: ChangeState) -> None:
    change = advance_to(estate, state)
    people = [estate.ada, estate.ben, estate.cy, estate.dee]

    answers = [signed_in(person).get(change.get_absolute_url()) for person in people]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(f"<h1>{change.title}</h1>" in answer.text for answer in answers)
