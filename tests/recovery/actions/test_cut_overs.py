"""A restored database takes the place of the one in use when its rollout begins."""

from __future__ import annotations

import pytest
from django.db import transaction

from changecontrol.access import system_actor
from changecontrol.models import Environment, Run
from recovery.actions.cut_overs import keep_old, move_cut_over, put_in_place
from recovery.models import CutOver
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, small_estate
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    begun_cut_over,
    copy_attachments,
    recorded_point,
    recovery_owner,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    estate = small_estate()
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=recovery_owner(estate))
    copy_attachments(estate.production, NOW - HOUR / 2)
    return estate


@pytest.fixture
def kept(estate: SmallEstate) -> CutOver:
    """Production has gone from `northwind` to `northwind_monday`; the old one is kept."""
    cut_over = begun_cut_over(estate, target_at=NOW - HOUR)
    Run.objects.filter(pk=cut_over.run_id).update(wave_opened_at=NOW + HOUR)
    cut_over.run.refresh_from_db()
    with transaction.atomic():
        move_cut_over(cut_over, "ready", sentence="It is there.", actor=system_actor(), at=NOW)
        put_in_place(cut_over, actor=system_actor(), at=NOW + HOUR)
        keep_old(cut_over, actor=system_actor(), at=NOW + 2 * HOUR)
    return cut_over


def test_a_rollout_that_succeeds_says_what_is_in_use_whatever_was_named_meanwhile(kept: CutOver) -> None:
    Environment.objects.filter(pk=kept.environment_id).update(database="northwind")
    CutOver.objects.filter(pk=kept.pk).update(state="ready", kept_until=None)
    again = CutOver.objects.select_related("environment").get(pk=kept.pk)

    with transaction.atomic(), events() as tags:
        keep_old(again, actor=system_actor(), at=NOW + 3 * HOUR)

    assert tags == ["estate:changed", "recovery:cut_over:moved"]
    assert Environment.objects.get(pk=kept.environment_id).database == "northwind_monday"


def test_putting_in_place_and_keeping_leave_exactly_their_events(estate: SmallEstate) -> None:
    cut_over = begun_cut_over(estate, target_at=NOW - HOUR)
    Run.objects.filter(pk=cut_over.run_id).update(wave_opened_at=NOW + HOUR)
    cut_over.run.refresh_from_db()
    with transaction.atomic():
        move_cut_over(cut_over, "ready", sentence="It is there.", actor=system_actor(), at=NOW)

    with transaction.atomic(), events() as put:
        put_in_place(cut_over, actor=system_actor(), at=NOW + HOUR)
    with transaction.atomic(), events() as kept:
        keep_old(cut_over, actor=system_actor(), at=NOW + 2 * HOUR)

    assert put == ["estate:changed", "recovery:policy:published", "recovery:cut_over:moved"]
    assert kept == ["recovery:cut_over:moved"]
