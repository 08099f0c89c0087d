"""Drills on their pages: what is overdue, held by hand, watched, reported, signed off."""

from __future__ import annotations

import json
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from changecontrol.access import system_actor
from changecontrol.actions.changes import cancel_change
from changecontrol.models import AuditEvent, ChangeRequest, User
from changecontrol.rules.roles import Role
from recovery.actions.drills import finish_drill, move_drill
from recovery.models import BackupPolicy, CorrectiveAction, Drill, SignOff
from recovery.queries.reports import contribute, gaps_of
from tests.factories import NOW, SmallEstate, actor, add_person, draft_change, grant
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    canceled_drill,
    finished_drill,
    recorded_point,
    recovery_owner,
    ship_wal,
    started_drill,
)
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db

NEW = "/recovery/drills/new/"
TAKEN = NOW - 3 * HOUR


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    """Production is covered from 07:12 to 09:12 UTC, and watched for 100 days."""
    backup_policy(estate.production)
    person = recovery_owner(estate)
    recorded_point(estate.production, "p1", TAKEN, by=person)
    ship_wal(estate.production, TAKEN - HOUR, NOW - HOUR)
    return person


@pytest.fixture
def owner(estate: SmallEstate) -> User:
    person = add_person("otto")
    grant(person, Role.PROCESS_OWNER, estate.tenant)
    return person


def answers(estate: SmallEstate, **words: Any) -> dict[str, Any]:
    given = {"level": "2", "when": "time", "date": "2026-11-23", "time": "09:00", "zone": "UTC", "sabotage": ""}
    return {"environment": estate.production.pk, **given, "scope": "The whole shop.", **words}


def going(estate: SmallEstate, rio: User, **words: Any) -> Drill:
    begun_at = NOW - timedelta(minutes=5)
    return started_drill(estate.production, by=rio, target_at=NOW - HOUR, at=begun_at, **words)


