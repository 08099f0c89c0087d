"""Filing, writing, submitting and leading a change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction

from changecontrol import access
from changecontrol.actions import changes
from changecontrol.actions.locking import locked_change
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.models import (
    AuditEvent,
    BusinessProcess,
    ChangeRequest,
    Contributor,
    Freeze,
    Message,
    Revision,
    Window,
)
from changecontrol.rules.roles import Role
from tests.changecontrol.actions.events import events
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    add_environment,
    add_person,
    advance_to,
    draft_change,
    grant,
    scheduled_change,
    small_estate,
    stranger_estate,
    submitted_change,
)
from tests.factories.changes import CONTENT

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def problems_of(estate: SmallEstate, **answers: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as refused:
        submitted_change(estate, **answers)
    assert not Revision.objects.exists()
    return refused.value.fields


def test_a_change_is_filed_with_a_number_and_its_requester(estate: SmallEstate) -> None:
    with events() as tags:
        change = changes.create_change(actor=actor(estate.ada), tenant_id=estate.tenant.pk, title=" Tills ", at=NOW)

    assert tags == ["change:created"]
    assert (change.state, change.title, change.requester) == ("draft", "Tills", estate.ada)
    assert change.number == f"CHG-{change.pk:06d}"
    assert [(one.user, one.contribution) for one in Contributor.objects.all()] == [(estate.ada, "requested")]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"title": "  "}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"kind": "failover"}, "kind"),
        ({"type": "standard"}, "type"),
    ],
)
def test_what_cannot_be_carried_out_is_not_filed(estate: SmallEstate, words: dict[str, str], field: str) -> None:
    with events() as tags, pytest.raises(Invalid) as refused:
        changes.create_change(
            **{"actor": actor(estate.ada), "tenant_id": estate.tenant.pk, "title": "Tills", "at": NOW, **words}  # type: ignore[arg-type]
        )

    assert list(refused.value.fields) == [field]
    assert tags == []


def test_only_who_may_file_does(estate: SmallEstate) -> None:
    with events() as tags, pytest.raises(Forbidden, match="engineer"):
        changes.create_change(actor=actor(estate.ben), tenant_id=estate.tenant.pk, title="Tills", at=NOW)

    assert tags == ["refused"]
    assert not ChangeRequest.objects.exists()


def test_a_tenant_out_of_sight_is_as_missing_as_none(estate: SmallEstate) -> None:
    kite, _ = stranger_estate()
    sentences = set()

    with events() as tags:
        for tenant_id in (kite.tenant.pk, 999_999):
            with pytest.raises(NotFound) as missing:
                changes.create_change(actor=actor(estate.ada), tenant_id=tenant_id, title="Tills", at=NOW)
            sentences.add(missing.value.sentence)

    assert (len(sentences), tags) == (1, [])


def test_a_draft_is_saved_by_version(estate: SmallEstate) -> None:
    change = draft_change(estate)

    with events() as tags:
        saved = changes.save_draft(
            actor=actor(estate.ada), change_id=change.pk, content={**CONTENT, "reason": "Buyers wait."},
            seen_version=change.draft_version, at=NOW,
        )  # fmt: skip

    assert tags == ["change:draft:saved"]
    assert (saved.draft["reason"], saved.draft_version) == ("Buyers wait.", change.draft_version + 1)
    assert [one.slug for one in saved.environments.all()] == ["production"]


def test_saving_over_somebody_elses_version_is_refused(estate: SmallEstate) -> None:
    change = draft_change(estate)

    with events() as tags, pytest.raises(Conflict, match="at version 2, and you were writing on version 1"):
        changes.save_draft(actor=actor(estate.ada), change_id=change.pk, content={}, seen_version=1, at=NOW)

    assert tags == ["refused"]


def test_saving_the_same_answers_leaves_nothing(estate: SmallEstate) -> None:
    change = draft_change(estate)

    with events() as tags:
        changes.save_draft(actor=actor(estate.ada), change_id=change.pk, content=CONTENT, seen_version=2, at=NOW)

    assert tags == []


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ({"waves": 5}, "waves"),
        ({"strategy": "hope"}, "strategy"),
        ({"max_unavailable": "many"}, "max_unavailable"),
        ({"title": 7}, "title"),
        ({"reason": "a\x00b"}, "reason"),
        ({"links": [{"label": "x"}]}, "links"),
        ({"indicators": [{"indicator": "x", "threshold": float("nan")}]}, "indicators"),
        ({"environments": "production"}, "environments"),
        ({"risk_answers": []}, "risk_answers"),
    ],
)
def test_answers_of_the_wrong_shape_are_named(estate: SmallEstate, answers: dict[str, Any], field: str) -> None:
    change = draft_change(estate)

    with pytest.raises(Invalid) as refused:
        changes.save_draft(
            actor=actor(estate.ada), change_id=change.pk, content={**CONTENT, **answers}, seen_version=2, at=NOW
        )

    assert list(refused.value.fields) == [field]


def test_submitting_makes_a_revision_and_inherits_from_the_estate(estate: SmallEstate) -> None:
    with events() as tags:
        change = submitted_change(estate)

    assert tags == ["change:created", "change:draft:saved", "change:submitted"]
    assert (change.state, change.revision.number, change.submitted_at) == ("submitted", 1, NOW)
    assert (change.stage, change.tier, change.risk_level) == ("production", 2, "moderate")
    assert (change.store_count, change.sales_share) == (4, Decimal(10))
    assert [wave["name"] for wave in change.revision.content["waves"]] == ["Pilot", "Everything else"]


def test_a_change_inherits_the_strictest_tier_and_stage_it_touches(estate: SmallEstate) -> None:  # BIZ-2
    checkout = BusinessProcess.objects.create(
        tenant=estate.tenant, slug="checkout", name="Checkout", tier=1, rto_seconds=60, rpo_seconds=60
    )
    second = add_person("second")
    grant(second, Role.CHANGE_MANAGER, estate.tenant)
    estate.production.processes.add(checkout)

    change = submitted_change(estate, environments=["staging", "production"])

    assert (change.tier, change.stage) == (1, "production")
    event = AuditEvent.objects.get(tag="change:submitted")
    assert '"policy":{"slug":"production-tier-0-1","version":1}' in event.body


def test_where_nobody_said_what_runs_there_the_tier_is_the_strictest(estate: SmallEstate) -> None:  # BIZ-2
    estate.staging.processes.clear()

    assert submitted_change(estate, environments=["staging"]).tier == 0


def test_the_blast_radius_counts_only_the_cohorts_that_waves_name(estate: SmallEstate) -> None:
    wave = {"name": "Pilot", "environments": ["production"], "cohorts": ["pilot"]}

    change = submitted_change(estate, waves=[wave])

    assert (change.store_count, change.sales_share) == (2, Decimal(3))


def test_everything_wrong_is_said_at_once(estate: SmallEstate) -> None:
    wrong = {
        "reason": " ", "commit": "main", "rollback_plan": "", "max_unavailable": 0, "planned_start_at": "tomorrow",
        "environments": ["production", "nowhere"], "risk_answers": {},
        "links": [{"label": "Ticket", "url": "javascript:alert(1)"}],
        "waves": [{"name": "", "environments": ["staging"], "cohorts": ["nobody"]}],
    }  # fmt: skip

    assert sorted(problems_of(estate, **wrong)) == sorted(wrong)


def test_an_environment_of_another_tenant_reads_as_one_that_does_not_exist(estate: SmallEstate) -> None:
    kite, _ = stranger_estate()
    add_environment(
        kite.tenant, "production", cluster=kite.cluster, source=kite.source, cohorts=[], processes=[], slug="secret"
    )

    of_hidden = problems_of(estate, environments=["secret"])["environments"]

    assert of_hidden == ["There is no environment called “secret” in Northwind."]


def test_a_policy_without_people_refuses_and_names_who_can_mend_it(estate: SmallEstate) -> None:  # APR-12
    access.revoke_role(estate.ben, Role.CHANGE_MANAGER, estate.tenant)
    grant(estate.dee, Role.TENANT_ADMINISTRATOR, estate.tenant)

    assert problems_of(estate)["approval"] == [
        "“Change manager” needs 1, and nobody holds the role change manager. Dee can grant it."
    ]


def test_a_policy_whose_only_approver_asks_refuses(estate: SmallEstate) -> None:  # APR-12
    grant(estate.ben, Role.ENGINEER, estate.tenant)

    with pytest.raises(Invalid) as refused:
        submitted_change(estate, by=estate.ben)

    assert "approval" in refused.value.fields


def test_a_quorum_larger_than_the_group_refuses() -> None:  # APR-12
    assert "needs 2" in problems_of(small_estate(tier=0))["approval"][0]


def test_a_closed_window_is_only_a_warning_at_submission() -> None:  # WIN-4, WIN-5
    estate = small_estate(tier=1)
    grant(add_person("second"), Role.CHANGE_MANAGER, estate.tenant)
    change = draft_change(estate)

    submission = changes.submit_change(actor=actor(estate.ada), change_id=change.pk, at=NOW)

    assert submission.change.state == "submitted"
    assert len(submission.warnings) == 2
    assert submission.warnings[0].startswith("production, pilot (Europe/Berlin): Closed: no window covers it")


def test_somebody_with_a_role_on_one_environment_submits_for_that_alone(estate: SmallEstate) -> None:
    ada = add_person("ada-staging")
    grant(ada, Role.ENGINEER, estate.staging)

    assert submitted_change(estate, by=ada, environments=["staging"]).state == "submitted"
    with pytest.raises(Invalid) as refused:
        submitted_change(estate, by=ada, environments=["staging", "production"])
    assert refused.value.fields["environments"] == ["There is no environment called “production” in Northwind."]


def test_a_role_on_one_environment_is_not_one_on_the_other(estate: SmallEstate) -> None:
    ada = add_person("ada-staging")
    grant(ada, Role.ENGINEER, estate.staging)
    grant(ada, Role.AUDITOR, estate.production)
    change = draft_change(estate, by=ada, environments=["staging"])
    ChangeRequest.objects.filter(pk=change.pk).update(draft={**CONTENT, "environments": ["staging", "production"]})

    with pytest.raises(Forbidden):
        changes.submit_change(actor=actor(ada), change_id=change.pk, at=NOW)

    assert ChangeRequest.objects.get(pk=change.pk).state == "draft"


def test_a_revision_that_changes_nothing_is_refused(estate: SmallEstate) -> None:
    change = submitted_change(estate)

    with pytest.raises(Invalid, match="changes nothing"):
        changes.revise_change(actor=actor(estate.ada), change_id=change.pk, content=change.revision.content, at=NOW)


def test_revising_writes_the_next_revision_and_keeps_the_first(estate: SmallEstate) -> None:
    change = submitted_change(estate)

    with events() as tags:
        changes.revise_change(
            actor=actor(estate.ada), change_id=change.pk, content={**CONTENT, "reason": "Buyers wait."}, at=NOW
        )

    assert tags == ["change:revised"]
    assert list(Revision.objects.values_list("number", "content__reason")) == [
        (1, CONTENT["reason"]),
        (2, "Buyers wait."),
    ]


@pytest.mark.parametrize(
    ("state", "action", "words", "declared"),
    [
        ("scheduled", changes.hold_change, {"reason": "Wait."}, ["change:held"]),
        ("on_hold", changes.release_change, {}, ["change:released"]),
        ("authorize", changes.cancel_change, {"reason": "No."}, ["change:approval:round_ended", "change:canceled"]),
        ("scheduled", changes.schedule_change, {"planned_start_at": None}, ["change:rescheduled"]),
        ("review", changes.close_change, {"close_code": "successful"}, ["change:closed"]),
    ],
)
def test_each_verb_leaves_exactly_its_events_and_nothing_when_rolled_back(
    estate: SmallEstate, state: str, action: Any, words: dict[str, Any], declared: list[str]
) -> None:
    change = advance_to(estate, state)
    messages = Message.objects.count()

    with events() as undone, pytest.raises(RuntimeError), transaction.atomic():
        action(actor=actor(estate.ben), change_id=change.pk, at=NOW, **words)
        raise RuntimeError("the machine stops here")
    assert (undone, ChangeRequest.objects.get(pk=change.pk).state, Message.objects.count()) == ([], state, messages)

    with events() as tags:
        action(actor=actor(estate.ben), change_id=change.pk, at=NOW, **words)
    assert tags == declared
    assert Message.objects.filter(recipient=estate.ada, tag=declared[-1]).count() == 1


@pytest.mark.parametrize(
    ("state", "action", "words"),
    [
        ("scheduled", changes.hold_change, {"reason": " "}),
        ("authorize", changes.cancel_change, {"reason": ""}),
        ("review", changes.close_change, {"close_code": "failed", "note": " "}),
        ("review", changes.close_change, {"close_code": "wonderful"}),
    ],
)
def test_a_verb_without_its_words_is_refused(
    estate: SmallEstate, state: str, action: Any, words: dict[str, Any]
) -> None:
    change = advance_to(estate, state)

    with events() as tags, pytest.raises(Invalid):
        action(actor=actor(estate.ben), change_id=change.pk, at=NOW, **words)

    assert (tags, ChangeRequest.objects.get(pk=change.pk).state) == ([], state)


def test_a_draft_is_discarded_without_a_reason(estate: SmallEstate) -> None:
    change = draft_change(estate)

    canceled = changes.cancel_change(actor=actor(estate.ada), change_id=change.pk, at=NOW)

    assert (canceled.state, canceled.close_code) == ("canceled", "not_executed")


def test_a_change_cannot_be_closed_over_a_deferred_target(estate: SmallEstate) -> None:  # RUN-4
    change = advance_to(estate, "review")
    run = change.runs.get()
    target = run.targets.create(environment=estate.production, wave=0, state="deferred")

    with pytest.raises(Conflict, match="1 deferred"):
        changes.close_change(actor=actor(estate.ben), change_id=change.pk, close_code="successful", at=NOW)
    run.targets.filter(pk=target.pk).update(state="skipped")

    done = changes.close_change(actor=actor(estate.ben), change_id=change.pk, close_code="successful", at=NOW)
    assert done.state == "closed"


def test_a_start_in_the_past_or_after_the_approval_is_refused(estate: SmallEstate) -> None:
    change = scheduled_change(estate)

    for start, why in ((NOW, "has passed"), (NOW + timedelta(days=8), "The approval ends")):
        with pytest.raises(Conflict, match=why):
            changes.schedule_change(actor=actor(estate.ada), change_id=change.pk, planned_start_at=start, at=NOW)


def test_a_start_at_the_end_of_time_is_refused(estate: SmallEstate) -> None:
    end = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)

    assert list(problems_of(estate, planned_start_at=end.isoformat())) == ["planned_start_at"]
    change = scheduled_change(estate)
    ChangeRequest.objects.filter(pk=change.pk).update(approval_expires_at=None)
    with pytest.raises(Conflict, match="before the year 2201"):
        changes.schedule_change(actor=actor(estate.ada), change_id=change.pk, planned_start_at=end, at=NOW)


def test_a_start_chosen_in_another_zone_is_told_in_utc(estate: SmallEstate) -> None:
    change = scheduled_change(estate)
    start = (NOW + timedelta(hours=3)).astimezone(ZoneInfo("Europe/Helsinki"))

    changes.schedule_change(actor=actor(estate.ben), change_id=change.pk, planned_start_at=start, at=NOW)

    told = Message.objects.filter(tag="change:rescheduled").latest("pk")
    assert told.text == f"It starts {NOW + timedelta(hours=3):%d %b %Y %H:%M} UTC."


def test_a_start_in_a_closed_window_is_blocked_at_scheduling(estate: SmallEstate) -> None:  # WIN-5
    change = scheduled_change(estate)
    Window.objects.create(
        tenant=estate.tenant, name="Stocktaking", effect="deny", starts_local=NOW + timedelta(hours=1),
        duration_seconds=7200, zone="UTC", created_at=NOW,
    )  # fmt: skip
    inside, after = NOW + timedelta(hours=2), NOW + timedelta(hours=3)

    with pytest.raises(Conflict, match="blackout “Stocktaking”"):
        changes.schedule_change(actor=actor(estate.ada), change_id=change.pk, planned_start_at=inside, at=NOW)

    changes.schedule_change(actor=actor(estate.ada), change_id=change.pk, planned_start_at=after, at=NOW)
    assert ChangeRequest.objects.get(pk=change.pk).planned_start_at == after


def test_a_start_in_a_freeze_is_blocked_even_where_one_zone_is_open(estate: SmallEstate) -> None:  # WIN-4, WIN-5
    change = scheduled_change(estate)
    Freeze.objects.create(
        tenant=estate.tenant, name="Peak", reason="Sales.", starts_at=NOW + timedelta(hours=1),
        ends_at=NOW + timedelta(hours=3), opened_by=estate.ben, cohort=estate.pilot,
    )  # fmt: skip

    with pytest.raises(Conflict, match="Frozen: “Peak”"):
        changes.schedule_change(
            actor=actor(estate.ada), change_id=change.pk, planned_start_at=NOW + timedelta(hours=2), at=NOW
        )


def test_only_who_may_own_a_change_is_given_it(estate: SmallEstate) -> None:
    change = submitted_change(estate)
    grant(estate.cy, Role.ENGINEER, estate.tenant)
    _, eve = stranger_estate()

    with events() as tags:
        changes.hand_over_change(actor=actor(estate.ada), change_id=change.pk, assignee_id=estate.cy.pk, at=NOW)
    assert tags == ["change:handed_over"]

    for person in (estate.dee.pk, eve.pk, 999_999):
        with pytest.raises(Invalid, match="Nobody with this name"):
            changes.hand_over_change(actor=actor(estate.ada), change_id=change.pk, assignee_id=person, at=NOW)


def test_handing_an_approved_change_to_its_approver_takes_the_approval_back(estate: SmallEstate) -> None:  # APR-11
    change = scheduled_change(estate)
    grant(estate.ben, Role.ENGINEER, estate.tenant)

    with events() as tags:
        changes.hand_over_change(actor=actor(estate.ada), change_id=change.pk, assignee_id=estate.ben.pk, at=NOW)

    assert tags == ["change:handed_over", "change:approval:round_reopened", "change:unscheduled"]


@pytest.mark.parametrize("state", ["implementing", "review"])
def test_handing_over_after_the_start_takes_no_approval_back(estate: SmallEstate, state: str) -> None:  # APR-11
    change = advance_to(estate, state)
    grant(estate.ben, Role.ENGINEER, estate.tenant)
    at = NOW + timedelta(days=30)

    with events() as tags:
        changes.hand_over_change(actor=actor(estate.ada), change_id=change.pk, assignee_id=estate.ben.pk, at=at)

    assert tags == ["change:handed_over"]
    assert [one.state for one in change.rounds.all()] == ["granted"]


def test_a_run_that_fails_leads_to_review_with_a_proposed_close_code(estate: SmallEstate) -> None:
    change = advance_to(estate, "implementing")

    with events() as tags, transaction.atomic():
        locked = locked_change(actor(estate.ada), change.pk)
        changes.fail_change(
            locked, close_code="rolled_back", note="Two pods never started.", actor=access.system_actor("t"), at=NOW
        )

    assert tags == ["change:in_review"]
    done = ChangeRequest.objects.get(pk=change.pk)
    assert (done.state, done.close_code, done.close_note) == ("review", "rolled_back", "Two pods never started.")


def test_what_ended_needs_no_owner(estate: SmallEstate) -> None:
    change = advance_to(estate, "closed")

    with pytest.raises(IllegalTransition):
        changes.hand_over_change(actor=actor(estate.ada), change_id=change.pk, assignee_id=estate.cy.pk, at=NOW)
