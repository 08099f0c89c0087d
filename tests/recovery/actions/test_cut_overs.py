"""What is said of an old database once it has been kept: nobody is told to remove what is in use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.forms import model_to_dict

from changecontrol.access import system_actor
from changecontrol.errors import Permanent
from changecontrol.models import AuditEvent, Environment, Message, Run
from changecontrol.views.timeline import entry_of
from recovery.actions.copies import NewFilestoreCopy, record_filestore_copy
from recovery.actions.cut_overs import (
    NOT_VERSIONED,
    abandon_cut_over,
    keep_old,
    move_cut_over,
    put_in_place,
    release_old,
)
from recovery.actions.points import record_verification
from recovery.models import BackupPolicy, BackupRun, CutOver, FilestoreCopy, RecoveryPoint
from recovery.queries.attachments import copy_for
from recovery.queries.cut_overs import databases_in_turn
from recovery.queries.freshness import freshness_of
from recovery.queries.points import coverage_of
from recovery.rules.coverage import Span
from recovery.rules.times import moment
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, small_estate
from tests.factories.recovery import (
    DUMP,
    DUMPS,
    HOUR,
    backup_policy,
    begun_cut_over,
    copy_attachments,
    recorded_point,
    recovery_owner,
    ship_wal,
)

pytestmark = pytest.mark.django_db
OVER = NOW + timedelta(hours=80)
REMOVE = "Whoever runs the server may remove “{}”, once nothing is connected to it."


@pytest.fixture
def estate() -> SmallEstate:
    estate = small_estate()
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=recovery_owner(estate))
    copy_attachments(estate.production, NOW - HOUR / 2)
    return estate


def ready(estate: SmallEstate) -> CutOver:
    """`northwind_monday` is brought back beside `northwind`, and the first wave of its rollout has opened."""
    cut_over = begun_cut_over(estate, target_at=NOW - HOUR)
    Run.objects.filter(pk=cut_over.run_id).update(wave_opened_at=NOW + HOUR)
    cut_over.run.refresh_from_db()
    with transaction.atomic():
        move_cut_over(cut_over, "ready", sentence="It is there.", actor=system_actor(), at=NOW)
    return cut_over


def baking(estate: SmallEstate) -> CutOver:
    """Production has gone to `northwind_monday`, and nobody knows yet whether it stays there."""
    cut_over = ready(estate)
    with transaction.atomic():
        put_in_place(cut_over, actor=system_actor(), at=NOW + HOUR)
    return cut_over


def rolled_back(cut_over: CutOver, *, at: datetime) -> None:
    Run.objects.filter(pk=cut_over.run_id).update(state="rolled_back")
    again = CutOver.objects.select_related("environment", "run", "change__requester").get(pk=cut_over.pk)
    with transaction.atomic():
        abandon_cut_over(again, why="It ended.", actor=system_actor(), at=at)


@pytest.fixture
def kept(estate: SmallEstate) -> CutOver:
    """Production has gone from `northwind` to `northwind_monday`; the old one is kept."""
    cut_over = baking(estate)
    with transaction.atomic():
        keep_old(cut_over, actor=system_actor(), at=NOW + 2 * HOUR)
    Message.objects.all().delete()
    return cut_over


def test_a_rollout_that_succeeds_says_what_is_in_use_whatever_was_named_meanwhile(kept: CutOver) -> None:
    Environment.objects.filter(pk=kept.environment_id).update(database="northwind")
    CutOver.objects.filter(pk=kept.pk).update(state="ready", kept_until=None)
    again = CutOver.objects.select_related("environment").get(pk=kept.pk)

    with transaction.atomic(), events() as tags:
        keep_old(again, actor=system_actor(), at=NOW + 3 * HOUR)

    assert tags == ["estate:changed", "recovery:cut_over:moved"]
    assert Environment.objects.get(pk=kept.environment_id).database == "northwind_monday"


def test_while_nobody_knows_which_database_stays_sentinels_go_to_both(estate: SmallEstate) -> None:
    def named() -> list[str]:
        return databases_in_turn(Environment.objects.get(pk=estate.production.pk))

    begun = ready(estate)
    about_to = named()
    with transaction.atomic():
        put_in_place(begun, actor=system_actor(), at=NOW + HOUR)
    in_place = named()
    rolled_back(begun, at=NOW + 3 * HOUR)

    assert about_to == ["northwind", "northwind_monday"]
    assert in_place == ["northwind_monday", "northwind"]
    assert named() == ["northwind"]


def test_dumps_of_a_database_that_was_given_up_are_no_way_back() -> None:
    estate = small_estate()
    rio = recovery_owner(estate)
    backup_policy(estate.production, **DUMPS)
    recorded_point(estate.production, "before", NOW - HOUR, by=rio, **DUMP)
    cut_over = baking(estate)
    made = recorded_point(estate.production, "baked", NOW + 2 * HOUR, by=rio, **DUMP)
    words: dict[str, Any] = {"actor": system_actor(), "at": NOW + 2 * HOUR}
    record_verification(made, level=2, is_passed=True, sentence="Drilled.", **words)

    rolled_back(cut_over, at=NOW + 3 * HOUR)

    states = RecoveryPoint.objects.order_by("pk").values_list("key", "state")
    assert list(states) == [("before", "copied"), ("baked", "broken")]
    assert not freshness_of(estate.production, NOW + 4 * HOUR).is_verified
    assert BackupRun.objects.latest("pk").reason.endswith("its dumps are of a database that was given up.")


def copy_by(policy: BackupPolicy, at: datetime) -> FilestoreCopy:
    """Have a job of a version of a policy copy the attachments, whichever is in force by then."""
    copy = NewFilestoreCopy(f"late-{policy.version}", f"filestore/{at}", 100, "b" * 64, at, 4, 4000, 400)
    with transaction.atomic():
        return record_filestore_copy(policy, copy=copy, actor=system_actor(), at=at)


def test_until_attachments_are_copied_again_none_of_a_folder_that_was_given_up_go_with_a_moment(
    estate: SmallEstate,
) -> None:
    point = RecoveryPoint.objects.get(key="p1")
    ship_wal(estate.production, NOW - 2 * HOUR, NOW + 3 * HOUR)
    cut_over = baking(estate)
    copy_attachments(estate.production, NOW + 2 * HOUR)
    baked_at = NOW + 1.5 * HOUR
    while_it_bakes = copy_for(point, baked_at)

    rolled_back(cut_over, at=NOW + 3 * HOUR)

    assert while_it_bakes is not None
    assert while_it_bakes.policy.filestore.endswith("/northwind_monday")
    safe = NOW - HOUR / 2
    with pytest.raises(Permanent, match=f"The last safe time before it is {moment(safe)}."):
        copy_for(point, baked_at)
    assert coverage_of(estate.production).spans == (Span(NOW - HOUR, safe),)
    copy_attachments(estate.production, NOW + 3 * HOUR)
    once_it_is_back = copy_for(point, baked_at)
    assert once_it_is_back is not None
    assert once_it_is_back.taken_at == NOW + 3 * HOUR
    assert coverage_of(estate.production).spans == (Span(NOW - HOUR, NOW + 3 * HOUR),)


def test_a_policy_that_was_edited_while_it_baked_keeps_no_moment_with_a_folder_that_was_given_up(
    estate: SmallEstate,
) -> None:
    point = RecoveryPoint.objects.get(key="p1")
    cut_over = baking(estate)
    copy_attachments(estate.production, NOW + 1.5 * HOUR)
    in_force = BackupPolicy.objects.active().get()
    columns = model_to_dict(in_force, exclude=NOT_VERSIONED)
    BackupPolicy.objects.filter(pk=in_force.pk).update(is_active=False)
    BackupPolicy.objects.create(
        environment=estate.production,
        version=in_force.version + 1,
        created_at=NOW + 2 * HOUR,
        created_by=in_force.created_by,
        **columns | {"keep_last": 9},
    )
    rolled_back(cut_over, at=NOW + 3 * HOUR)
    copy_attachments(estate.production, NOW + 3 * HOUR)

    found = [copy_for(point, NOW + hours * HOUR) for hours in (0, 1.2, 2.5)]

    assert [one.taken_at for one in found if one] == [NOW + 3 * HOUR] * 3


def test_a_copy_of_the_folder_that_was_left_goes_with_no_moment_after(estate: SmallEstate) -> None:
    point, before = RecoveryPoint.objects.get(key="p1"), BackupPolicy.objects.active().get()
    ship_wal(estate.production, NOW - 2 * HOUR, NOW + 3 * HOUR)
    baking(estate)
    late = copy_by(before, NOW + HOUR + HOUR / 60)

    just_before = copy_for(point, NOW + HOUR / 2)

    assert just_before == late
    with pytest.raises(Permanent, match="of where they then lay"):
        copy_for(point, NOW + HOUR)
    assert [one.end < NOW + HOUR for one in coverage_of(estate.production).spans] == [True]
    copy_attachments(estate.production, NOW + 1.5 * HOUR)
    assert [(copy_for(point, NOW + hours * HOUR) or late).taken_at - NOW for hours in (0.5, 1, 1.2)] == [
        late.taken_at - NOW,
        1.5 * HOUR,
        1.5 * HOUR,
    ]


def test_putting_in_place_and_keeping_leave_exactly_their_events(estate: SmallEstate) -> None:
    cut_over = ready(estate)

    with transaction.atomic(), events() as put:
        put_in_place(cut_over, actor=system_actor(), at=NOW + HOUR)
    with transaction.atomic(), events() as kept:
        keep_old(cut_over, actor=system_actor(), at=NOW + 2 * HOUR)

    assert put == ["estate:changed", "recovery:policy:published", "recovery:cut_over:moved"]
    assert kept == ["recovery:cut_over:moved"]
    told = AuditEvent.objects.filter(tag="recovery:cut_over:moved").order_by("pk")
    assert [entry_of(one)["text"] for one in told][-2:] == ["Cut-over: put in place", "Cut-over: ready → kept"]


def released(cut_over: CutOver) -> tuple[str, str]:
    """Let the hours go by; return the subject and the text that its owner got."""
    with transaction.atomic(), events() as tags:
        release_old(cut_over, actor=system_actor(), at=OVER)
    assert tags == ["recovery:cut_over:moved"]
    assert cut_over.state == "over"
    told = Message.objects.get()
    return told.subject.removeprefix(f"{cut_over.environment}: "), told.text


def test_an_old_database_that_nothing_names_may_be_removed(kept: CutOver) -> None:
    subject, text = released(kept)

    assert subject == "An old database may be removed"
    assert text == (
        f"“northwind” was kept until 26 Nov 2026 18:12:00 UTC, as {kept.change.number} says, and nothing here names "
        "it. " + REMOVE.format("northwind")
    )


def test_an_old_database_that_the_shop_went_back_to_is_to_be_kept(estate: SmallEstate, kept: CutOver) -> None:
    Environment.objects.filter(pk=estate.production.pk).update(database="northwind")

    subject, text = released(kept)

    assert subject == "The old database is in use again"
    assert text == (
        f"“northwind” was kept until 26 Nov 2026 18:12:00 UTC, as {kept.change.number} says. Keep it: the estate names "
        "it for production. Nothing here names “northwind_monday” any more. " + REMOVE.format("northwind_monday")
    )


def test_an_old_database_that_another_environment_runs_on_is_to_be_kept(estate: SmallEstate, kept: CutOver) -> None:
    Environment.objects.filter(pk=estate.staging.pk).update(database="Northwind")

    _, text = released(kept)

    assert "Keep it: the estate names it for staging." in text
    assert "may remove" not in text


def test_an_environment_of_another_tenant_says_nothing_of_an_old_database(kept: CutOver) -> None:
    other = small_estate(slug="fabrikam")
    Environment.objects.filter(pk=other.production.pk).update(database="northwind")

    subject, _ = released(kept)

    assert subject == "An old database may be removed"


@pytest.mark.parametrize(("state", "is_named"), [("ready", True), ("kept", True), ("over", False), ("failed", False)])
def test_an_old_database_that_a_later_cut_over_needs_is_to_be_kept(
    estate: SmallEstate, kept: CutOver, state: str, *, is_named: bool
) -> None:
    Environment.objects.filter(pk=estate.production.pk).update(database="northwind_tuesday")
    later = CutOver.objects.create(
        environment=kept.environment,
        change=kept.change,
        run=Run.objects.create(change=kept.change, revision=kept.run.revision, kind="assessment", created_at=NOW),
        state=state,
        target_at=NOW,
        target_database="northwind_tuesday",
        old_database="northwind",
        keep_hours=24,
        created_at=NOW,
    )

    _, text = released(kept)

    assert (f"Keep it: {later.change.number} names it." in text) == is_named
    assert ("may remove “northwind”" in text) == (not is_named)
