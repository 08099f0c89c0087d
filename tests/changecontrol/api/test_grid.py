"""Every command by every role: allowed or refused exactly as the one table of roles says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction

from changecontrol import clock
from changecontrol.actions.freezes import open_freeze
from changecontrol.actions.windows import WindowContent, create_window
from changecontrol.models import ChangeRequest, Freeze, Run, TenantUserObjectPermission, User, Window
from changecontrol.rules.roles import ABILITIES, Ability, Role
from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    add_person,
    advance_to,
    authorized_change,
    draft_change,
    grant,
    requirement_named,
    small_estate,
    submitted_change,
)

NOBODY = "stranger"
ROLES = [
    Role.ENGINEER,
    Role.TECHNICAL_REVIEWER,
    Role.CHANGE_MANAGER,
    Role.RELEASE_OPERATOR,
    Role.AUDITOR,
    Role.TENANT_ADMINISTRATOR,
    Role.PLATFORM_ADMINISTRATOR,
    NOBODY,
]


@dataclass(frozen=True)
class Scene:
    """A change at each state that a command is for, and one of everything that is edited."""

    estate: SmallEstate
    draft: ChangeRequest
    submitted: ChangeRequest
    authorize: ChangeRequest
    on_hold: ChangeRequest
    review: ChangeRequest
    run: Run
    window: Window
    freeze: Freeze
    grant: int


@dataclass(frozen=True)
class Command:
    """A call, and who may make it: an ability on the tenant, or on the whole platform, or one role alone."""

    path: Callable[[Scene], str]
    words: Callable[[Scene], Mapping[str, Any]] = lambda _: {}
    ability: Ability | None = None
    is_platforms: bool = False
    role: Role | None = None
    method: str = "post"

    def allows(self, role: str) -> bool:
        if role == NOBODY or (self.is_platforms and role != Role.PLATFORM_ADMINISTRATOR):
            return False
        return role == self.role if self.role else self.ability in ABILITIES[Role(role)]


def change(state: str, part: str) -> Callable[[Scene], str]:
    return lambda scene: f"changes/{getattr(scene, state).number}/{part}/"


def said(**words: Any) -> Callable[[Scene], Mapping[str, Any]]:
    return lambda _: words


def vote(scene: Scene) -> dict[str, Any]:
    wanted = requirement_named(scene.authorize, "technical_reviewer")
    return {"requirement": wanted.pk, "verdict": "approve", "seen_digest": scene.authorize.plan.digest}


def taking_back(scene: Scene) -> dict[str, Any]:
    return {"requirement": requirement_named(scene.authorize, "technical_reviewer").pk, "comment": "I misread it."}


def of_window(scene: Scene) -> dict[str, Any]:
    return {"name": "Other nights", "seen_version": scene.window.version, "reason": "Stocktaking."}


WINDOW = {"tenant": "northwind", "name": "Nights", "starts_local": "2026-11-24T02:00:00", "duration_seconds": 3600}
FREEZE = {
    "tenant": "northwind",
    "name": "Black Friday",
    "reason": "Trade.",
    "starts_at": "2030-11-26T00:00:00Z",
    "ends_at": "2030-11-30T00:00:00Z",
}
POLICY = {"tenant": "northwind", "slug": "mine", "name": "Mine", "content": {"stages": []}, "seen_version": 0}
GRANT = {"holder": "dee", "role": "engineer", "tenant": "northwind"}
PROCESS = {
    "tenant": "northwind",
    "slug": "tills",
    "name": "Tills",
    "tier": 0,
    "rto_seconds": 60,
    "rpo_seconds": 60,
}
REGION = {"tenant": "northwind", "slug": "north", "name": "North"}
A = Ability

COMMANDS: dict[str, Command] = {
    "create": Command(lambda _: "changes/", said(tenant="northwind", title="New"), A.CHANGE_CREATE),
    "draft": Command(
        change("draft", "draft"),
        lambda scene: {"seen_version": scene.draft.draft_version, "content": {"reason": "Other."}},
        A.CHANGE_EDIT,
    ),
    "submit": Command(change("draft", "submit"), ability=A.CHANGE_SUBMIT),
    "revise": Command(change("submitted", "revisions"), said(reason="Another."), A.CHANGE_EDIT),
    "hold": Command(change("submitted", "hold"), said(reason="Wait."), A.CHANGE_HOLD),
    "release": Command(change("on_hold", "release"), ability=A.CHANGE_HOLD),
    "cancel": Command(change("submitted", "cancel"), said(reason="No."), A.CHANGE_CANCEL),
    "schedule": Command(change("authorize", "schedule"), said(planned_start_at=None), A.CHANGE_SCHEDULE),
    "close": Command(change("review", "close"), said(close_code="successful"), A.CHANGE_CLOSE),
    "hand over": Command(change("draft", "hand-over"), said(assignee="ada"), A.CHANGE_EDIT),
    "vote": Command(change("authorize", "vote"), vote, role=Role.TECHNICAL_REVIEWER),
    "withdraw": Command(change("authorize", "withdraw-vote"), taking_back, role=Role.TECHNICAL_REVIEWER),
    "evidence pack": Command(change("review", "evidence-pack"), ability=A.EVIDENCE_EXPORT, method="get"),
    **{
        verb: Command(
            lambda scene, verb=verb: f"runs/{scene.run.pk}/{verb}/",  # type: ignore[misc]
            said(reason="Because."),
            Ability(f"run.{verb.replace('-', '_')}"),
        )
        for verb in ("start", "pause", "resume", "promote", "skip", "abort", "roll-back")
    },
    "add a window": Command(lambda _: "windows/", said(**WINDOW), A.WINDOW_EDIT),
    "add one for all": Command(lambda _: "windows/", said(**WINDOW | {"tenant": None}), A.WINDOW_EDIT, True),
    "edit a window": Command(lambda scene: f"windows/{scene.window.pk}/", of_window, A.WINDOW_EDIT, method="patch"),
    "freeze": Command(lambda _: "freezes/", said(**FREEZE), A.FREEZE_OPEN),
    "lift": Command(lambda scene: f"freezes/{scene.freeze.pk}/lift/", said(reason="Over."), A.FREEZE_LIFT),
    "publish": Command(lambda _: "policies/", said(**POLICY), A.POLICY_EDIT),
    "publish for all": Command(lambda _: "policies/", said(**POLICY | {"tenant": None}), A.POLICY_EDIT, True),
    "grant": Command(lambda _: "role-grants/", said(**GRANT), A.ACCESS_GRANT),
    "revoke": Command(lambda scene: f"role-grants/{scene.grant}/revoke/", ability=A.ACCESS_GRANT),
    "make a region": Command(lambda _: "regions/", said(**REGION), A.ESTATE_EDIT),
    "make a process": Command(lambda _: "processes/", said(**PROCESS), A.ESTATE_EDIT),
    "edit a cohort": Command(
        lambda scene: f"cohorts/{scene.estate.pilot.pk}/", said(name="First"), A.ESTATE_EDIT, method="patch"
    ),
    "edit the tenant": Command(
        lambda scene: f"tenants/{scene.estate.tenant.pk}/", said(name="North"), A.ESTATE_EDIT, method="patch"
    ),
    "make a tenant": Command(lambda _: "tenants/", said(slug="new", name="New"), A.ESTATE_EDIT, True),
    "make a cluster": Command(
        lambda _: "clusters/", said(slug="new", name="New", credential="env:KUBE"), A.ESTATE_EDIT, True
    ),
    "read the trail": Command(lambda _: "audit/events/", ability=A.AUDIT_VIEW, method="get"),
    "review access": Command(lambda _: "role-grants/", ability=A.ACCESS_VIEW, method="get"),
}


def set_scene() -> Scene:
    estate = small_estate()
    at = clock.now()
    administrator, owner = add_person("tess"), add_person("fred")
    grant(administrator, Role.TENANT_ADMINISTRATOR, estate.tenant)
    grant(owner, Role.FREEZE_OWNER, estate.tenant)
    content = WindowContent(name="Nights", starts_local=NOW.replace(tzinfo=None), duration_seconds=3600, zone="UTC")
    review = advance_to(estate, "review")
    held = TenantUserObjectPermission.objects.get(user=owner)
    return Scene(
        estate=estate,
        draft=draft_change(estate),
        submitted=submitted_change(estate),
        authorize=authorized_change(estate),
        on_hold=advance_to(estate, "on_hold"),
        review=review,
        run=review.runs.get(),
        window=create_window(actor=actor(administrator), tenant_id=estate.tenant.pk, content=content, at=at),
        freeze=open_freeze(
            actor=actor(owner),
            tenant_id=estate.tenant.pk,
            name="Now",
            reason="Trade.",
            starts_at=at,
            ends_at=at.replace(year=at.year + 1),
            at=at,
        ),
        grant=held.pk * 4,
    )


def somebody(role: str, estate: SmallEstate) -> User:
    person = add_person("pat", is_superuser=role == Role.PLATFORM_ADMINISTRATOR)
    if role not in {NOBODY, Role.PLATFORM_ADMINISTRATOR}:
        grant(person, Role(role), estate.tenant)
    return person


def answers(scene: Scene, person: User) -> Iterator[tuple[str, Any]]:
    """Give every command in turn, each in the scene as it was set."""
    client = client_for(person)
    for name, command in COMMANDS.items():
        with transaction.atomic():
            url = f"/api/v1/{command.path(scene)}"
            body = {} if command.method == "get" else {"data": dict(command.words(scene))}
            yield name, getattr(client, command.method)(url, **body)
            transaction.set_rollback(True)


@pytest.mark.parametrize("role", ROLES)
def test_each_command_is_allowed_to_whom_the_table_names(db: None, role: str) -> None:
    scene = set_scene()
    person = somebody(role, scene.estate)
    expected = {name: command.allows(role) for name, command in COMMANDS.items()}

    found = {}
    for name, answer in answers(scene, person):
        assert answer.status_code < 500, name
        found[name] = answer.status_code not in {403, 404}
        if not found[name]:
            sentence(answer)
            if role == NOBODY and "northwind" in str(COMMANDS[name].words(scene)):
                assert answer.status_code == 404, name

    assert found == expected


def test_every_command_is_allowed_to_somebody_and_refused_to_somebody() -> None:
    for name, command in COMMANDS.items():
        assert {command.allows(role) for role in [*Role, NOBODY]} == {True, False}, name
