"""Windows, freezes and policies, as somebody writes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changecontrol.access import operator_actor
from changecontrol.actions.freezes import lift_freeze, open_freeze
from changecontrol.actions.places import PlaceIds
from changecontrol.actions.policies import publish_policy
from changecontrol.actions.windows import WindowContent, create_window, edit_window
from changecontrol.errors import Conflict, Forbidden, Invalid, NotFound
from changecontrol.models import ApprovalPolicy, AuditEvent, Freeze, Window
from changecontrol.rules.policies import SHIPPED_POLICIES
from changecontrol.rules.policy_json import policy_from_json, policy_problems, policy_to_json
from changecontrol.rules.roles import Role
from changecontrol.rules.years import OUTSIDE
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, add_person, grant, small_estate, stranger_estate

pytestmark = pytest.mark.django_db

NIGHTS = WindowContent(
    name="Nights",
    starts_local=datetime(2026, 11, 1, 2, 0),  # noqa: DTZ001 - wall-clock time
    duration_seconds=10_800,
    rrule="FREQ=WEEKLY;BYDAY=TU,TH",
)
ONE_REVIEW: dict[str, Any] = {
    "match": {"environment_stages": ["production"], "tiers": [], "types": [], "risks": []},
    "one_person_one_place": True,
    "stages": [
        {
            "name": "Review",
            "requirements": [{"key": "review", "name": "Review", "quorum": 1, "role": "technical_reviewer"}],
        }
    ],
}


@pytest.fixture
def estate() -> SmallEstate:
    """Ben administers the tenant here, too."""
    found = small_estate()
    grant(found.ben, Role.TENANT_ADMINISTRATOR, found.tenant)
    return found


def test_a_window_is_made_with_its_event(estate: SmallEstate) -> None:  # AUD-1
    place = PlaceIds(stage="production", cohort_id=estate.pilot.pk)

    with events() as tags:
        window = create_window(
            actor=actor(estate.ben), tenant_id=estate.tenant.pk, content=replace(NIGHTS, place=place), at=NOW
        )

    assert tags == ["window:created"]
    assert (window.tenant, window.stage, window.cohort, window.zone) == (estate.tenant, "production", estate.pilot, "")


def test_an_edit_tells_who_why_and_the_difference(estate: SmallEstate) -> None:  # AUD-1
    window = create_window(actor=actor(estate.ben), tenant_id=estate.tenant.pk, content=NIGHTS, at=NOW)

    with events() as tags:
        edit_window(
            actor=actor(estate.ben), window_id=window.pk, content=replace(NIGHTS, duration_seconds=7200),
            seen_version=1, reason="Stock arrives at four.", at=NOW,
        )  # fmt: skip

    assert tags == ["window:changed"]
    body = AuditEvent.objects.get(tag="window:changed").body
    assert '"differences":{"duration_seconds":[10800,7200]},"reason":"Stock arrives at four."' in body
    assert Window.objects.get().version == 2


def test_an_edit_of_another_version_is_refused(estate: SmallEstate) -> None:
    window = create_window(actor=actor(estate.ben), tenant_id=estate.tenant.pk, content=NIGHTS, at=NOW)

    with events() as tags, pytest.raises(Conflict):
        edit_window(
            actor=actor(estate.ben), window_id=window.pk, content=NIGHTS, seen_version=0, reason="Why not.", at=NOW
        )

    assert tags == ["refused"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"name": " "}, "name"),
        ({"effect": "maybe"}, "effect"),
        ({"duration_seconds": 0}, "duration_seconds"),
        ({"duration_seconds": 15 * 86_400}, "duration_seconds"),
        ({"rrule": "FREQ=SECONDLY"}, "rrule"),
        ({"zone": "Mars/Olympus"}, "rrule"),
        ({"place": PlaceIds(stage="moon")}, "stage"),
        ({"place": PlaceIds(environment_id=999_999)}, "environment"),
    ],
)
def test_a_window_that_does_not_hold_is_refused(estate: SmallEstate, words: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        create_window(actor=actor(estate.ben), tenant_id=estate.tenant.pk, content=replace(NIGHTS, **words), at=NOW)

    assert list(refused.value.fields) == [field]


def test_a_place_of_another_tenant_is_as_missing_as_none(estate: SmallEstate) -> None:
    kite, _ = stranger_estate()

    with pytest.raises(Invalid) as refused:
        create_window(
            actor=actor(estate.ben), tenant_id=estate.tenant.pk,
            content=replace(NIGHTS, place=PlaceIds(environment_id=kite.production.pk)), at=NOW,
        )  # fmt: skip

    assert refused.value.fields == {"environment": ["There is no such environment here."]}


def test_only_platform_administrators_write_the_platforms_windows(estate: SmallEstate) -> None:
    with pytest.raises(Forbidden):
        create_window(actor=actor(estate.ben), tenant_id=None, content=NIGHTS, at=NOW)

    root = add_person("root", is_superuser=True)
    assert create_window(actor=actor(root), tenant_id=None, content=NIGHTS, at=NOW).tenant is None


def test_a_stranger_finds_no_window(estate: SmallEstate) -> None:
    window = create_window(actor=actor(estate.ben), tenant_id=estate.tenant.pk, content=NIGHTS, at=NOW)
    _, eve = stranger_estate()

    with events() as tags, pytest.raises(NotFound):
        edit_window(actor=actor(eve), window_id=window.pk, content=NIGHTS, seen_version=1, reason="Mine.", at=NOW)

    assert tags == []


def freeze_words(estate: SmallEstate, **words: Any) -> dict[str, Any]:
    grant(estate.dee, Role.FREEZE_OWNER, estate.tenant)
    return {
        "actor": actor(estate.dee), "tenant_id": estate.tenant.pk, "name": "Peak", "reason": "Sales.",
        "starts_at": NOW, "ends_at": NOW + timedelta(days=3), "at": NOW, **words,
    }  # fmt: skip


def test_a_freeze_is_opened_and_lifted_each_with_its_event(estate: SmallEstate) -> None:  # AUD-1
    with events() as tags:
        freeze = open_freeze(**freeze_words(estate))
        lift_freeze(actor=actor(estate.dee), freeze_id=freeze.pk, reason="Sales are over.", at=NOW)

    assert tags == ["freeze:opened", "freeze:lifted"]
    assert (Freeze.objects.get().lifted_by, Freeze.objects.get().lifted_at) == (estate.dee, NOW)


def test_a_freeze_is_lifted_once_and_with_a_reason(estate: SmallEstate) -> None:
    freeze = open_freeze(**freeze_words(estate))

    with pytest.raises(Invalid):
        lift_freeze(actor=actor(estate.dee), freeze_id=freeze.pk, reason=" ", at=NOW)
    lift_freeze(actor=actor(estate.dee), freeze_id=freeze.pk, reason="Over.", at=NOW)
    with pytest.raises(Conflict, match="lifted already"):
        lift_freeze(actor=actor(estate.dee), freeze_id=freeze.pk, reason="Over.", at=NOW)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"name": ""}, "name"),
        ({"reason": " "}, "reason"),
        ({"ends_at": NOW}, "ends_at"),
        ({"starts_at": NOW - timedelta(days=2), "ends_at": NOW - timedelta(days=1)}, "ends_at"),
        ({"ends_at": NOW + timedelta(days=400)}, "ends_at"),
    ],
)
def test_a_freeze_that_does_not_hold_is_refused(estate: SmallEstate, words: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        open_freeze(**freeze_words(estate, **words))

    assert list(refused.value.fields) == [field]


def test_the_platforms_window_names_no_environment_of_one_tenant(estate: SmallEstate) -> None:
    """Two tenants may call theirs alike, and a rule holds by that name."""
    place = PlaceIds(environment_id=estate.production.pk, cohort_id=estate.pilot.pk)

    with pytest.raises(Invalid) as refused:
        create_window(actor=operator_actor(), tenant_id=None, content=replace(NIGHTS, place=place), at=NOW)

    assert set(refused.value.fields) == {"environment", "cohort"}


def test_a_freeze_at_the_end_of_time_is_refused_beside_its_times(estate: SmallEstate) -> None:
    start = datetime(9999, 12, 1, tzinfo=UTC)

    with pytest.raises(Invalid) as refused:
        open_freeze(**freeze_words(estate, starts_at=start, ends_at=start + timedelta(days=1)))

    assert refused.value.fields == {name: [OUTSIDE] for name in ("starts_at", "ends_at")}


@pytest.mark.parametrize("role", [[], {}, None, 1])
def test_a_role_that_is_no_word_is_named_as_wrong(role: Any) -> None:
    requirement = {"key": "review", "name": "Review", "quorum": 1, "role": role}

    assert list(policy_problems({"stages": [{"name": "Review", "requirements": [requirement]}]})) == ["stages"]


def test_who_may_not_freeze_does_not(estate: SmallEstate) -> None:
    with events() as tags, pytest.raises(Forbidden):
        open_freeze(**freeze_words(estate, actor=actor(estate.ada)))

    assert tags == ["refused"]


def publish(estate: SmallEstate, **words: Any) -> ApprovalPolicy:
    grant(estate.dee, Role.TENANT_ADMINISTRATOR, estate.tenant)
    return publish_policy(
        **{
            "actor": actor(estate.dee), "tenant_id": estate.tenant.pk, "slug": "tills", "name": "Tills",
            "content": ONE_REVIEW, "seen_version": 0, "at": NOW, **words,
        }
    )  # fmt: skip


def test_publishing_writes_the_next_version_and_keeps_the_older(estate: SmallEstate) -> None:  # APR-4
    with events() as tags:
        publish(estate)
        publish(estate, seen_version=1, content={**ONE_REVIEW, "one_person_one_place": False})

    assert tags == ["policy:published", "policy:published"]
    rows = ApprovalPolicy.objects.filter(slug="tills").order_by("version").values_list("version", "is_active")
    assert list(rows) == [(1, False), (2, True)]


def test_publishing_over_somebody_elses_version_is_refused(estate: SmallEstate) -> None:
    publish(estate)

    with pytest.raises(Conflict, match="at version 1"):
        publish(estate, content={**ONE_REVIEW, "stages": []})


def test_publishing_the_same_again_writes_nothing(estate: SmallEstate) -> None:
    first = publish(estate)

    with events() as tags:
        assert publish(estate, seen_version=1) == first

    assert tags == []


def test_a_tenant_may_not_publish_the_platforms_policies(estate: SmallEstate) -> None:
    with pytest.raises(Forbidden):
        publish(estate, tenant_id=None)


def one_requirement(**fields: Any) -> dict[str, Any]:
    return {"stages": [{"name": "A", "requirements": [{"key": "a", "name": "A", **fields}]}]}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ([], "content"),
        ({"stages": [], "rules": 1}, "content"),
        ({"match": {"tiers": [9]}}, "match"),
        ({"match": {"tiers": [True]}}, "match"),
        ({"match": {"colour": []}}, "match"),
        ({"stages": [{"name": "", "requirements": []}]}, "stages"),
        (one_requirement(quorum=0, role="change_manager"), "stages"),
        (one_requirement(quorum=True, role="change_manager"), "stages"),
        (one_requirement(quorum=1, role="auditor"), "stages"),
        ({"one_person_one_place": "yes"}, "one_person_one_place"),
    ],
)  # fmt: skip
def test_a_policy_that_does_not_hold_is_refused(estate: SmallEstate, content: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        publish(estate, content=content)

    assert list(refused.value.fields) == [field]


def test_an_installation_starts_with_the_shipped_policies() -> None:
    rows = ApprovalPolicy.objects.filter(tenant=None)

    found = {policy_from_json(row.content, name=row.name, version=row.version) for row in rows}

    assert found == set(SHIPPED_POLICIES)
    assert [policy_problems(policy_to_json(one)) for one in SHIPPED_POLICIES] == [{}, {}, {}, {}]
