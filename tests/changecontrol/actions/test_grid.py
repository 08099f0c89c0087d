"""Every state × human verb × role: what an action does is what the two tables say, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from changecontrol.access import Actor
from changecontrol.actions import changes
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid
from changecontrol.lifecycles.change import CHANGE, ChangeState
from changecontrol.models import ChangeRequest
from changecontrol.queries.changes import HUMAN_VERBS
from changecontrol.rules.roles import ABILITIES, Role
from tests.factories import NOW, actor, add_person, advance_to, grant, small_estate
from tests.factories.changes import CONTENT

pytestmark = pytest.mark.django_db

ROLES = [role for role in Role if role is not Role.PLATFORM_ADMINISTRATOR]
ACTIONS: dict[str, Callable[..., Any]] = {
    "submit": changes.submit_change,
    "resubmit": changes.submit_change,
    "revise": lambda **words: changes.revise_change(content={**CONTENT, "reason": "Another."}, **words),
    "hold": lambda **words: changes.hold_change(reason="Wait.", **words),
    "release": changes.release_change,
    "schedule": lambda **words: changes.schedule_change(planned_start_at=None, **words),
    "cancel": lambda **words: changes.cancel_change(reason="Not now.", **words),
    "close": lambda **words: changes.close_change(close_code="successful", **words),
}
NOT_APPROVED = {"schedule": {ChangeState.AUTHORIZE}}
"""Where the table allows a move that also needs an approval which is not there."""


class Undo(Exception):
    """Takes back what an allowed attempt did, so that the next begins where this one did."""


def attempt(verb: str, change: ChangeRequest, by: Actor) -> str:
    """Return `done` with the state reached, or how it was refused; the database is as before."""
    reached = "?"
    try:
        with transaction.atomic():
            ACTIONS[verb](actor=by, change_id=change.pk, at=NOW)
            reached = f"done {ChangeRequest.objects.get(pk=change.pk).state}"
            raise Undo
    except Undo:
        return reached
    except (Forbidden, IllegalTransition, Conflict, Invalid) as refusal:
        return type(refusal).__name__


def expected(verb: str, state: ChangeState, role: Role) -> str:
    # Submitting a draft and resubmitting what was refused is one action.
    names = ("submit", "resubmit") if verb in {"submit", "resubmit"} else (verb,)
    possible = next((one for one in names if CHANGE.allows(one, state)), None)
    if possible is None:
        return "IllegalTransition"
    if HUMAN_VERBS[possible] not in ABILITIES[role]:
        return "Forbidden"
    if state in NOT_APPROVED.get(verb, ()):
        return "IllegalTransition"
    return f"done {CHANGE.target(possible, state)}"


def test_the_grid_covers_every_human_verb() -> None:
    assert set(ACTIONS) == set(HUMAN_VERBS)
    assert set(HUMAN_VERBS) <= set(CHANGE.transitions)


@pytest.mark.parametrize("state", list(ChangeState))
def test_what_an_action_does_is_what_the_tables_say(state: ChangeState) -> None:
    estate = small_estate()
    people = {}
    for role in ROLES:
        person = add_person(f"only-{role}")
        grant(person, role, estate.tenant)
        people[role] = person
    change = advance_to(estate, state)

    found = {(verb, role): attempt(verb, change, actor(people[role])) for verb in ACTIONS for role in ROLES}

    assert found == {(verb, role): expected(verb, state, role) for verb in ACTIONS for role in ROLES}
