"""What is said of one environment's recovery."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from changecontrol import clock
from changecontrol.access import system_actor
from recovery.actions.alarms import ensure_watch, note_database
from recovery.actions.points import record_verification
from recovery.models import BackupPolicy, Disagreement, Restore
from tests.changecontrol.api.conftest import sentence
from tests.factories.recovery import finished_drill
from tests.recovery.api.conftest import AT, DAY, Scene

HOUR = timedelta(hours=1)


def told(at: Any) -> str:
    return str(at.isoformat()).replace("+00:00", "Z")


def test_an_environment_is_told_as_it_stands(scene: Scene, rio: APIClient) -> None:
    found = rio.get(f"{AT}/environments/{scene.place_id}/").json()

    assert DAY.total_seconds() <= found.pop("rpo_now_seconds") < DAY.total_seconds() + 600
    assert [one["kind"] for one in found.pop("alarms")][-1] == "drill_overdue"
    assert found == {
        "id": scene.place_id,
        "tenant": "northwind",
        "environment": "production",
        "policy": scene.policy.pk,
        "policy_version": 1,
        "engine": "postgres",
        "objectives": {
            "rto_seconds": 14_400.0,
            "rto_of": "Warehouse",
            "rpo_seconds": 3_600.0,
            "rpo_of": "Warehouse",
        },
        "last_success_at": told(scene.newer.finished_at),
        "last_safe_at": told(scene.newer.consistent_at),
        "is_rpo_met": False,
        "freshness": rio.get(scene.environment("freshness")).json(),
        "last_drill_at": None,
        "drill_due_at": told(scene.policy.created_at + 90 * DAY),
        "is_drill_overdue": True,
        "faults": [],
    }
    assert rio.get(f"{AT}/environments/?environment=production").json()["results"][0]["freshness"] == found["freshness"]


def test_an_environment_without_a_policy_stands_nowhere(scene: Scene, rio: APIClient) -> None:
    found = rio.get(f"{AT}/environments/{scene.estate.staging.pk}/").json()

    nothing = (
        "policy",
        "policy_version",
        "engine",
        "last_success_at",
        "last_safe_at",
        "rpo_now_seconds",
        "drill_due_at",
    )
    assert {name: found[name] for name in nothing} == dict.fromkeys(nothing)
    assert (found["is_rpo_met"], found["is_drill_overdue"], found["alarms"]) == (False, False, [])


def test_what_checks_found_is_told_with_the_newest_success_that_is_not_broken(scene: Scene, rio: APIClient) -> None:
    at = clock.now() - HOUR
    drill = finished_drill(
        scene.estate.production, by=scene.rio, target_at=scene.newer.consistent_at, is_passed=False, at=at
    )

    found = rio.get(f"{AT}/environments/{scene.place_id}/").json()

    assert [(one["kind"], one["is_bad"], one["number"]) for one in found["faults"]] == [
        ("point_broken", True, scene.newer.pk),
        ("drill_failed", True, drill.pk),
    ]
    assert found["faults"][0]["sentence"].endswith(
        "is broken: The newest sentinel. No other one is verified. Back up now, and drill the new point."
    )
    assert found["last_success_at"] == told(scene.older.finished_at)


def test_a_database_that_is_gone_is_among_what_is_wrong(scene: Scene, rio: APIClient) -> None:  # BCK-1
    at = clock.now() - HOUR
    ensure_watch(scene.estate.production, at=at)
    note_database(scene.estate.production, trouble="shop: it does not exist.", at=at)

    found = rio.get(f"{AT}/environments/{scene.place_id}/").json()["alarms"][0]
    listed = rio.get(f"{AT}/alarms/?kind=database_failing").json()["results"]

    assert (found["kind"], found["since"]) == ("database_failing", told(at))
    assert "shop: it does not exist." in found["sentence"]
    assert [one["environment"] for one in listed] == ["production"]


def test_overdue_drills_are_found_and_no_longer_once_one_has_passed(scene: Scene, rio: APIClient) -> None:
    def names(query: str) -> list[str]:
        return [one["environment"] for one in rio.get(f"{AT}/environments/?{query}").json()["results"]]

    before = names("is_drill_overdue=true")
    finished_drill(scene.estate.production, by=scene.rio, target_at=scene.newer.consistent_at, at=clock.now() - HOUR)

    assert (before, names("is_drill_overdue=true")) == (["production"], [])
    assert names("is_drill_overdue=false") == ["production", "staging", "development"]
    assert names("has_policy=true") == ["production"]
    assert names("has_policy=false") == ["staging", "development"]


def test_freshness_is_of_the_newest_verified_point(scene: Scene, rio: APIClient) -> None:
    # RBK-2
    before = rio.get(scene.environment("freshness")).json()
    record_verification(
        scene.older, level=3, is_passed=True, sentence="Whole.", actor=system_actor(), at=scene.newer.finished_at
    )
    after = rio.get(scene.environment("freshness")).json()

    assert before == {
        "is_verified": False,
        "sentence": "No recovery point is verified. 2 are only copied.",
        "point": "",
        "level": 0,
        "consistent_at": None,
        "age_seconds": None,
        "checked_at": None,
    }
    assert (after["is_verified"], after["point"], after["level"]) == (True, "older", 3)
    assert 2 * DAY.total_seconds() <= after["age_seconds"] < 2 * DAY.total_seconds() + 600
    [check] = rio.get(f"{AT}/points/{scene.older.pk}/").json()["verifications"]
    assert (check["level"], check["is_passed"], check["sentence"], check["drill"]) == (3, True, "Whole.", None)


def test_coverage_has_spans_gaps_and_how_far_each_point_reaches(scene: Scene, rio: APIClient) -> None:
    # BCK-3
    older, newer = scene.older.consistent_at, scene.newer.consistent_at
    reach = {"start_at": told(older), "end_at": told(older + HOUR)}
    alone = {"start_at": told(newer), "end_at": told(newer)}

    answer = rio.get(scene.environment("coverage"))

    assert answer.json() == {
        "spans": [reach, alone],
        "gaps": [{"start_at": told(older + HOUR), "end_at": told(newer)}],
        "reaches": [{**reach, "point": "older"}, {**alone, "point": "newer"}],
        "asked": None,
    }


def test_a_time_is_asked_for_before_a_restore_is(scene: Scene, rio: APIClient) -> None:
    inside, outside = scene.older.consistent_at + HOUR / 2, scene.older.consistent_at + 2 * HOUR
    Restore.objects.create(
        environment=scene.estate.production, point=scene.older, purpose="copy", target_at=inside, target_database="x",
        state="succeeded", reason="-", asked_by=scene.rio, size=1_000, declared_at=inside, decided_at=inside,
        provisioned_at=inside, restored_at=inside + timedelta(seconds=50),
    )  # fmt: skip

    covered, gap = (
        rio.get(scene.environment("coverage"), {"at": one.isoformat()}).json()["asked"] for one in (inside, outside)
    )

    assert 2 * DAY.total_seconds() - 1_800 <= covered.pop("lost_seconds") < 2 * DAY.total_seconds()
    assert covered == {
        "at": told(inside),
        "is_covered": True,
        "sentence": "",
        "last_safe_at": told(inside),
        "point": "older",
        "expected_seconds": 50.0,
        "expected_error_seconds": None,
    }
    assert (gap["is_covered"], gap["point"], gap["expected_seconds"]) == (False, None, None)
    assert gap["last_safe_at"] == told(scene.older.consistent_at + HOUR)
    assert "is in a gap" in gap["sentence"]


@pytest.mark.parametrize("query", ["at=yesterday", "at=", "near=2026-11-23T10:00:00Z"])
def test_a_time_that_is_none_is_refused_by_name(scene: Scene, rio: APIClient, query: str) -> None:
    answer = rio.get(f"{scene.environment('coverage')}?{query}")

    if query == "at=":
        assert answer.json()["asked"] is None
    else:
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [query.partition("=")[0]])


def test_alarms_say_what_is_wrong_and_since_when(scene: Scene, rio: APIClient) -> None:
    # BCK-1
    [found] = rio.get(f"{AT}/alarms/").json()["results"]

    assert (found["id"], found["tenant"], found["environment"]) == (scene.place_id, "northwind", "production")
    since = {one["kind"]: one["since"] for one in found["alarms"]}
    assert since["drill_overdue"] == told(scene.policy.created_at + 90 * DAY)
    assert rio.get(f"{AT}/alarms/?kind=drill_overdue&environment=production").json()["results"] == [found]
    assert rio.get(f"{AT}/alarms/?kind=size_anomaly").json()["results"] == []
    alarmed = {word: rio.get(f"{AT}/environments/?has_alarm={word}").json()["results"] for word in ("true", "false")}
    assert {word: [one["environment"] for one in rows] for word, rows in alarmed.items()} == {
        "true": ["production"],
        "false": ["staging", "development"],
    }


def test_what_lies_in_the_stores_is_counted(scene: Scene, rio: APIClient) -> None:
    assert rio.get(scene.environment("usage")).json() == {
        "point_count": 2,
        "point_size": 2_000,
        "attachment_count": 0,
        "attachment_size": 0,
        "wal_size": 4_800,
        "copy_count": 0,
        "size": 6_800,
        "oldest_at": told(scene.older.consistent_at),
    }


def test_what_would_go_without_a_policy_is_nothing_to_be_read(scene: Scene, rio: APIClient) -> None:
    answer = rio.get(f"{AT}/environments/{scene.estate.staging.pk}/retention/")

    assert answer.status_code == 404
    assert sentence(answer) == "This environment has no backup policy yet: write one first."


def test_a_point_that_the_catalogue_does_not_name_is_asked_to_be_taken_in(scene: Scene, rio: APIClient) -> None:
    url = f"{scene.environment('comparison')}take-in/"
    store = BackupPolicy.objects.active().get(environment=scene.estate.production).store
    words: dict[str, Any] = {"environment": scene.estate.production, "store": store, "found_at": clock.now()}
    lost = Disagreement.objects.create(**words, kind="unknown_set", name="lost", refusal="It is damaged.")
    orphan = Disagreement.objects.create(**words, kind="orphan", name="killed", goes_at=clock.now() + DAY)

    refused = rio.post(url, {"difference": orphan.pk, "reason": "A test."})
    wordless = rio.post(url, {"difference": lost.pk})
    answer = rio.post(url, {"difference": lost.pk, "reason": "Our database was lost."})

    assert (refused.status_code, wordless.status_code, answer.status_code) == (409, 422, 200)
    assert sentence(refused) == "Only a whole point that the catalogue does not name is taken in."
    told = next(one for one in answer.json()["differences"] if one["name"] == "lost")
    assert (told["adoption_asked_by"], told["adoption_asked_at"] is not None, told["refusal"]) == ("rio", True, "")


def test_what_catalogue_and_stores_disagree_on_is_told_and_let_go(scene: Scene, rio: APIClient) -> None:
    url = scene.environment("comparison")
    before = rio.get(url).json()
    words: dict[str, Any] = {"environment": scene.estate.production, "store": "s3://points", "found_at": clock.now()}
    lost = Disagreement.objects.create(**words, kind="unknown_set", name="lost", sentence="A whole one.", size=9)
    orphan = Disagreement.objects.create(**words, kind="orphan", name="killed", goes_at=clock.now() + DAY)
    loss = Disagreement.objects.create(**words, kind="missing", name="older", point=scene.older)

    found = rio.get(url).json()["differences"]
    refused = rio.post(url, {"difference": orphan.pk, "reason": "A test."})
    wordless = rio.post(url, {"difference": lost.pk})
    answer = rio.post(url, {"difference": lost.pk, "reason": "A test."})

    assert before == {"compared_at": None, "trouble": "", "differences": []}
    assert [(one["id"], one["point"]) for one in found] == [(loss.pk, "older"), (orphan.pk, None), (lost.pk, None)]
    assert (refused.status_code, wordless.status_code, answer.status_code) == (409, 422, 200)
    assert sentence(refused) == "Only a whole point that the catalogue does not name waits for somebody to decide."
    assert [(one["name"], one["asked_by"]) for one in answer.json()["differences"] if one["asked_at"]] == [
        ("lost", "rio")
    ]
