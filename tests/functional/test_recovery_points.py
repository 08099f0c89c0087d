"""An environment's recovery, its points, and legal holds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from changecontrol.access import system_actor
from changecontrol.models import AuditEvent, User
from changecontrol.rules.roles import Role
from changecontrol.templatetags.times import short_moment
from recovery.actions.holds import place_hold
from recovery.actions.points import record_copy, record_found, record_verification
from recovery.models import BackupPolicy, Drill, LegalHold, RecoveryPoint, Upkeep
from recovery.ports.postgres import format_lsn
from recovery.queries.catalogue import POINTS_PAGE
from tests.factories import NOW, SmallEstate, actor, add_person, grant
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    copy_attachments,
    finished_drill,
    new_point,
    recorded_point,
    recovery_owner,
    registered_point,
    ship_wal,
    started_drill,
)
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
PLACE = "/recovery/environments/northwind/production/"
CASE = {"name": "Till fraud", "reason": "The court asked for it."}


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def point(estate: SmallEstate, rio: User) -> RecoveryPoint:
    backup_policy(estate.production)
    return recorded_point(estate.production, "p1", NOW - HOUR, by=rio)


def text_of(answer) -> str:
    return " ".join(answer.text.replace("\N{NO-BREAK SPACE}", " ").split())


def url_of(point: RecoveryPoint) -> str:
    return f"/recovery/points/{point.pk}/"


def place_case(estate: SmallEstate, rio: User, point: RecoveryPoint | None = None) -> LegalHold:
    key = point.pk if point else None
    return place_hold(actor=actor(rio), environment_id=estate.production.pk, point_id=key, at=NOW, **CASE)


def test_environment_lists_its_points_newest_first(estate, rio, point, signed_in) -> None:
    newest = recorded_point(estate.production, "p2", NOW - HOUR / 2, by=rio)
    ship_wal(estate.production, NOW - 2 * HOUR, NOW)
    copy_attachments(estate.production, NOW)
    recorded_point(backup_policy(estate.staging).environment, "of staging", NOW - HOUR, by=rio)

    answer = signed_in(rio).get(PLACE)

    assert answer.context["points"] == [newest, point]
    text = text_of(answer)
    assert "It can be brought back to Mon 23 Nov 10:12 UTC at the latest. Warehouse allows 1 h to be lost." in text
    assert "of staging" not in text


def test_environment_without_a_policy_says_so(estate, rio, signed_in) -> None:
    text = text_of(signed_in(rio).get(PLACE))

    assert "It has no backup policy: nothing is backed up." in text
    assert "No recovery point, and no policy that would take one." in text


def test_points_are_paged_by_time(estate, rio, point, signed_in) -> None:
    words = {"environment": estate.production, "policy": point.policy, "kind": "base", "size": 1}
    RecoveryPoint.objects.bulk_create(
        RecoveryPoint(**words, key=f"late {number}", started_at=at, consistent_at=at, finished_at=at)
        for number in range(POINTS_PAGE)
        # Registered after the newest, and older than it; two at each time.
        for at in [NOW - DAY - number // 2 * HOUR]
    )
    client = signed_in(rio)

    first = client.get(PLACE)
    second = client.get(first.context["older_url"])
    again = client.get(second.context["newer_url"])

    assert first.context["points"][0] == point
    assert (len(first.context["points"]), len(second.context["points"])) == (POINTS_PAGE, 1)
    assert second.context["older_url"] == ""
    assert again.context["points"] == first.context["points"]
    assert again.context["newer_url"] == ""


def test_environment_costs_the_same_with_one_point_and_three(estate, rio, point, signed_in) -> None:
    client = signed_in(rio)
    place_case(estate, rio, point)
    one = statements(client, PLACE)

    for key in ("p2", "p3"):
        place_case(estate, rio, recorded_point(estate.production, key, NOW - HOUR, by=rio))
    three = statements(client, PLACE)

    assert one == three <= 30


def test_environment_tells_how_far_the_other_destination_is_behind(estate, rio, point, signed_in) -> None:
    client = signed_in(rio)

    def told() -> tuple[str, str]:
        facts = {one["label"]: (one["value"], one["note"]) for one in client.get(PLACE).context["facts"]}
        return facts.get("Other destination", ("", ""))

    nothing = told()
    row = Upkeep.objects.create(environment=estate.production, kind="copies", reached_at=NOW - HOUR)
    behind = told()
    Upkeep.objects.filter(pk=row.pk).update(trouble="The object store could not list now.")
    hindered = told()
    BackupPolicy.objects.update(copy_store="")

    assert nothing == ("nothing yet", "no point is whole there")
    assert behind[0].endswith(" behind")
    until = f"covers up to {short_moment(NOW - HOUR)}"
    assert (behind[1], hindered[1]) == (until, f"{until}. The object store could not list now.")
    assert told() == ("", "")


def test_point_shows_what_it_is_made_of_and_where(estate, rio, point, signed_in) -> None:
    record_copy(point, store="s3://copies/northwind", actor=system_actor(), at=NOW)

    text = text_of(signed_in(rio).get(url_of(point)))

    for words in (
        "A full base backup of Northwind production, consistent at Mon 23 Nov 2026, 09:12 UTC.",
        "Copied, no more: it was never restored, started and questioned.",
        "p1/base.tar.zst.age",
        f"WAL to {format_lsn(point.stop_lsn)}, timeline 1",
        "s3://points/northwind",
        "s3://copies/northwind",
        "PostgreSQL 17.2",
        "19.0.1.0",
        "It is among the last 7.",
    ):
        assert words in text, words


def test_point_names_the_backup_that_an_operator_keeps(estate, rio, signed_in) -> None:
    backup_policy(estate.production, engine="cloudnativepg", source="", restore_credential="")
    facts = {"name": "northwind-production/shop", "backup": "shop-20261123", "object_store": "shop-backups"}
    point = recorded_point(estate.production, "op1", NOW - HOUR, by=rio, cluster_facts=facts)

    told = text_of(signed_in(rio).get(url_of(point)))

    assert "Kept by CloudNativePG" in told
    assert "shop-20261123" in told
    assert "of cluster northwind-production/shop, in ObjectStore shop-backups" in told


def test_point_tells_who_had_it_made_where_no_backup_run_did(estate, rio, signed_in) -> None:
    policy = backup_policy(estate.production)
    found = record_found(estate.production, policy, point=new_point("p9", NOW - HOUR), actor=system_actor(), at=NOW)
    theirs = registered_point(estate.production, "p10", NOW - HOUR, by=rio)
    client = signed_in(rio)

    adopted, registered = (text_of(client.get(f"/recovery/points/{one.pk}/")) for one in (found, theirs))

    assert "taken in from the store" in adopted
    assert "registered by another tool" in registered


def test_point_tells_every_check_and_the_level_that_is_left(estate, rio, point, signed_in) -> None:  # BCK-5
    for level, is_passed, sentence in ((3, True, "All is there."), (2, False, "The newest order is missing.")):
        record_verification(point, level=level, is_passed=is_passed, sentence=sentence, actor=system_actor(), at=NOW)

    answer = signed_in(rio).get(url_of(point))

    assert [(one.level, one.is_passed) for one in answer.context["verifications"]] == [(2, False), (3, True)]
    assert answer.context["facts"][0] == {
        "label": "Level reached",
        "value": "L1",
        "note": "L2 is needed to count as verified",
        "state": "alarm",
    }


def test_point_names_what_it_needs_and_what_needs_it(estate, rio, point, signed_in) -> None:
    second = recorded_point(estate.production, "p2", NOW - HOUR / 2, by=rio, kind="incremental", parent_id=point.pk)
    third = recorded_point(estate.production, "p3", NOW - HOUR / 3, by=rio, kind="incremental", parent_id=second.pk)
    client = signed_in(rio)

    of_first, of_second, of_third = (client.get(url_of(one)).context for one in (point, second, third))

    assert (of_first["needs"], of_first["needed_by"]) == ((), (second, third))
    assert (of_second["needs"], of_second["needed_by"]) == ((point,), (third,))
    assert (of_third["needs"], of_third["needed_by"]) == ((second, point), ())


def test_point_that_broke_is_drilled_again_and_counts_once_it_passes(estate, rio, point, signed_in) -> None:  # BCK-5
    finished_drill(estate.production, by=rio, target_at=point.consistent_at, is_passed=False)
    page = signed_in(rio).get(url_of(point))
    assert "a drill that passes makes it count again" in text_of(page)

    answer = signed_in(rio).post(f"{url_of(point)}drill/", {"level": "2"})

    drill = Drill.objects.latest("pk")
    assert answer["Location"] == f"/recovery/drills/{drill.pk}/"
    assert (drill.point, drill.level, drill.target_at, drill.asked_by) == (point, 2, point.consistent_at, rio)
    record_verification(point, level=2, is_passed=True, sentence="Whole.", actor=system_actor(), at=NOW)
    assert (point.state, point.level) == ("verified", 2)


def test_point_is_not_drilled_while_another_drill_is_under_way_or_its_bytes_are_gone(
    estate, rio, point, signed_in
) -> None:
    bad = signed_in(rio).post(f"{url_of(point)}drill/", {"level": "x"})
    started_drill(estate.production, by=rio, target_at=point.consistent_at)
    busy = signed_in(rio).post(f"{url_of(point)}drill/", {"level": "1"})
    RecoveryPoint.objects.update(removing_at=NOW)
    gone = signed_in(rio).post(f"{url_of(point)}drill/", {"level": "1"})

    assert (bad.status_code, busy.status_code, gone.status_code) == (422, 409, 409)
    assert "A drill has a level from 1 to 5." in text_of(bad)
    assert "A drill of this environment is under way already." in text_of(busy)
    assert "The bytes of this point are gone: there is nothing left to check." in text_of(gone)
    assert "Drill of this point" not in text_of(gone)
    assert Drill.objects.count() == 1


def test_hold_is_placed_on_a_point_and_lifted_with_a_reason(estate, rio, point, signed_in) -> None:
    client = signed_in(rio)

    placed = client.post(f"{url_of(point)}hold/", CASE, follow=True)
    hold = LegalHold.objects.get()
    lifted = client.post(f"/recovery/holds/{hold.pk}/lift/", {"reason": "The case is closed."}, follow=True)

    assert "“Till fraud” keeps p1 until it is lifted." in text_of(placed)
    assert "Legal hold “Till fraud” names it." in text_of(placed)
    assert "“Till fraud” is lifted." in text_of(lifted)
    assert (lifted.context["holds"], lifted.context["lifted"]) == ([], [hold])
    tags = AuditEvent.objects.filter(tag__contains="hold").order_by("pk").values_list("tag", flat=True)
    assert list(tags) == ["recovery:hold:placed", "recovery:hold:lifted"]


def test_hold_on_everything_stands_on_the_page_of_every_point(estate, rio, point, signed_in) -> None:
    client = signed_in(rio)

    placed = client.post(f"{PLACE}hold/", CASE, follow=True)
    on_point = client.get(url_of(point))

    assert "keeps every point of Northwind production until it is lifted." in text_of(placed)
    assert [row["where"] for row in on_point.context["holds"]] == ["on everything of the environment"]


@pytest.mark.parametrize("sent", [{}, {"name": " ", "reason": "Because."}, {"name": "Case", "reason": "\u200b"}])
def test_hold_without_a_case_or_a_reason_is_refused_in_its_form(rio, point, signed_in, sent) -> None:
    for path in (f"{url_of(point)}hold/", f"{PLACE}hold/"):
        answer = signed_in(rio).post(path, sent)

        assert answer.status_code == 422
        assert answer.context["form"].errors
        assert "<title>Error: " in answer.text
    assert not LegalHold.objects.exists()


def test_lifting_without_a_reason_or_twice_is_refused_on_the_page(estate, rio, point, signed_in) -> None:
    client = signed_in(rio)
    of_point, of_all = place_case(estate, rio, point), place_case(estate, rio)

    silent = [client.post(f"/recovery/holds/{one.pk}/lift/", {"reason": " "}) for one in (of_point, of_all)]
    client.post(f"/recovery/holds/{of_point.pk}/lift/", {"reason": "Closed."})
    twice = client.post(f"/recovery/holds/{of_point.pk}/lift/", {"reason": "Closed."})

    assert [one.status_code for one in silent] == [422, 422]
    assert all("Say why the hold ends." in one.text for one in silent)
    assert twice.status_code == 409
    assert "This legal hold is lifted already." in twice.text


def test_who_may_not_hold_reads_why_and_is_refused(estate, rio, point, signed_in) -> None:
    reader = add_person("reader")
    grant(reader, Role.ENGINEER, estate.tenant)
    hold = place_case(estate, rio, point)
    client = signed_in(reader)

    page = client.get(url_of(point))
    asked = [client.post(f"{url_of(point)}hold/", CASE), client.post(f"/recovery/holds/{hold.pk}/lift/", CASE)]

    assert "This needs one of these roles here: recovery owner, security approver." in page.text
    assert "Place a legal hold" not in page.text
    assert [one.status_code for one in asked] == [403, 403]
    assert LegalHold.objects.filter(lifted_at__isnull=True).count() == 1


def test_strangers_find_neither_place_nor_point_nor_hold(estate, rio, point, eve, signed_in) -> None:
    hold = place_case(estate, rio, point)
    client = signed_in(eve)

    answers = [
        client.get(PLACE),
        client.post(f"{PLACE}hold/", CASE),
        client.get(url_of(point)),
        client.post(f"{url_of(point)}hold/", CASE),
        client.post(f"{url_of(point)}drill/", {"level": "1"}),
        client.post(f"/recovery/holds/{hold.pk}/lift/", CASE),
    ]

    assert [one.status_code for one in answers] == [404] * 6
    assert LegalHold.objects.count() == 1


def test_point_costs_the_same_with_one_part_checked_and_three(estate, rio, point, signed_in) -> None:
    client = signed_in(rio)
    record_verification(point, level=1, is_passed=True, sentence="-", actor=system_actor(), at=NOW)
    one = statements(client, url_of(point))

    for level in (2, 3):
        record_verification(point, level=level, is_passed=True, sentence="-", actor=system_actor(), at=NOW)
        recorded_point(estate.production, f"more {level}", NOW, by=rio, kind="incremental", parent_id=point.pk)
    three = statements(client, url_of(point))

    assert one == three <= 25
