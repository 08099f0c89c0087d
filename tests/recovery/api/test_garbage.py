"""Whatever stands in a word of a command is answered by naming the word: never a fault, never a row half written."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from changecontrol import clock
from recovery.models import BackupPolicy, BackupRun, Drill, LegalHold, RecoveryPoint, Restore
from tests.changecontrol.api.conftest import client_for, sentence
from tests.recovery.api.conftest import AT, Scene
from tests.recovery.api.test_grid import calls

GARBAGE: dict[str, Any] = {
    "null": None,
    "true": True,
    "an object": {"a": 1},
    "a list": [1, [2]],
    "nothing": "",
    "blank": " \t\u200b\u2028",
    "long": "x" * 20_000,
    "a huge number": 10**400,
    "a huge text of digits": "9" * 400,
    "more than the database holds": 2**63,
    "below nothing": -1,
    "a fraction": 0.5,
    "no time": "2026-02-30T25:61:00Z",
    "a time without an offset": "2026-11-24T02:00:00",
    "the first time": "0001-01-01T00:00:00Z",
    "before all time": "0001-01-01T00:00:00+23:59",
    "the last time": "9999-12-31T23:59:59.999999Z",
    "after all time": "9999-12-31T23:59:59-23:59",
    "an offset that PostgreSQL does not know": "2026-11-23T10:00:00+16:00",
    "digits of elsewhere": "١٢٣",
    "a way out": "../../etc/passwd",
}
KEPT = (BackupPolicy, BackupRun, Drill, LegalHold, RecoveryPoint, Restore)


def rows() -> list[int]:
    return [model.objects.count() for model in KEPT]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_a_word_is_refused_by_the_word_or_taken_for_what_it_is(scene: Scene, garbage: str) -> None:
    owner = client_for(scene.rio)
    wrong: dict[tuple[str, str], Any] = {}

    for name, one in calls(scene).items():
        for word in one.words:
            before = rows()
            answer = owner.post(f"{AT}/{one.path}/", {**one.words, word: GARBAGE[garbage]})
            if answer.status_code >= 500 or (answer.status_code >= 400 and rows() != before):
                wrong[name, word] = answer.status_code
            if answer.status_code == 422:
                fields = {field.partition(".")[0] for field in answer.json()["errors"]}
                if not fields & {word, "rrule", "rpo", "finished_at", "consistent_at", "parent"}:
                    wrong[name, word] = fields

    assert wrong == {}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_a_word_of_a_policy_is_refused_by_the_word(scene: Scene, root: APIClient, garbage: str) -> None:
    wrong = {}

    for word in [
        *("engine", "source", "filestore", "rrule", "starts_local", "zone", "grace_seconds", "incrementals"),
        *("wal_seconds", "filestore_seconds", "store", "copy_store", "store_credential", "recipients", "lock_days"),
        *("version_days", "keep_last", "keep_monthly", "is_pci", "verify_days", "drill_days"),
        *("identity", "restore_target"),
        *("rehearsal_cluster", "rehearsal_path", "rehearsal_target", "rehearsal_database"),
        *("restore_filestore", "rehearsal_filestore", "has_sentinel"),
    ]:
        version = BackupPolicy.objects.filter(environment=scene.place_id).count()
        words = {"tenant": "northwind", "environment": "production", "seen_version": version, "reason": "-"}
        answer = root.post(f"{AT}/policies/", {**words, word: GARBAGE[garbage]})
        if answer.status_code >= 500:
            wrong[word] = answer.status_code

    assert wrong == {}


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800"])
def test_text_that_cannot_be_kept_is_refused(scene: Scene, rio: APIClient, text: str) -> None:
    words = f'"tenant": "northwind", "environment": "production", "reason": "{text}"'

    answer = rio.post(f"{AT}/backups/", data=f"{{{words}}}".encode(), content_type="application/json")

    assert answer.status_code == 400
    assert "U+0000 or half of a surrogate pair" in sentence(answer)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999", "9" * 5_000])
def test_a_number_that_is_none_is_refused(scene: Scene, rio: APIClient, number: str) -> None:
    at = scene.newer.consistent_at.isoformat()
    place = '"tenant": "northwind", "environment": "production"'

    answer = rio.post(
        f"{AT}/drills/",
        data=f'{{{place}, "target_at": "{at}", "level": {number}}}'.encode(),
        content_type="application/json",
    )

    assert answer.status_code in {400, 422}
    assert sentence(answer)
    assert clock.now() > scene.newer.consistent_at
    assert not Drill.objects.exists()
