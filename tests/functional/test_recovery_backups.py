"""Backing up now, and watching it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from changecontrol.access import system_actor
from changecontrol.models import Job, User
from changecontrol.rules.roles import Role
from recovery.actions.backups import ask_backup, move_backup, say_backup
from recovery.models import BackupRun
from tests.factories import NOW, SmallEstate, actor, add_person, grant
from tests.factories.recovery import HOUR, backup_policy, recorded_point, recovery_owner

pytestmark = pytest.mark.django_db

PLACE = "/recovery/environments/northwind/production/"
BACK_UP = f"{PLACE}back-up/"
WHY = {"reason": "Before the stocktake."}
LIVE = {"HX-Request": "true"}


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def run(estate: SmallEstate, rio: User) -> BackupRun:
    """A backup whose job is at work."""
    backup_policy(estate.production)
    asked = ask_backup(actor=actor(rio), environment_id=estate.production.pk, at=NOW, **WHY)
    move_backup(asked, "start", sentence="Its job is ordered.", actor=system_actor(), at=NOW)
    Job.objects.create(
        key=f"backup/{asked.pk}",
        kind="backup",
        order={},
        progress={
            "phase": "database",
            "sentence": "The database is read.",
            "done_bytes": 25_000_000_000,
            "total_bytes": 100_000_000_000,
            "phases": {"database": (NOW - timedelta(minutes=10)).isoformat()},
        },
        created_at=NOW,
        started_at=NOW,
    )
    return asked


def text_of(answer) -> str:
    return " ".join(answer.text.replace("\N{NO-BREAK SPACE}", " ").split())


def test_backup_is_asked_for_with_a_reason_and_watched(estate, rio, signed_in) -> None:
    backup_policy(estate.production)
    client = signed_in(rio)

    asked = client.post(BACK_UP, WHY, follow=True)

    run = BackupRun.objects.get()
    assert asked.redirect_chain == [(f"/recovery/backups/{run.pk}/", 302)]
    assert (run.reason, run.asked_by, run.state) == ("Before the stocktake.", rio, "queued")
    assert "A backup of Northwind production is asked for." in asked.text
    assert "Watch it" in client.get(PLACE).text


def test_page_tells_how_long_the_last_one_took(estate, rio, signed_in) -> None:
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio)

    text = text_of(signed_in(rio).get(BACK_UP))

    assert "It follows version 1 of the policy. The last one took 5 min, and its point has 1 kB." in text


@pytest.mark.parametrize("sent", [{}, {"reason": " "}, {"reason": "\u200b"}], ids=["nothing", "blank", "unseen"])
def test_backup_without_a_reason_is_refused_in_its_form(estate, rio, signed_in, sent) -> None:
    backup_policy(estate.production)

    answer = signed_in(rio).post(BACK_UP, sent)

    assert answer.status_code == 422
    assert "reason" in answer.context["form"].errors
    assert not BackupRun.objects.exists()


def test_second_backup_at_the_same_time_is_a_conflict(rio, run, signed_in) -> None:
    answer = signed_in(rio).post(BACK_UP, WHY)

    assert answer.status_code == 409
    assert "A backup of this environment is under way already." in answer.text
    assert f"/recovery/backups/{run.pk}/" in answer.text


def test_what_stands_against_it_is_said_in_place_of_the_form(estate, rio, signed_in) -> None:
    client = signed_in(rio)

    without = client.get(BACK_UP)
    backup_policy(estate.production, engine="external", recipients=())
    elsewhere = client.get(BACK_UP)

    assert "There is no backup policy yet" in without.text
    assert "Another tool backs this environment up" in elsewhere.text
    assert all('name="reason"' not in one.text for one in (without, elsewhere))
    assert client.post(BACK_UP, WHY).status_code == 409


def test_progress_and_time_left_are_told(rio, run, signed_in) -> None:
    text = text_of(signed_in(rio).get(f"/recovery/backups/{run.pk}/"))

    for words in ("Database", "25 %", "25 GB of 100 GB", "30 min left, until about", "The database is read."):
        assert words in text, words


def test_live_part_is_sent_only_when_it_says_something_new(rio, run, signed_in) -> None:
    client = signed_in(rio)
    address = f"/recovery/backups/{run.pk}/?part=live&seen="
    seen = client.get(f"/recovery/backups/{run.pk}/").context["version"]

    same = client.get(address + seen, headers=LIVE)
    say_backup(run, "The operator is at it.")
    changed = client.get(address + seen, headers=LIVE)
    move_backup(run, "fail", sentence="The store does not answer.", actor=system_actor(), at=NOW)
    over = client.get(address + seen, headers=LIVE)

    assert (same.status_code, "HX-Refresh" in same.headers) == (204, False)
    assert changed.status_code == 200
    assert "<html" not in changed.text
    assert "The operator is at it." in changed.text
    assert (over.status_code, over.headers["HX-Refresh"]) == (204, "true")
    ended = client.get(f"/recovery/backups/{run.pk}/").text
    assert "The store does not answer." in ended
    assert ("part=live" in ended, "Cancel this backup" in ended) == (False, False)


def test_finished_backup_leads_to_its_point(estate, rio, signed_in) -> None:
    backup_policy(estate.production)
    point = recorded_point(estate.production, "p1", NOW - HOUR, by=rio)

    answer = signed_in(rio).get(f"/recovery/backups/{point.run_id}/")

    assert f'href="/recovery/points/{point.pk}/"' in answer.text
    assert "part=live" not in answer.text


def test_backup_is_canceled_with_a_reason(estate, rio, run, eve, signed_in) -> None:
    path = f"/recovery/backups/{run.pk}/"

    offered, not_offered = signed_in(rio).get(path).text, signed_in(estate.ada).get(path).text
    silent = signed_in(rio).post(f"{path}cancel/", {"reason": " "})
    refused = signed_in(estate.ada).post(f"{path}cancel/", {"reason": "No."})
    unseen = signed_in(eve).post(f"{path}cancel/", {"reason": "No."})
    done = signed_in(rio).post(f"{path}cancel/", {"reason": "The shop is slow."}, follow=True)
    again = signed_in(rio).post(f"{path}cancel/", {"reason": "The shop is slow."})

    assert (f"{path}cancel/" in offered, f"{path}cancel/" in not_offered) == (True, False)
    assert "Canceling it: This needs one of these roles here" in not_offered
    statuses = [one.status_code for one in (silent, refused, unseen, again)]
    assert statuses == [422, 403, 404, 409]
    assert "Rio canceled it: The shop is slow." in done.text
    assert f"{path}cancel/" not in done.text
    assert BackupRun.objects.get().state == "canceled"


def test_who_may_not_back_up_reads_why(estate, run, signed_in) -> None:
    reader = add_person("reader")
    grant(reader, Role.ENGINEER, estate.tenant)
    client = signed_in(reader)

    page = client.get(PLACE)

    assert "Back up now: This needs one of these roles here" in text_of(page)
    assert BACK_UP not in page.text
    assert [client.get(BACK_UP).status_code, client.post(BACK_UP, WHY).status_code] == [403, 403]
    assert client.get(f"/recovery/backups/{run.pk}/").status_code == 200


def test_strangers_find_no_backup(run, eve, signed_in) -> None:
    client = signed_in(eve)

    answers = [client.get(BACK_UP), client.post(BACK_UP, WHY), client.get(f"/recovery/backups/{run.pk}/")]

    assert [one.status_code for one in answers] == [404] * 3
