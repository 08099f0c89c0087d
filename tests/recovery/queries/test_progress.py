"""What time is left of long work: by the bytes of its step, or by how long its phase took last."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job, User
from recovery.jobs.saying import Saying
from recovery.models import Drill, Restore
from recovery.queries.progress import key_of, progress_of
from tests.factories import small_estate
from tests.factories.estate import NOW, SmallEstate
from tests.factories.recovery import (
    HOUR,
    asked_restore,
    backup_policy,
    finished_drill,
    recorded_point,
    recovery_owner,
    restored,
    started_drill,
)

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    rio = recovery_owner(estate)
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio)
    return rio


def said(row: Any, *, state: JobState = JobState.OPEN, **phases: datetime) -> Job:
    """Let the job of a row have said its last phase, which is the one that began last."""
    told = {name: at.isoformat() for name, at in phases.items()}
    progress = {"phase": list(phases)[-1], "sentence": "It goes on.", "done_bytes": 0, "total_bytes": None}
    return Job.objects.create(
        key=key_of(row),
        kind="restore",
        order={},
        state=state,
        progress={**progress, "phases": told},
        created_at=NOW,
        started_at=NOW,
    )


def say(job: Job, **words: Any) -> None:
    job.progress = {**job.progress, **words}
    job.save(update_fields=["progress"])


def left(row: Restore | Drill) -> timedelta | None:
    found = progress_of(row, at=NOW)
    assert found is not None
    return found.left


def test_what_is_left_counts_from_when_the_step_began_and_not_its_phase(estate: SmallEstate, rio: User) -> None:
    restore = asked_restore(estate.production, by=rio, target_at=NOW - HOUR)
    job = said(restore, restoring=NOW - 60 * MINUTE)

    say(job, done_bytes=250, total_bytes=1_000, since=(NOW - MINUTE).isoformat())

    assert left(restore) == 3 * MINUTE


def test_a_job_says_when_each_of_its_steps_began() -> None:
    told: list[dict[str, Any]] = []
    saying = Saying(told.append)  # type: ignore[arg-type]  # what it reports to takes more

    saying.begin("restoring", "Fetching the copy.", total_bytes=10, at=NOW - HOUR)
    saying.say("Bringing back attachments.", total_bytes=5)
    saying.moved(1)

    first, second, third = told
    assert first["since"] == first["phases"]["restoring"] == (NOW - HOUR).isoformat()
    assert second["since"] > first["since"]
    assert (third["since"], third["phases"]) == (second["since"], first["phases"])


def test_a_phase_whose_bytes_nobody_counts_goes_by_how_long_it_took_last(estate: SmallEstate, rio: User) -> None:
    earlier = restored(asked_restore(estate.production, by=rio, target_at=NOW - HOUR))
    times = {"provisioning": NOW - 300 * MINUTE, "restoring": NOW - 290 * MINUTE, "validating": NOW - 250 * MINUTE}
    said(earlier, state=JobState.DONE, **times, over=NOW - 240 * MINUTE)
    restore = asked_restore(estate.production, by=rio, target_at=NOW - HOUR)

    job = said(restore, restoring=NOW - 15 * MINUTE)
    restoring = left(restore)
    say(job, phase="validating", phases={"validating": (NOW - 4 * MINUTE).isoformat()})

    assert (restoring, left(restore)) == (25 * MINUTE, 6 * MINUTE)


def test_what_takes_longer_than_last_is_not_foretold(estate: SmallEstate, rio: User) -> None:
    earlier = restored(asked_restore(estate.production, by=rio, target_at=NOW - HOUR))
    said(earlier, state=JobState.DONE, restoring=NOW - 200 * MINUTE, over=NOW - 190 * MINUTE)
    restore = asked_restore(estate.production, by=rio, target_at=NOW - HOUR)

    said(restore, restoring=NOW - 11 * MINUTE)

    assert left(restore) is None


def test_nothing_is_foretold_by_work_that_failed_or_was_another(estate: SmallEstate, rio: User) -> None:
    times = {"checking": NOW - 200 * MINUTE, "over": NOW - 190 * MINUTE}
    earlier = finished_drill(estate.production, by=rio, target_at=NOW - HOUR)
    Drill.objects.filter(pk=earlier.pk).update(level=3)
    said(Drill.objects.get(), state=JobState.DONE, **times)
    drill = started_drill(estate.production, by=rio, target_at=NOW - HOUR)
    said(drill, checking=NOW - MINUTE)

    of_another_level = left(drill)
    Drill.objects.filter(pk=earlier.pk).update(state="failed", level=2)
    of_one_that_failed = left(drill)
    Drill.objects.filter(pk=earlier.pk).update(state="passed")

    assert (of_another_level, of_one_that_failed, left(drill)) == (None, None, 9 * MINUTE)
