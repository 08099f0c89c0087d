"""Restores on their pages: asked for step by step, watched, canceled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from changecontrol.actions.jobs import ensure_job, tell_job_trouble
from changecontrol.models import ChangeRequest, Job, User
from changecontrol.rules.roles import Role
from recovery.models import BackupPolicy, Restore
from recovery.queries.paging import PAGE_SIZE
from tests.factories import NOW, SmallEstate, add_person, grant
from tests.factories.recovery import (
    HOUR,
    asked_restore,
    backup_policy,
    recorded_point,
    recovery_owner,
    restored,
    ship_wal,
)
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db

NEW = "/recovery/restores/new/"
TAKEN = NOW - 8 * HOUR
SHIPPED = NOW - HOUR


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    """Production is covered from 02:12 to 04:12 and from 07:12 to 09:12 UTC."""
    estate.production.database = "northwind"
    estate.production.save()
    backup_policy(estate.production)
    person = recovery_owner(estate)
    recorded_point(estate.production, "p1", TAKEN, by=person)
    ship_wal(estate.production, TAKEN - HOUR, TAKEN + 2 * HOUR)
    recorded_point(estate.production, "p2", NOW - 3 * HOUR, by=person)
    ship_wal(estate.production, NOW - 4 * HOUR, SHIPPED)
    return person


def chosen(estate: SmallEstate, **words: str) -> dict[str, Any]:
    answers = {"purpose": "copy", "when": "time", "date": "2026-11-23", "time": "08:00", "zone": "UTC"}
    return {"environment": estate.production.pk, **answers, **words}


def last(estate: SmallEstate, **words: str) -> dict[str, Any]:
    answers = {"purpose": "copy", "target_at": "2026-11-23T08:00:00+00:00", "target_database": "a_look"}
    return {"environment": estate.production.pk, **answers, "reason": "What was sold?", **words}


DECLARED = {
    "purpose": "incident", "declared_date": "2026-11-23", "declared_time": "10:00", "declared_zone": "UTC",
}  # fmt: skip


def test_a_copy_is_asked_for_in_three_steps(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    client = signed_in(rio)

    first = client.get(NEW)
    second = client.get(NEW, {"environment": estate.production.pk})
    third = client.get(NEW, chosen(estate))
    asked = client.post(NEW, last(estate), follow=True)

    assert "Northwind production" in first.text
    assert "Northwind staging" not in first.text
    assert "but not in these gaps, newest first:" in second.text
    assert "choose it" not in second.text
    assert "The copy will not hold the last 2 hours 12 minutes of work." in third.text
    assert "That is more than the RPO: Warehouse allows to lose 1 hour at most." in third.text
    assert "p2" in third.text
    assert 'value="northwind_20261123_0800"' in third.text
    restore = Restore.objects.get()
    assert asked.redirect_chain == [(f"/recovery/restores/{restore.pk}/", 302)]
    assert (restore.purpose, restore.target_at, restore.point.key) == (
        "copy",
        NOW - 2 * HOUR - timedelta(minutes=12),
        "p2",
    )


def test_nothing_is_chosen_beforehand(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    form = signed_in(rio).get(NEW, {"environment": estate.production.pk}).context["form"]

    assert form["when"].value() == "time"
    assert [form[name].value() for name in ("date", "time", "zone")] == [None, None, None]


def test_the_latest_is_taken_only_by_its_name_and_then_stands_still(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    answer = signed_in(rio).get(NEW, chosen(estate, when="latest", date="", time="", zone=""))

    assert answer.context["form"]["target_at"].value() == SHIPPED.isoformat()


@pytest.mark.parametrize(
    ("time", "sentence", "safe"),
    [
        ("05:00", "is in a gap. The last safe time before it is 23 Nov 2026 04:12:00 UTC.", "time=04%3A12%3A00"),
        ("10:00", "is after the last time that can be restored.", "time=09%3A12%3A00"),
        ("01:00", "is before the first time that can be restored, 23 Nov 2026 02:12:00 UTC.", ""),
    ],
    ids=["gap", "after", "before"],
)
def test_a_time_that_is_not_covered_is_refused_with_the_last_safe_one(
    estate: SmallEstate, rio: User, signed_in: Any, time: str, sentence: str, safe: str
) -> None:  # BCK-3
    client = signed_in(rio)

    answer = client.get(NEW, chosen(estate, time=time))

    assert answer.status_code == 409
    assert sentence in answer.text
    assert safe in answer.context["safe_url"]
    if safe:
        assert client.get(answer.context["safe_url"]).status_code == 200
    assert not Restore.objects.exists()


def test_what_is_missing_is_said_beside_its_field(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    client = signed_in(rio)

    no_zone = client.get(NEW, chosen(estate, zone=""))
    nowhere = client.get(NEW, {"environment": "999999"})
    no_reason = client.post(NEW, last(estate, reason=" "))
    in_use = client.post(NEW, last(estate, target_database="northwind"))
    no_time = client.post(NEW, last(estate, target_at=""))

    assert {one.status_code for one in (no_zone, nowhere, no_reason, in_use, no_time)} == {422}
    assert "a time without one is a guess" in no_zone.text
    assert "Choose an environment of the list." in nowhere.text
    assert list(no_reason.context["form"].errors) == ["reason"]
    assert list(in_use.context["form"].errors) == ["target_database"]
    assert not Restore.objects.exists()


def test_what_went_while_it_was_read_is_a_conflict(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    client = signed_in(rio)

    gone = client.post(NEW, last(estate, target_at="2026-11-23T05:00:00+00:00"))
    asked_restore(estate.production, by=rio, target_at=SHIPPED)
    twice = client.post(NEW, last(estate))

    assert (gone.status_code, twice.status_code) == (409, 409)
    assert "is in a gap" in gone.text
    assert "is under way already" in twice.text


def test_an_incident_restore_says_that_nothing_is_neutralised(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    commander = add_person("cora")
    grant(commander, Role.INCIDENT_COMMANDER, estate.tenant)
    client = signed_in(commander)

    second = client.get(NEW, {"environment": estate.production.pk})
    third = client.get(NEW, chosen(estate, purpose="incident"))
    no_copy = client.get(NEW, chosen(estate, purpose="copy"))
    too_late = client.post(NEW, last(estate, **{**DECLARED, "declared_time": "11:00"}))
    asked = client.post(NEW, last(estate, **DECLARED), follow=True)

    assert "A copy to look into" not in second.text
    assert "This copy is not neutralised." in third.text
    assert no_copy.status_code == 422
    assert (too_late.status_code, list(too_late.context["form"].errors)) == (422, ["declared_time"])
    restore = Restore.objects.get()
    assert (restore.purpose, restore.declared_at) == ("incident", NOW - timedelta(minutes=12))
    assert "Not neutralised" in asked.text


def test_a_purpose_that_one_may_not_ask_for_is_refused(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    commander = add_person("cora")
    grant(commander, Role.INCIDENT_COMMANDER, estate.tenant)

    assert signed_in(commander).post(NEW, last(estate)).status_code == 403
    assert signed_in(estate.ada).post(NEW, last(estate)).status_code == 403
    assert signed_in(estate.dee).get(NEW).status_code == 403
    assert not Restore.objects.exists()


def test_putting_it_in_place_files_the_draft_of_a_change(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    # BCK-4
    client = signed_in(estate.ada)

    second = client.get(NEW, {"environment": estate.production.pk})
    third = client.get(NEW, chosen(estate, purpose="production"))
    used = client.post(NEW, last(estate, purpose="production", target_database="northwind"))
    filed = client.post(NEW, last(estate, purpose="production", target_database="northwind_monday"), follow=True)

    assert "A copy to look into" not in second.text
    assert "2 hours 12 minutes of work will be lost where this takes the environment" in third.text
    assert "Nothing is restored before it is approved." in third.text
    assert (used.status_code, list(used.context["form"].errors)) == (422, ["target_database"])
    change = ChangeRequest.objects.get()
    assert filed.redirect_chain == [(f"/changes/{change.number}/edit/", 302)]
    assert (change.kind, change.state, change.title) == (
        "restore",
        "draft",
        "Restore Northwind production to 23 Nov 2026 08:00:00 UTC",
    )
    kept = {name: change.draft[name] for name in ("environments", "restore_to", "restore_database", "keep_hours")}
    assert kept == {
        "environments": ["production"],
        "restore_to": "2026-11-23T08:00:00+00:00",
        "restore_database": "northwind_monday",
        "keep_hours": 72,
    }
    assert not Restore.objects.exists()


def test_the_draft_asks_what_is_brought_back_and_its_page_says_it(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    client = signed_in(estate.ada)
    client.post(NEW, last(estate, purpose="production", target_database="northwind_monday"))
    change = ChangeRequest.objects.get()
    edit = f"/changes/{change.number}/edit/"

    step = client.get(edit, {"step": "restore"})
    answers = {"restore_to": "yesterday", "restore_database": "Northwind!", "keep_hours": 24}
    saved = client.post(edit, {"step": "restore", "seen_version": change.draft_version, **answers})
    everything = client.get(edit, {"step": "all"}).text
    told = client.get(f"/changes/{change.number}/").text

    assert step.context["forms"][0]["restore_database"].value() == "northwind_monday"
    assert saved.status_code == 302
    change.refresh_from_db()
    assert change.draft["keep_hours"] == 24
    assert 'name="restore_to"' in everything
    assert "Bring production of Northwind back to yesterday, as “Northwind!”." in told
    assert "kept for 24 hours after the cut-over" in told


def test_what_is_missing_for_it_is_said_before_a_change_is_filed(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    BackupPolicy.objects.update(restore_filestore="")

    answer = signed_in(estate.ada).post(NEW, last(estate, purpose="production", target_database="northwind_monday"))

    assert answer.status_code == 409
    assert "names no folder for restored attachments" in answer.text
    assert not ChangeRequest.objects.exists()


def test_a_restore_shows_its_way_and_where_the_time_goes(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    restore = restored(
        asked_restore(estate.production, by=rio, target_at=SHIPPED, at=NOW - 5 * timedelta(minutes=1)), up_to="restore"
    )

    text = signed_in(estate.ada).get(f"/recovery/restores/{restore.pk}/").text

    assert "Copy of Northwind production" in text
    assert "restoring<span" in text
    assert "so far" in text
    assert "of 4\N{NO-BREAK SPACE}h" in text
    assert "How long it takes was not known beforehand" in text
    assert "Cancel this restore</button>" not in text


def test_the_live_part_is_drawn_again_only_when_something_changed(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    restore = asked_restore(estate.production, by=rio, target_at=SHIPPED)
    client = signed_in(rio)
    path = f"/recovery/restores/{restore.pk}/"
    version = client.get(path).context["version"]

    def live() -> Any:
        return client.get(path, {"part": "live", "seen": version}, headers={"HX-Request": "true"})

    same = live()
    restored(restore, up_to="provision")
    moved = live()
    Restore.objects.update(state="succeeded")
    over = live()

    assert (same.status_code, same.text) == (204, "")
    assert (moved.status_code, "provisioning<span" in moved.text, "<html" in moved.text) == (200, True, False)
    assert (over.status_code, over.headers["HX-Refresh"]) == (204, "true")


def test_a_restore_is_canceled_with_a_reason(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    restore = asked_restore(estate.production, by=rio, target_at=SHIPPED)
    path = f"/recovery/restores/{restore.pk}/cancel/"

    silent = signed_in(rio).post(path, {"reason": " "})
    refused = signed_in(estate.ada).post(path, {"reason": "No."})
    done = signed_in(rio).post(path, {"reason": "The wrong time."}, follow=True)
    again = signed_in(rio).post(path, {"reason": "The wrong time."})

    assert (silent.status_code, refused.status_code, again.status_code) == (422, 403, 409)
    assert "Rio canceled it: The wrong time." in done.text
    assert Restore.objects.get().state == "canceled"


def test_ended_ones_say_what_came_of_them(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    client = signed_in(rio)
    ready = restored(asked_restore(estate.production, by=rio, target_at=SHIPPED, at=NOW - HOUR))
    failed = asked_restore(estate.production, by=rio, target_at=SHIPPED)
    Restore.objects.filter(pk=failed.pk).update(state="failed", finished_at=NOW, sentence="A segment is missing.")

    assert "It is ready in the database a_look." in client.get(f"/recovery/restores/{ready.pk}/").text
    assert "A segment is missing." in client.get(f"/recovery/restores/{failed.pk}/").text
    assert (
        "about 10\N{NO-BREAK SPACE}min, going by a single earlier restore"
        in client.get(f"/recovery/restores/{failed.pk}/").text
    )


def test_a_stranger_finds_nothing(estate: SmallEstate, rio: User, eve: User, signed_in: Any) -> None:
    restore = asked_restore(estate.production, by=rio, target_at=SHIPPED, reason="Secret of Northwind")
    client = signed_in(eve)

    listed = client.get("/recovery/restores/").text
    statuses = [
        client.get(f"/recovery/restores/{restore.pk}/").status_code,
        client.post(f"/recovery/restores/{restore.pk}/cancel/", {"reason": "x"}).status_code,
        client.get(NEW, {"environment": estate.production.pk}).status_code,
        client.post(NEW, last(estate)).status_code,
    ]

    assert "Nothing is being restored." in listed
    assert "Northwind" not in listed
    assert statuses == [404, 404, 422, 422]
    assert Restore.objects.count() == 1


def test_list_costs_the_same_with_one_restore_and_three(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    client = signed_in(estate.dee)

    def one_more(number: int) -> None:
        restored(asked_restore(estate.production, by=rio, target_at=SHIPPED, target_database=f"old_{number}"))
        asked_restore(estate.production, by=rio, target_at=SHIPPED, target_database=f"new_{number}")

    one_more(1)
    one = statements(client, "/recovery/restores/")
    one_more(2)
    one_more(3)
    three = statements(client, "/recovery/restores/")

    assert one == three <= 12


def test_page_of_one_costs_a_bounded_number_of_statements(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    restore = asked_restore(estate.production, by=rio, target_at=SHIPPED)

    assert statements(signed_in(rio), f"/recovery/restores/{restore.pk}/") <= 14


def test_ended_restores_are_paged_by_key(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    first = restored(asked_restore(estate.production, by=rio, target_at=SHIPPED))
    values = {one.attname: getattr(first, one.attname) for one in Restore._meta.concrete_fields if not one.primary_key}
    Restore.objects.bulk_create(Restore(**values) for _ in range(PAGE_SIZE))
    client = signed_in(rio)

    newest = client.get("/recovery/restores/")
    oldest = client.get(newest.context["older_url"])
    again = client.get(oldest.context["newer_url"])

    assert len(newest.context["ended"]) == PAGE_SIZE
    assert [row["restore"] for row in oldest.context["ended"]] == [first]
    assert oldest.context["older_url"] == ""
    assert [row["restore"] for row in again.context["ended"]] == [row["restore"] for row in newest.context["ended"]]


def ordered_job(restore: Restore, **progress: Any) -> Job:
    """Order a restore's job as its workflow does, and let it say how far it is."""
    job = ensure_job(key=f"restore/{restore.pk}", kind="restore", order={}, at=NOW)
    Job.objects.filter(pk=job.pk).update(progress=progress, started_at=NOW)
    return job


