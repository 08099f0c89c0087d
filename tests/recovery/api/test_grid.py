"""Every command of recovery by every role: allowed or refused exactly as the one table of roles says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction

from changecontrol import clock
from changecontrol.models import IdempotencyKey
from changecontrol.rules.roles import ABILITIES, Ability, Role
from recovery.actions.holds import place_hold
from recovery.actions.restores import ask_restore
from recovery.models import BackupRun, CorrectiveAction, Disagreement
from tests.changecontrol.api.conftest import client_for, sentence
from tests.changecontrol.api.test_grid import NOBODY, somebody
from tests.factories import actor, draft_change
from tests.factories.recovery import backup_policy, finished_drill, recovery_owner, registered_point, started_drill
from tests.recovery.api.conftest import AT, PLACE, Scene
from tests.recovery.api.test_commands import iso, register

A = Ability


@dataclass(frozen=True)
class Call:
    path: str
    words: Mapping[str, Any]
    ability: Ability
    is_platforms: bool = False
    """Whether the ability is not enough without being an administrator of the platform."""

    def allows(self, role: str) -> bool:
        if role == NOBODY or (self.is_platforms and role != Role.PLATFORM_ADMINISTRATOR):
            return False
        return self.ability in ABILITIES[Role(role)]


def calls(scene: Scene) -> dict[str, Call]:
    """Return every command with words that would do."""
    at = clock.now()
    backup_policy(scene.estate.staging, engine="external", source="", recipients=())
    hold = place_hold(
        actor=actor(scene.rio), environment_id=scene.place_id, name="Case", reason="-", point_id=scene.newer.pk, at=at
    )
    over = finished_drill(
        scene.estate.production, by=recovery_owner(scene.estate, "rae"), target_at=scene.newer.consistent_at, at=at
    )
    finished_drill(scene.estate.production, by=scene.rio, target_at=scene.older.consistent_at, is_passed=False, at=at)
    todo = CorrectiveAction.objects.get()
    begun = ask_restore(
        actor=actor(scene.rio), environment_id=scene.place_id, target_at=scene.newer.consistent_at,
        target_database="begun", reason="-", at=at,
    )  # fmt: skip
    lost = Disagreement.objects.create(
        environment=scene.estate.production, store="s3://points", kind="unknown_set", name="lost", found_at=at
    )
    unread = Disagreement.objects.create(
        environment=scene.estate.production,
        store=scene.newer.policy.store,
        kind="unknown_set",
        name="unread",
        found_at=at,
    )
    told = registered_point(scene.estate.staging, "told", scene.newer.consistent_at, by=scene.rio)
    going = started_drill(scene.estate.staging, by=scene.rio, target_at=told.consistent_at, level=1, at=at)
    waiting = BackupRun.objects.create(
        environment=scene.estate.staging, policy=told.policy, kind="base", created_at=at, next_due_at=at
    )
    restore = {**PLACE, "target_at": iso(scene.newer.consistent_at), "target_database": "look", "reason": "-"}
    policy = {**PLACE, "seen_version": 1, "reason": "-"}
    return {
        "publish": Call("policies", {**policy, "keep_daily": 3}, A.RECOVERY_EDIT),
        "publish where to": Call("policies", {**policy, "store": "s3://other"}, A.RECOVERY_EDIT, True),
        "register": Call("points", register(), A.RECOVERY_EDIT),
        "back up": Call("backups", {**PLACE, "reason": "-"}, A.RECOVERY_BACK_UP),
        "restore": Call("restores", restore, A.RECOVERY_RESTORE),
        "incident": Call("restores/incident", {**restore, "declared_at": iso(at)}, A.RECOVERY_RESTORE_INCIDENT),
        "drill": Call("drills", {**PLACE, "level": 1, "target_at": iso(scene.newer.consistent_at)}, A.RECOVERY_DRILL),
        "drill of a point": Call(f"points/{scene.newer.pk}/drill", {"level": 1}, A.RECOVERY_DRILL),
        "cancel": Call(f"restores/{begun.pk}/cancel", {"reason": "-"}, A.RECOVERY_RESTORE),
        "cancel a backup": Call(f"backups/{waiting.pk}/cancel", {"reason": "-"}, A.RECOVERY_BACK_UP),
        "cancel a drill": Call(f"drills/{going.pk}/cancel", {"reason": "-"}, A.RECOVERY_DRILL),
        "link": Call(
            f"corrective-actions/{todo.pk}/link", {"number": draft_change(scene.estate).number}, A.RECOVERY_DRILL
        ),
        "close": Call(f"corrective-actions/{todo.pk}/close", {"note": "Mended."}, A.RECOVERY_DRILL),
        "sign off": Call(f"drills/{over.pk}/sign-off", {}, A.RECOVERY_SIGN_OFF),
        "hold": Call("holds", {**PLACE, "name": "Case", "reason": "-"}, A.RECOVERY_HOLD),
        "lift": Call(f"holds/{hold.pk}/lift", {"reason": "-"}, A.RECOVERY_HOLD),
        "let go": Call(f"environments/{scene.place_id}/retention", {"seen_goes": ["older"]}, A.RECOVERY_EDIT),
        "let unknown go": Call(
            f"environments/{scene.place_id}/comparison", {"difference": lost.pk, "reason": "-"}, A.RECOVERY_EDIT
        ),
        "take in": Call(
            f"environments/{scene.place_id}/comparison/take-in",
            {"difference": unread.pk, "reason": "-"},
            A.RECOVERY_EDIT,
        ),
    }


@pytest.mark.parametrize("role", [*(one.value for one in Role if one != Role.EXECUTOR), NOBODY])
def test_each_command_is_allowed_to_whom_the_table_names(scene: Scene, role: str) -> None:
    every = calls(scene)
    client = client_for(somebody(role, scene.estate))

    found = {}
    for name, one in every.items():
        with transaction.atomic():
            answer = client.post(f"{AT}/{one.path}/", dict(one.words))
            transaction.set_rollback(True)
        assert answer.status_code < 300 or answer.status_code in {403, 404}, (name, answer.text)
        found[name] = answer.status_code < 300
        if role == NOBODY:
            assert answer.status_code == 404, name
            assert sentence(answer) == "There is nothing here that you may see."

    assert found == {name: one.allows(role) for name, one in every.items()}


def test_each_command_has_one_effect_under_one_key(scene: Scene) -> None:
    administrator = client_for(somebody(Role.PLATFORM_ADMINISTRATOR, scene.estate))
    owner = client_for(recovery_owner(scene.estate, "rob"))

    for number, (name, one) in enumerate(calls(scene).items()):
        caller = administrator if one.is_platforms else owner
        headers = {"Idempotency-Key": f"key-{number}"}
        with transaction.atomic():
            first = caller.post(f"{AT}/{one.path}/", dict(one.words), headers=headers)
            again = caller.post(f"{AT}/{one.path}/", dict(one.words), headers=headers)
            assert IdempotencyKey.objects.count() == 1, name
            transaction.set_rollback(True)

        assert first.status_code < 300, (name, first.text)
        assert (again.content, again["Idempotent-Replay"]) == (first.content, "true"), name
