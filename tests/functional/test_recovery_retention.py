"""What the stores hold, and what goes."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from changecontrol.models import User
from changecontrol.rules.roles import Role
from recovery.actions.holds import place_hold
from recovery.models import BackupPolicy, Disagreement, RecoveryPoint, Upkeep
from tests.factories import NOW, SmallEstate, actor, add_person, grant
from tests.factories.recovery import (
    HOUR,
    POLICY,
    backup_policy,
    copy_attachments,
    recorded_point,
    recovery_owner,
    ship_wal,
)
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
PLACE = "/recovery/environments/northwind/production/retention/"


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def points(estate: SmallEstate, rio: User) -> list[RecoveryPoint]:
    """Two points too many for a policy that keeps the last."""
    backup_policy(estate.production, keep_last=1)
    return [recorded_point(estate.production, f"p{days}", NOW - days * DAY, by=rio) for days in (3, 2, 1)]


def asked() -> list[str]:
    return list(
        RecoveryPoint.objects.filter(removal_asked_at__isnull=False).order_by("pk").values_list("key", flat=True)
    )


def text_of(answer) -> str:
    return " ".join(answer.text.replace("\N{NO-BREAK SPACE}", " ").split())


def shown(answer) -> dict[str, str]:
    return {name: answer.context[name] for name in ("seen_goes", "seen_lost")}


def test_what_would_go_and_why_the_rest_stays_is_said_before_anything_is_done(rio, points, signed_in) -> None:
    answer = signed_in(rio).get(PLACE)

    assert [one.key for one in answer.context["goes"]] == ["p2", "p3"]
    assert [(row["point"].key, row["reasons"]) for row in answer.context["stays"]] == [("p1", ("It is the last one.",))]
    text = text_of(answer)
    assert "The policy would let 2 points go, which frees 2 kB." in text
    assert "Remove 2 points" in text
    assert asked() == []


def test_removal_is_asked_for_what_was_shown(rio, points, signed_in) -> None:
    client = signed_in(rio)

    answer = client.post(PLACE, shown(client.get(PLACE)), follow=True)

    assert asked() == ["p3", "p2"]
    text = text_of(answer)
    assert "The removal of 2 points is asked for, dependants first." in text
    assert "All of it is asked for" in text
    assert "Remove 2 points" not in text


def test_another_set_meanwhile_is_a_conflict_with_the_fresh_list(estate, rio, points, signed_in) -> None:
    client = signed_in(rio)
    late = shown(client.get(PLACE))
    words = {"name": "Till fraud", "reason": "The court asked for it."}
    place_hold(actor=actor(rio), environment_id=estate.production.pk, point_id=points[0].pk, at=NOW, **words)

    answer = client.post(PLACE, late)

    assert answer.status_code == 409
    assert "Something changed meanwhile: now 1 point would go. Look again." in answer.text
    assert [one.key for one in answer.context["goes"]] == ["p2"]
    assert "Legal hold “Till fraud” names it." in answer.text
    assert asked() == []


def test_times_that_could_be_restored_no_more_are_said_before_and_asked_for(estate, rio, points, signed_in) -> None:
    """p2 and p3 go, and what is verified keeps its own moment alone: WAL leads on from the last point."""
    recorded_point(estate.production, "proved", NOW - 4 * DAY, by=rio)
    RecoveryPoint.objects.filter(key="proved").update(state="verified", level=2, checked_at=NOW)
    ship_wal(estate.production, NOW - 5 * DAY, NOW)
    copy_attachments(estate.production, NOW)
    client = signed_in(rio)

    page = client.get(PLACE)
    unseen = client.post(PLACE, {"seen_goes": page.context["seen_goes"], "seen_lost": "[]"})
    other = client.post(PLACE, {"seen_goes": page.context["seen_goes"], "seen_lost": '[["x", 1]]'})
    not_asked = asked()
    client.post(PLACE, shown(page))

    text = "19 Nov 2026 10:12:00 UTC to 22 Nov 2026 10:12:00 UTC"
    assert page.context["lost"] == [text]
    assert text in text_of(page)
    assert "can no longer be restored" in text_of(page)
    assert [one.status_code for one in (unseen, other)] == [409, 409]
    assert f"With them other times would be lost than were seen: {text}. Look again." in text_of(unseen)
    assert (not_asked, asked()) == ([], ["p3", "p2"])


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (0, "Exactly these points and times. Their bytes cannot be brought back. What is known of them stays."),
        (
            1,
            "Exactly these points and times. Their bytes stay as old versions for 1 day, as the bucket is set. What is",
        ),
    ],
)
def test_what_is_left_of_the_bytes_is_said_before_they_go(rio, points, signed_in, days, words) -> None:
    BackupPolicy.objects.update(version_days=days)

    assert words in text_of(signed_in(rio).get(PLACE))


@pytest.mark.parametrize(
    "sent",
    ["", "p2", "{}", "[1]", '["p2"]', "[" * 100_000],
    ids=["none", "no list", "a map", "a number", "one", "without end"],
)
def test_what_was_not_shown_is_never_removed(rio, points, signed_in, sent) -> None:
    client = signed_in(rio)
    seen = client.get(PLACE).context

    answers = [
        client.post(PLACE, {"seen_goes": sent, "seen_lost": seen["seen_lost"]}),
        client.post(PLACE, {"seen_goes": sent, "seen_lost": sent}),
    ]

    assert [one.status_code for one in answers] == [409, 409]
    assert asked() == []


def test_more_points_than_a_form_has_fields_can_go(estate, rio, points, signed_in, settings) -> None:
    words = {"environment": estate.production, "policy": points[0].policy, "kind": "base", "size": 1}
    at = NOW - 9 * DAY
    RecoveryPoint.objects.bulk_create(
        RecoveryPoint(**words, key=f"old {number}", started_at=at, consistent_at=at, finished_at=at)
        for number in range(settings.DATA_UPLOAD_MAX_NUMBER_FIELDS or 1000)
    )
    client = signed_in(rio)

    answer = client.post(PLACE, shown(client.get(PLACE)))

    assert answer.status_code == 302
    assert len(asked()) == 1002


def test_who_may_not_remove_reads_why(estate, points, signed_in) -> None:
    reader = add_person("reader")
    grant(reader, Role.ENGINEER, estate.tenant)
    client = signed_in(reader)

    page = client.get(PLACE)

    assert "This needs one of these roles here: recovery owner, platform administrator." in page.text
    assert "Remove 2 points" not in page.text
    assert client.post(PLACE, shown(page)).status_code == 403
    assert asked() == []


def test_without_a_policy_nothing_goes(rio, signed_in) -> None:
    text = text_of(signed_in(rio).get(PLACE))

    assert "There is no backup policy, so nothing is ever removed." in text


def differ(estate: SmallEstate, number: int = 1, **words) -> Disagreement:
    values = {"store": "s3://points", "kind": "unknown_set", "name": f"lost-{number}", "sentence": "A whole point."}
    return Disagreement.objects.create(environment=estate.production, found_at=NOW, **{**values, **words})


def test_what_catalogue_and_store_disagree_on_is_shown_with_when_they_were_compared(estate, rio, signed_in) -> None:
    backup_policy(estate.production)
    never = text_of(signed_in(rio).get(PLACE))
    row = Upkeep.objects.create(environment=estate.production, kind="comparison", done_at=NOW)
    agreed = text_of(signed_in(rio).get(PLACE))
    differ(estate, store=POLICY.store, stored_at=NOW - DAY, object_count=12, size=3000)
    differ(estate, kind="orphan", name="killed", sentence="It ended.", goes_at=NOW + DAY, object_count=1)
    differ(estate, kind="missing", name="p1", sentence="facts.json is missing.")
    Upkeep.objects.filter(pk=row.pk).update(trouble="The object store could not list now.", trouble_since=NOW)

    answer = signed_in(rio).get(PLACE)

    assert "were not compared with the catalogue yet" in never
    assert "Nothing: every object is there as it was recorded, and no other." in agreed
    assert [one["row"].name for one in answer.context["differences"]] == ["p1", "killed", "lost-1"]
    text = text_of(answer)
    assert 'last compared <time datetime="2026-11-23T10:12:00' in text
    assert "The stores cannot be compared now.</strong><p>The object store could not list now.</p>" in text
    assert "until somebody takes it in or lets it go" in text
    assert text.count("Take it in…") == 1
    assert text.count("Let it go…") == 1


def test_a_whole_point_nobody_recorded_is_let_go_with_a_reason(estate, rio, signed_in) -> None:
    row = differ(estate)
    url = f"/recovery/differences/{row.pk}/let-go/"
    client = signed_in(rio)

    refused = client.post(url, {"reason": " "})
    done = client.post(url, {"reason": "It is of a test."}, follow=True)
    again = client.post(url, {"reason": "It is of a test."})

    assert (refused.status_code, again.status_code) == (422, 409)
    assert "Say why it may go: its bytes cannot be brought back." in text_of(refused)
    assert "lost-1 is to go: it is removed within minutes." in text_of(done)
    assert "Let it go…" not in done.text
    assert "Somebody has let it go already." in text_of(again)


def test_a_whole_point_nobody_recorded_is_taken_in_with_a_reason_and_a_refusal_is_read_there(
    estate, rio, signed_in
) -> None:
    backup_policy(estate.production)
    row = differ(estate, store=POLICY.store)
    url = f"/recovery/differences/{row.pk}/take-in/"
    client = signed_in(rio)

    wordless = client.post(url, {"reason": " "})
    done = client.post(url, {"reason": "Our database was lost."}, follow=True)
    again = client.post(url, {"reason": "Our database was lost."})
    Disagreement.objects.update(adoption_asked_at=None, adoption_asked_by=None, refusal="It is of the server 7012.")
    refused = client.get(PLACE)

    assert (wordless.status_code, again.status_code) == (422, 409)
    assert "Say why it belongs to the catalogue." in text_of(wordless)
    assert "lost-1 is being read: it is taken in once every object of it is as it was written." in text_of(done)
    assert f"is being read, to be taken in<small>{rio}, " in text_of(done)
    assert ("Take it in…" in done.text, "Let it go…" in done.text) == (False, False)
    assert "Somebody has asked for it already: it is being read." in text_of(again)
    assert "Not taken in: It is of the server 7012." in text_of(refused)
    assert ("Take it in…" in refused.text, "Let it go…" in refused.text) == (True, True)


def test_what_would_be_refused_is_not_offered_and_says_why(estate, rio, signed_in) -> None:
    backup_policy(estate.production, copy_store="s3://elsewhere")
    copied, left = differ(estate, store="s3://elsewhere"), differ(estate, 2, store="s3://left")
    client = signed_in(rio)

    page = client.get(PLACE)
    refused = [client.post(f"/recovery/differences/{one.pk}/take-in/", {"reason": "Ours."}) for one in (copied, left)]

    assert page.text.count("Let it go…") == 2
    assert "Take it in…" not in page.text
    sentences = (
        "It lies among copies. A point is taken in from the store of a policy: publish one that names this as its.",
        "No backup policy under which anything is kept names its store: publish one that does.",
    )
    for answer, sentence in zip(refused, sentences, strict=True):
        assert f"until somebody lets it go<small>Not taken in from here: {sentence}</small>" in text_of(page)
        assert (answer.status_code, sentence in text_of(answer)) == (409, True)


def test_who_may_not_edit_takes_nothing_unknown_in(estate, eve, signed_in) -> None:
    row = differ(estate)
    reader = add_person("reader")
    grant(reader, Role.ENGINEER, estate.tenant)
    url = f"/recovery/differences/{row.pk}/take-in/"

    assert "Take it in…" not in signed_in(reader).get(PLACE).text
    assert signed_in(reader).post(url, {"reason": "-"}).status_code == 403
    assert signed_in(eve).post(url, {"reason": "-"}).status_code == 404
    row.refresh_from_db()
    assert row.adoption_asked_at is None


def test_who_may_not_remove_lets_nothing_unknown_go(estate, eve, signed_in) -> None:
    row = differ(estate)
    reader = add_person("reader")
    grant(reader, Role.ENGINEER, estate.tenant)
    url = f"/recovery/differences/{row.pk}/let-go/"

    assert "Let it go…" not in signed_in(reader).get(PLACE).text
    assert signed_in(reader).post(url, {"reason": "-"}).status_code == 403
    assert signed_in(eve).post(url, {"reason": "-"}).status_code == 404
    row.refresh_from_db()
    assert row.asked_at is None


def test_differences_cost_the_same_with_one_and_three(estate, rio, signed_in) -> None:
    client = signed_in(rio)
    differ(estate)
    one = statements(client, PLACE)

    for number in (2, 3):
        differ(estate, number, asked_by=rio, asked_at=NOW)

    assert statements(client, PLACE) == one <= 20


def test_strangers_find_no_retention(points, eve, signed_in) -> None:
    client = signed_in(eve)

    assert [client.get(PLACE).status_code, client.post(PLACE, {"seen_goes": "[]"}).status_code] == [404, 404]
    assert "Northwind" not in client.get("/recovery/usage/").text


def test_usage_adds_up_what_each_environment_has(estate, rio, points, signed_in) -> None:
    ship_wal(estate.production, NOW - HOUR, NOW)

    answer = signed_in(rio).get("/recovery/usage/")

    first = answer.context["rows"][0]
    assert (first["environment"], first["goes"]) == (estate.production, 2)
    assert (first["usage"].point_count, first["usage"].point_size, first["usage"].wal_size) == (3, 3000, 5400)
    assert "8.4 kB in 3 environments; the policies would let 2 points go." in text_of(answer)


def test_usage_costs_the_same_with_one_environment_and_three(estate, rio, points, signed_in) -> None:
    client = signed_in(rio)
    one = statements(client, "/recovery/usage/")

    for place in (estate.staging, estate.development):
        backup_policy(place, keep_last=1)
        for days in (2, 1):
            recorded_point(place, f"p{days}", NOW - days * DAY, by=rio)
    three = statements(client, "/recovery/usage/")

    assert one == three <= 20


def test_retention_costs_the_same_with_one_point_that_goes_and_three(estate, rio, points, signed_in) -> None:
    client = signed_in(rio)
    two = statements(client, PLACE)

    for days in (5, 4):
        recorded_point(estate.production, f"p{days}", NOW - days * DAY, by=rio)

    assert statements(client, PLACE) == two <= 24
    assert json.loads(client.get(PLACE).context["seen_goes"]) == ["p2", "p3", "p4", "p5"]