def test_a_long_step_says_how_far_it_is_and_what_time_is_left(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    restore = restored(asked_restore(estate.production, by=rio, target_at=SHIPPED), up_to="restore")
    began = (NOW - timedelta(minutes=10)).isoformat()
    said = {"phase": "unpacking", "done_bytes": 250_000_000, "total_bytes": 1_000_000_000, "sentence": "The base."}
    ordered_job(restore, **said, phases={"unpacking": began})
    client = signed_in(rio)
    path = f"/recovery/restores/{restore.pk}/"

    text = client.get(path).text.replace("\N{NO-BREAK SPACE}", " ")
    version = client.get(path).context["version"]
    Job.objects.update(progress={**said, "done_bytes": 500_000_000, "phases": {"unpacking": began}})
    moved = client.get(path, {"part": "live", "seen": version}, headers={"HX-Request": "true"}).text

    assert "Unpacking" in text
    assert "25 %" in text
    assert "250 MB of 1 GB" in text
    assert "30 min left, until about" in text
    assert "10:42 UTC" in text
    assert "50\N{NO-BREAK SPACE}%" in moved


def test_a_long_step_says_what_keeps_it_from_going_on_unless_somebody_works_on_it(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    restore = restored(asked_restore(estate.production, by=rio, target_at=SHIPPED), up_to="restore")
    job = ordered_job(restore, phase="unpacking", sentence="The base.")
    tell_job_trouble(pk=job.pk, reason="The cluster cannot be reached.", at=NOW)
    client = signed_in(rio)
    path = f"/recovery/restores/{restore.pk}/"

    waits = client.get(path)
    Job.objects.update(lease_until=NOW + timedelta(minutes=1))
    works = client.get(path)

    assert "The cluster cannot be reached." in waits.text
    assert "The base." not in waits.text
    assert "The cluster cannot be reached." not in works.text
    assert "The base." in works.text
    assert waits.context["version"] != works.context["version"]


def test_an_environment_s_page_leads_to_restoring_and_practising_it(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    path = "/recovery/environments/northwind/production/"
    asked = f"environment={estate.production.pk}"

    of_rio, of_ada = signed_in(rio).get(path).text, signed_in(estate.ada).get(path).text
    home = signed_in(estate.ada).get("/recovery/").text

    assert f"{NEW}?{asked}" in of_rio
    assert f"/recovery/drills/new/?{asked}" in of_rio
    assert f"{NEW}?{asked}" in of_ada
    assert "Hold a drill: This needs one of these roles here" in of_ada
    assert 'href="/recovery/restores/"' in home
    assert 'href="/recovery/drills/"' in home


def test_where_no_wal_is_kept_each_moment_is_chosen_by_its_address(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    backup_policy(estate.staging)
    exact = TAKEN + timedelta(microseconds=17)
    for number in range(10):
        recorded_point(estate.staging, f"dump{number}", exact - number * timedelta(days=1), by=rio)
    client = signed_in(rio)

    page = client.get(NEW, {"environment": estate.staging.pk})
    facts = page.context["coverage"]
    chosen = client.get(facts["choices"][0]["url"])
    drill = client.get("/recovery/drills/new/", {"environment": estate.staging.pk})
    practised = client.get(drill.context["coverage"]["choices"][0]["url"])

    assert "only at these moments, newest first:" in page.text
    assert (facts["gaps"], len(facts["choices"]), facts["more_choices"]) == ([], 8, 2)
    assert facts["summary"].startswith("At 10 moments, from Sat 14 Nov")
    assert chosen.status_code == 200
    assert chosen.context["form"]["target_at"].value() == exact.isoformat()
    assert practised.context["form"]["time"].value() == "02:12:00.000017"
