from __future__ import annotations

import pytest

from changecontrol.rules.roles import ABILITIES, CONFIGURING, SAFETY, VIEWING, Ability, Role, abilities_of, roles_with


def test_every_role_is_in_the_table() -> None:
    assert set(ABILITIES) == set(Role)


@pytest.mark.parametrize("role", Role)
def test_no_role_that_configures_can_vote(role: Role) -> None:
    assert not (ABILITIES[role] & CONFIGURING and Ability.CHANGE_VOTE in ABILITIES[role])


def test_auditor_only_views_and_exports() -> None:  # AUD-8
    assert {ability.value.split(".")[1] for ability in ABILITIES[Role.AUDITOR]} == {"view", "export"}


def test_executor_executes_and_never_votes() -> None:
    assert ABILITIES[Role.EXECUTOR] - VIEWING == {Ability.CHANGE_EXECUTE}
    assert roles_with(Ability.CHANGE_EXECUTE) == (Role.EXECUTOR,)


def test_only_those_who_judge_vote() -> None:
    assert set(roles_with(Ability.CHANGE_VOTE)) == {
        Role.TECHNICAL_REVIEWER,
        Role.CHANGE_MANAGER,
        Role.PROCESS_OWNER,
        Role.RECOVERY_OWNER,
        Role.SECURITY_APPROVER,
    }


@pytest.mark.parametrize("role", [Role.RELEASE_OPERATOR, Role.CHANGE_MANAGER, Role.INCIDENT_COMMANDER])
def test_operators_may_do_every_safety_action(role: Role) -> None:
    assert ABILITIES[role] >= SAFETY


def test_every_ability_is_held_by_somebody() -> None:
    assert [ability for ability in Ability if not roles_with(ability)] == []


def test_roles_add_up_and_unknown_ones_allow_nothing() -> None:
    both = abilities_of(["engineer", "technical_reviewer", "superuser"])

    assert both == ABILITIES[Role.ENGINEER] | ABILITIES[Role.TECHNICAL_REVIEWER]
    assert abilities_of(["superuser"]) == frozenset()
    assert abilities_of([]) == frozenset()


def test_roles_serve_as_choices_of_a_field() -> None:
    assert Role.choices()[1] == ("technical_reviewer", "Technical reviewer")


def test_recovery_is_the_recovery_owners_and_an_incident_restore_the_commanders_too() -> None:
    assert set(roles_with(Ability.RECOVERY_EDIT)) == {Role.RECOVERY_OWNER, Role.PLATFORM_ADMINISTRATOR}
    assert roles_with(Ability.RECOVERY_RESTORE) == (Role.RECOVERY_OWNER,)
    assert set(roles_with(Ability.RECOVERY_RESTORE_INCIDENT)) == {Role.RECOVERY_OWNER, Role.INCIDENT_COMMANDER}
    assert set(roles_with(Ability.RECOVERY_SIGN_OFF)) == {Role.RECOVERY_OWNER, Role.PROCESS_OWNER}
    assert set(roles_with(Ability.RECOVERY_HOLD)) == {Role.RECOVERY_OWNER, Role.SECURITY_APPROVER}