def test_what_is_overdue_stands_at_the_top_in_red_until_one_passed(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:  # BCK-7
    late = signed_in(rio).get("/recovery/drills/")
    seen_by_an_auditor = signed_in(estate.dee).get("/recovery/drills/").text
    finished_drill(estate.production, by=rio, target_at=TAKEN, at=NOW - HOUR)
    done = signed_in(rio).get("/recovery/drills/").text

    assert "1 drill overdue" in late.text
    assert 'class="cc-note is-bad"' in late.text
    assert f"{NEW}?environment={estate.production.pk}" in late.text
    assert "None has ever passed." in seen_by_an_auditor
    assert NEW not in seen_by_an_auditor
    assert "overdue" not in done


class Reds(HTMLParser):
    """Collects the words that stand in something red."""

    ALONE = frozenset({"area", "br", "circle", "hr", "img", "input", "line", "link", "meta", "path", "rect", "source"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._within: list[bool] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.ALONE:
            self._within.append(any(self._within[-1:]) or "is-bad" in (dict(attrs).get("class") or "").split())

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.ALONE:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if any(self._within[-1:]):
            self.words.append(data)


@pytest.mark.parametrize(
    "path", ["/", "/recovery/", "/recovery/environments/northwind/production/", "/recovery/drills/"]
)
def test_an_overdue_drill_is_red_on_each_page_that_tells_how_things_stand(
    estate: SmallEstate, rio: User, signed_in: Any, path: str
) -> None:  # BCK-7
    client = signed_in(rio)

    late = Reds(client.get(path).text).words
    finished_drill(estate.production, by=rio, target_at=TAKEN, at=NOW - HOUR)
    done = Reds(client.get(path).text).words

    assert [one for one in late if "overdue" in one]
    assert [one for one in done if "overdue" in one] == []


def test_a_drill_is_held_by_hand(estate: SmallEstate, rio: User, signed_in: Any, settings: Any) -> None:
    settings.ODOO_COMMAND = ""
    client = signed_in(rio)

    first = client.get(NEW)
    second = client.get(NEW, {"environment": estate.production.pk})
    asked = client.post(NEW, answers(estate, sabotage="flip"), follow=True)

    assert "Northwind production" in first.text
    assert "Northwind staging" not in first.text
    assert "This installation has no Odoo to start" in second.text
    assert "Its backup policy names no other cluster in which to bring it up." in second.text
    drill = Drill.objects.get()
    assert asked.redirect_chain == [(f"/recovery/drills/{drill.pk}/", 302)]
    assert (drill.level, drill.sabotage, drill.scope, drill.target_at) == (
        2, "flip", "The whole shop.", NOW - timedelta(minutes=72),
    )  # fmt: skip


def test_level_5_is_offered_where_the_policy_names_another_cluster(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:  # BCK-5
    BackupPolicy.objects.update(rehearsal_cluster="de-1", rehearsal_target="file:/run/secrets/falkenstein")
    client = signed_in(rio)

    form = client.get(NEW, {"environment": estate.production.pk}).text
    sabotaged = client.post(NEW, answers(estate, level="5", sabotage="flip"))
    asked = client.post(NEW, answers(estate, level="5"), follow=True)

    assert "the environment is brought up there from Git until every workload is healthy" in form
    assert (sabotaged.status_code, sabotaged.context["form"].errors) == (
        422,
        {"sabotage": ["A sabotaged copy is brought up nowhere: choose a level up to 4."]},
    )
    drill = Drill.objects.get()
    assert (drill.level, drill.data) == (5, {"policy": BackupPolicy.objects.get().pk})
    assert "level L5" in asked.text


def test_the_latest_is_taken_only_by_its_name(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    client = signed_in(rio)
    assert client.get(NEW, {"environment": estate.production.pk}).context["form"]["when"].value() == "time"

    client.post(NEW, answers(estate, when="latest", date="", time="", zone=""))

    assert Drill.objects.get().target_at == NOW - HOUR


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"level": "4"}, "level"),
        ({"level": "5"}, "level"),
        ({"level": ""}, "level"),
        ({"zone": ""}, "zone"),
        ({"sabotage": "burn"}, "sabotage"),
    ],
    ids=["no-odoo", "no-workflow", "no-level", "no-zone", "no-such-sabotage"],
)
def test_what_cannot_be_is_said_beside_its_field(
    estate: SmallEstate, rio: User, signed_in: Any, settings: Any, words: dict[str, str], field: str
) -> None:
    settings.ODOO_COMMAND = ""

    answer = signed_in(rio).post(NEW, answers(estate, **words))

    assert (answer.status_code, list(answer.context["form"].errors)) == (422, [field])
    assert not Drill.objects.exists()


def test_a_time_out_of_reach_and_a_drill_under_way_are_conflicts(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    client = signed_in(rio)

    outside = client.post(NEW, answers(estate, time="10:00"))
    going(estate, rio)
    twice = client.post(NEW, answers(estate))

    assert (outside.status_code, twice.status_code) == (409, 409)
    assert "The last safe time before it is 23 Nov 2026 09:12:00 UTC." in outside.text
    assert "under way already" in twice.text


def test_who_may_not_is_told_whom_to_ask(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    assert signed_in(estate.ada).get(NEW).status_code == 403


def test_a_drill_under_way_shows_its_steps_and_moves(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    drill = going(estate, rio)
    client = signed_in(rio)
    path = f"/recovery/drills/{drill.pk}/"
    page = client.get(path)

    def live() -> Any:
        headers = {"HX-Request": "true"}
        return client.get(path, {"part": "live", "seen": page.context["version"]}, headers=headers)

    same = live()
    move_drill(drill, "provision", sentence="It makes room.", actor=system_actor(), at=NOW)
    moved = live()
    Drill.objects.update(state="failed", finished_at=NOW)
    over = live()

    assert "report.pdf" not in page.text
    assert "Sign-off" not in page.text.replace("Sign-off and scope", "")
    assert same.status_code == 204
    assert "It makes room." in moved.text
    assert "<html" not in moved.text
    assert (over.status_code, over.headers["HX-Refresh"]) == (204, "true")


def test_a_drill_is_canceled_with_a_reason(estate: SmallEstate, rio: User, owner: User, signed_in: Any) -> None:
    drill = going(estate, rio)
    path = f"/recovery/drills/{drill.pk}/"

    offered, not_offered = signed_in(rio).get(path).text, signed_in(estate.ada).get(path).text
    silent = signed_in(rio).post(f"{path}cancel/", {"reason": " "})
    refused = signed_in(estate.ada).post(f"{path}cancel/", {"reason": "No."})
    done = signed_in(rio).post(f"{path}cancel/", {"reason": "The wrong level."}, follow=True)
    again = signed_in(rio).post(f"{path}cancel/", {"reason": "The wrong level."})

    assert (f"{path}cancel/" in offered, f"{path}cancel/" in not_offered) == (True, False)
    assert "Canceling it: This needs one of these roles here" in not_offered
    assert (silent.status_code, refused.status_code, again.status_code) == (422, 403, 409)
    assert "It is being canceled." in done.text
    assert done.text.count("Rio canceled it: The wrong level.") == 1
    assert f"{path}cancel/" not in done.text
    assert [one["state"] for one in done.context["steps"]][-2:] == ["tearing_down", "canceled"]
    assert [one.value for one in done.context["split"]["parts"]][1:] == ["not reached"] * 3
    assert "Nothing was asked before it was canceled." in done.text

    finish_drill(Drill.objects.get(), leftovers="The folder is there.", actor=system_actor(), at=NOW)
    over, listed = report_of(drill, signed_in(owner)), signed_in(owner).get("/recovery/drills/").text

    assert "It was canceled." in over
    assert "Rio canceled it: The wrong level. It left something behind: The folder is there." in over
    assert "It was canceled before it was done: it proves nothing." in over
    assert "Left behind: The folder is there." in over
    assert (f"{path}sign-off/" in over, "not needed" in listed) == (False, True)
    signed = signed_in(owner).post(f"{path}sign-off/")
    assert signed.status_code == 409
    assert "A canceled drill proves nothing, so it is not signed off." in signed.text


def test_a_stranger_finds_no_drill_to_cancel(estate: SmallEstate, rio: User, eve: User, signed_in: Any) -> None:
    drill = going(estate, rio)

    answer = signed_in(eve).post(f"/recovery/drills/{drill.pk}/cancel/", {"reason": "x"})

    drill.refresh_from_db()
    assert (answer.status_code, drill.state) == (404, "queued")


def report_of(drill: Drill, client: Any) -> str:
    text: str = client.get(f"/recovery/drills/{drill.pk}/").text
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_report_sets_targets_against_what_was_measured(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=NOW - HOUR)
    Drill.objects.filter(pk=drill.pk).update(newest_sentinel_at=NOW - timedelta(minutes=61))

    text = report_of(drill, signed_in(estate.dee))

    assert "The one check passed." in text
    assert "declared 10:12:00 UTC, validated 10:27:00 UTC" in text
    assert "newest sentinel recovered 09:11:00 UTC" in text
    assert "L2, PostgreSQL" in text
    assert "Nothing that carries" in text
    assert "Nothing has to be mended." in text
    assert "Not signed off yet. This needs one of these roles here" in text


@pytest.mark.parametrize(
    ("target", "sentinel", "verdict"),
    [
        (timedelta(minutes=10), timedelta(minutes=11), "pass"),
        (timedelta(minutes=60), timedelta(minutes=61), "fail"),
        (timedelta(minutes=170), timedelta(minutes=171), "inconclusive"),
        (timedelta(minutes=10), None, "no data"),
    ],
    ids=["met", "missed", "went-further-back", "no-sentinel"],
)
def test_what_was_lost_is_judged_by_the_newest_sentinel(
    estate: SmallEstate, rio: User, signed_in: Any, target: timedelta, sentinel: timedelta | None, verdict: str
) -> None:  # BCK-6
    drill = finished_drill(estate.production, by=rio, target_at=NOW - HOUR)
    newest = None if sentinel is None else NOW - sentinel
    Drill.objects.filter(pk=drill.pk).update(target_at=NOW - target, newest_sentinel_at=newest)

    rows = signed_in(rio).get(f"/recovery/drills/{drill.pk}/").context["objectives"]

    assert rows[1]["verdict"].replace("_", " ") == verdict


def test_integrity_needs_no_sandbox_and_its_time_is_still_whole(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    drill = going(estate, rio, level=1)
    move_drill(drill, "check", sentence="It asks.", actor=system_actor(), at=NOW)
    move_drill(drill, "tear_down", sentence="It cleans up.", actor=system_actor(), at=NOW)

    split = signed_in(rio).get(f"/recovery/drills/{drill.pk}/").context["split"]

    values = [one.value.replace("\N{NO-BREAK SPACE}", " ") for one in split["parts"]]
    assert values == ["0 s", "not needed", "not needed", "5 min"]


def test_another_person_signs_off_on_the_page(estate: SmallEstate, rio: User, owner: User, signed_in: Any) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    path = f"/recovery/drills/{drill.pk}/sign-off/"

    assert "You ran it: somebody else signs it off." in report_of(drill, signed_in(rio))
    assert signed_in(rio).post(path).status_code == 403
    assert signed_in(estate.ada).post(path).status_code == 403
    assert signed_in(owner).post(path, {"note": "x" * 501}).status_code == 422
    waiting = report_of(drill, signed_in(owner))
    assert "Rio ran it; you did not, so you may sign it off." in waiting
    assert "1 corrective action is still open." in waiting

    done = signed_in(owner).post(path, {"note": "Read."}, follow=True)

    assert "“Read.”" in done.text
    assert SignOff.objects.get().by == owner
    assert signed_in(owner).post(path).status_code == 409


def test_a_finding_is_closed_with_what_was_done(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    todo = CorrectiveAction.objects.get()
    path = f"/recovery/corrective-actions/{todo.pk}/close/"

    assert path not in report_of(drill, signed_in(estate.ada))
    assert signed_in(estate.ada).post(path, {"note": "x"}).status_code == 403
    assert signed_in(rio).post(path, {"note": " "}).status_code == 422
    done = signed_in(rio).post(path, {"note": "A new disk."}, follow=True)

    assert "“A new disk.” · Rio" in done.text
    assert signed_in(rio).post(path, {"note": "Again."}).status_code == 409


def test_the_report_is_taken_as_json_and_the_same_report_is_the_same_bytes(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:  # AUD-5
    drill = finished_drill(estate.production, by=rio, target_at=NOW - HOUR)
    client = signed_in(estate.dee)
    path = f"/recovery/drills/{drill.pk}/report.json"

    first, second = client.get(path), client.get(path)

    assert first.content == second.content
    assert first.headers["Content-Disposition"] == f'attachment; filename="drill-{drill.pk}.json"'
    report = json.loads(first.content)
    assert report["rto"] == {
        "target": 14400,
        "measured": 900.0,
        "parts": {"decide": 0.0, "provision": 120.0, "restore": 600.0, "validate": 180.0},
        "verdict": "pass",
    }
    assert (report["verdict"], report["checks"][0]["name"], report["started_by"]) == (
        "The one check passed.", "sentinel", "rio",
    )  # fmt: skip
    events = AuditEvent.objects.filter(tag="evidence:exported", actor=estate.dee)
    assert [json.loads(one.body)["data"]["file"] for one in events] == [f"drill-{drill.pk}.json"] * 2


def test_the_report_is_printed_for_people(estate: SmallEstate, rio: User, signed_in: Any, settings: Any) -> None:
    settings.ADAPTERS = {**settings.ADAPTERS, "pdf": "tests.functional.test_drills.print_words"}
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)

    answer = signed_in(estate.dee).get(f"/recovery/drills/{drill.pk}/report.pdf")

    assert answer.headers["Content-Type"] == "application/pdf"
    assert "These checks failed: sentinel." in answer.content.decode()
    assert "Nobody has signed it off yet." in answer.content.decode()


def test_the_report_of_a_canceled_drill_is_one_of_the_period_and_says_who_canceled_it(
    estate: SmallEstate, rio: User, signed_in: Any, settings: Any
) -> None:  # AUD-5, BCK-7
    settings.ADAPTERS = {**settings.ADAPTERS, "pdf": "tests.functional.test_drills.print_words"}
    drill = canceled_drill(estate.production, by=rio, target_at=TAKEN)
    client = signed_in(estate.dee)

    printed = client.get(f"/recovery/drills/{drill.pk}/report.pdf").content.decode()
    lines = b"".join(client.get("/recovery/drills/reports.ndjson").streaming_content).splitlines()

    [report] = [json.loads(line) for line in lines]
    assert (report["drill"], report["state"], report["rto"]["verdict"]) == (drill.pk, "canceled", "no_data")
    assert report["canceled"] == {"by": "rio", "at": "2026-11-23T10:13:00.000000+00:00", "reason": "The wrong level."}
    assert report["gaps"][0] == "It was canceled before it was done: it proves nothing."
    assert "by rio: The wrong level." in printed
    assert "there is nothing to sign off" in printed
    assert "Nobody has signed it off yet." not in printed


def test_the_report_says_how_it_was_gone_about_and_what_it_leaves_open(
    estate: SmallEstate, rio: User, signed_in: Any, settings: Any
) -> None:  # BCK-7
    settings.ADAPTERS = {**settings.ADAPTERS, "pdf": "tests.functional.test_drills.print_words"}
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN)
    Drill.objects.filter(pk=drill.pk).update(validated_at=NOW + timedelta(hours=9))
    client = signed_in(estate.dee)

    report = json.loads(client.get(f"/recovery/drills/{drill.pk}/report.json").content)
    page, printed = (client.get(f"/recovery/drills/{drill.pk}/{name}").content.decode() for name in ("", "report.pdf"))

    assert [one.partition(":")[0] for one in report["method"]] == ["L1, integrity", "L2, PostgreSQL"]
    assert report["gaps"] == [
        "Nothing was asked of L1, integrity.",
        "Nothing was asked of L3, filestore.",
        "Nothing was asked of L4, Odoo.",
        "Nothing was asked of L5, another cluster.",
        "The time to recover was longer than the RTO of 4 hours.",
        "No sentinel row was found: what would be lost was not measured.",
    ]
    assert all(one in text for one in report["gaps"] for text in (page, printed))
    assert "All that L1 asks, and: It is restored to the time in a sandbox and starts" in page
    assert all(one in printed for one in report["method"])


@pytest.mark.parametrize(
    ("words", "gap"),
    [
        ({"sabotage": "flip"}, "The copy was broken on purpose: it proves that damage is caught, and no way back."),
        ({"validated_at": None}, "It was never validated: the time to recover was not measured."),
        ({"newest_sentinel_at": TAKEN}, "More was lost than the RPO of 15 minutes allows."),
        (
            {"newest_sentinel_at": TAKEN, "target_at": NOW - HOUR},
            "It went further back than the RPO of 15 minutes allows: the loss was asked for.",
        ),
    ],
    ids=["sabotage", "never-validated", "too-much-lost", "further-back"],
)
def test_each_gap_is_told_where_it_is_one_and_only_there(
    estate: SmallEstate, rio: User, words: dict[str, Any], gap: str
) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN)
    sound = {"newest_sentinel_at": NOW, "target_at": NOW, "rpo_target_seconds": 900}
    Drill.objects.filter(pk=drill.pk).update(**sound)
    without = list(gaps_of(Drill.objects.get()))
    Drill.objects.filter(pk=drill.pk).update(**words)

    assert gap not in without
    assert gap in list(gaps_of(Drill.objects.get()))


def print_words(html: str) -> bytes:
    """Stand in for the printer, which needs Pango."""
    return html.encode()


def test_what_goes_on_has_no_report_yet(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    drill = going(estate, rio)

    assert signed_in(rio).get(f"/recovery/drills/{drill.pk}/report.json").status_code == 409


def test_a_stranger_finds_nothing(estate: SmallEstate, rio: User, eve: User, signed_in: Any) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    client = signed_in(eve)
    todo = CorrectiveAction.objects.get()

    listed = client.get("/recovery/drills/").text
    path = f"/recovery/drills/{drill.pk}"
    statuses = [client.get(f"{path}/{part}").status_code for part in ("", "report.pdf", "report.json")]
    statuses += [client.post(f"{path}/sign-off/").status_code]
    statuses += [client.post(f"/recovery/corrective-actions/{todo.pk}/close/", {"note": "x"}).status_code]

    assert "No drill was held yet." in listed
    assert "Northwind" not in listed
    assert statuses == [404] * 5
    assert client.post(NEW, answers(estate)).status_code == 422


def test_list_costs_the_same_with_one_drill_and_three(
    estate: SmallEstate, rio: User, owner: User, signed_in: Any
) -> None:
    backup_policy(estate.staging)
    client = signed_in(estate.dee)

    def one_more(environment: Any, at: Any) -> None:
        recorded_point(environment, f"q{at}", TAKEN, by=rio)
        finished_drill(environment, by=rio, target_at=TAKEN, at=at)

    one_more(estate.staging, NOW)
    one = statements(client, "/recovery/drills/")
    backup_policy(estate.development)
    one_more(estate.development, NOW)
    one_more(estate.staging, NOW + HOUR)
    three = statements(client, "/recovery/drills/")

    assert one == three <= 12


def test_report_costs_the_same_with_one_finding_and_three(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    client = signed_in(rio)
    one = statements(client, f"/recovery/drills/{drill.pk}/")

    for number in range(2):
        CorrectiveAction.objects.create(drill=drill, title=f"Finding {number}", owner=rio, opened_at=NOW)
    three = statements(client, f"/recovery/drills/{drill.pk}/")

    assert one == three <= 16


def taken(client: Any, **period: str) -> list[dict[str, Any]]:
    answer = client.get("/recovery/drills/reports.ndjson", period)
    assert answer.status_code == 200
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


def test_the_reports_of_a_period_are_taken_with_those_that_failed(
    estate: SmallEstate, rio: User, eve: User, signed_in: Any
) -> None:  # AUD-5
    day = timedelta(days=1)
    passed = finished_drill(estate.production, by=rio, target_at=TAKEN, at=NOW - HOUR)
    failed = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False, at=NOW)
    Drill.objects.filter(pk=passed.pk).update(declared_at=NOW - day)
    going_elsewhere(estate, rio)
    client = signed_in(estate.dee)

    everything = taken(client)
    of_today = taken(client, since="2026-11-23", until="2026-11-23")
    of_yesterday = taken(client, until="2026-11-22")
    of_eve = taken(signed_in(eve))

    assert [one["drill"] for one in everything] == [passed.pk, failed.pk]
    assert [one["state"] for one in of_today] == ["failed"]
    assert [one["drill"] for one in of_yesterday] == [passed.pk]
    assert of_eve == []
    events = [json.loads(one.body)["data"] for one in AuditEvent.objects.filter(tag="evidence:exported").order_by("id")]
    assert events[1] == {
        "file": "drill-reports.ndjson",
        "since": "2026-11-23T00:00:00+00:00",
        "until": "2026-11-24T00:00:00+00:00",
        "count": 1,
    }


def test_a_period_that_ends_before_it_begins_is_refused_and_not_recorded(estate: SmallEstate, signed_in: Any) -> None:
    answer = signed_in(estate.dee).get(
        "/recovery/drills/reports.ndjson", {"since": "2026-11-24", "until": "2026-11-22"}
    )

    assert answer.status_code == 422
    assert answer.context["period"].errors == {"until": ["It is before the period begins."]}
    assert 'value="2026-11-24"' in answer.text
    assert not AuditEvent.objects.filter(tag="evidence:exported").exists()


def going_elsewhere(estate: SmallEstate, rio: User) -> Drill:
    """Begin a drill of another environment, which has no report yet."""
    backup_policy(estate.staging)
    recorded_point(estate.staging, "s1", TAKEN, by=rio)
    return started_drill(estate.staging, by=rio, target_at=TAKEN)


def test_who_may_not_export_takes_nothing(estate: SmallEstate, rio: User, owner: User, signed_in: Any) -> None:
    client = signed_in(owner)

    assert client.get("/recovery/drills/reports.ndjson").status_code == 403
    page = client.get("/recovery/drills/").text
    assert "Reports to take along" not in page
    assert "Taking reports along: This needs one of these roles here: " in page


def test_lists_say_who_may_begin_what(estate: SmallEstate, rio: User, signed_in: Any) -> None:
    of_dee = [signed_in(estate.dee).get(path).text for path in ("/recovery/drills/", "/recovery/restores/")]
    of_rio = [signed_in(rio).get(path).text for path in ("/recovery/drills/", "/recovery/restores/")]

    for words, new, dee, owner in zip(
        ("Holding a drill: ", "Restoring: "), ("drill", "restore"), of_dee, of_rio, strict=True
    ):
        assert f"{words}This needs one of these roles here: " in dee
        assert (f"New {new}" in dee, f"New {new}" in owner, words in owner) == (False, True, False)


def test_a_period_that_is_no_period_is_said_beside_its_field(estate: SmallEstate, signed_in: Any) -> None:
    answer = signed_in(estate.dee).get("/recovery/drills/reports.ndjson", {"since": "soon", "until": "9999-12-31"})

    assert answer.status_code == 422
    assert list(answer.context["period"].errors) == ["since", "until"]


def test_the_change_that_mends_a_finding_carries_the_report_in_its_evidence(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:  # AUD-5, BCK-7
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    todo = CorrectiveAction.objects.get()
    change, other = draft_change(estate), draft_change(estate)
    path = f"/recovery/corrective-actions/{todo.pk}/link/"
    client = signed_in(rio)

    unknown = client.post(path, {"number": "CHG-999999"})
    done = client.post(path, {"number": change.number}, follow=True)

    assert unknown.status_code == 422
    assert "There is no such change of this tenant" in unknown.text
    assert f'href="/changes/{change.number}/"' in done.text
    assert signed_in(estate.ada).post(path, {"number": change.number}).status_code == 403
    [(name, data)] = contribute(change)
    assert name == f"drills/{drill.pk:06d}-L2.json"
    assert json.loads(data)["corrective_actions"][0]["change"] == change.number
    assert list(contribute(other)) == []


def test_the_report_is_a_pdf_and_the_same_report_is_the_same_bytes(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN)
    client = signed_in(estate.dee)

    first, second = (client.get(f"/recovery/drills/{drill.pk}/report.pdf").content for _ in range(2))

    assert first.startswith(b"%PDF-")
    assert first == second


def test_the_report_leads_to_the_change_and_says_where_it_stands(
    estate: SmallEstate, rio: User, signed_in: Any
) -> None:  # BCK-7
    grant(rio, Role.ENGINEER, estate.tenant)
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    change = CorrectiveAction.objects.get().change
    assert change is not None
    client, path = signed_in(rio), f"/recovery/drills/{drill.pk}/"

    drafted = client.get(path).text
    home = client.get("/").text
    cancel_change(actor=actor(rio), change_id=change.pk, at=NOW)
    canceled = client.get(path).text
    ChangeRequest.objects.filter(pk=change.pk).update(state="closed", close_code="successful")
    mended = client.get(path).text

    assert f'href="/changes/{change.number}/"' in drafted
    assert "a draft of Rio: nothing is submitted by itself" in drafted
    assert change.title in home
    assert "canceled without mending it: name another change" in canceled
    assert "closed as successful: say here what was done" in mended


def test_the_report_says_why_no_change_was_opened(estate: SmallEstate, rio: User, signed_in: Any) -> None:  # BCK-7
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)

    page = signed_in(rio).get(f"/recovery/drills/{drill.pk}/").text
    report = signed_in(estate.dee).get(f"/recovery/drills/{drill.pk}/report.json").json()

    assert "No change was opened: nobody who answers for this drill may file one in Northwind production." in page
    assert report["corrective_actions"][0]["problem"].startswith("No change was opened")
