"""A backup that an operator takes: asked for once, watched, and made a point with the attachments after it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.adapters.object_store import StoredObjects, open_store
from changecontrol.errors import Permanent, Transient
from changecontrol.events import Tag
from changecontrol.models import AuditEvent, Job
from changecontrol.ports import INVENTORY_LABEL, ObjectLock
from changecontrol.workflow import engine
from recovery.actions.retention import ask_retention
from recovery.adapters.postgres.packing import unpacked
from recovery.models import (
    AlarmWatch,
    BackupPolicy,
    BackupRun,
    ClusterCoverage,
    FilestoreCopy,
    RaisedAlarm,
    RecoveryPoint,
)
from recovery.queries.alarms import alarms_of
from recovery.queries.points import coverage_of, retention_of
from recovery.rules.coverage import Span
from recovery.rules.times import moment
from recovery.workflows.alarms import AlarmWork
from recovery.workflows.backup import Backup
from recovery.workflows.cluster_backup import name_of
from tests.factories.estate import actor
from tests.factories.recovery import seen_removal
from tests.recovery.workflows.operated import IN_TREE, OWNER, Scene


def open_with_unreadable_credential(**_: Any) -> FakeKubernetes:
    raise Permanent("The reference file:/run/secrets/kubeconfig cannot be read.")


def test_what_the_operator_took_becomes_a_point_with_its_attachments(scene: Scene) -> None:  # BCK-2
    scene.database(**IN_TREE)
    run = scene.asked()
    scene.ticked(run, times=2)
    asked_for = scene.kubernetes.objects()[scene.backup_of(run)]
    waiting, trouble = run.sentence, run.trouble
    scene.complete(run)

    scene.ticked(run, times=4)

    point = RecoveryPoint.objects.get()
    assert asked_for["spec"] == {"cluster": {"name": "odoo-db"}, "method": "barmanObjectStore"}
    assert waiting == f"The backup {name_of(run)} of {scene.namespace}/odoo-db waits for the operator to begin."
    assert trouble == ""
    assert (run.state, run.sentence, run.trouble) == ("succeeded", f"Point {point.key} is copied.", "")
    assert (point.system_identifier, point.server_version, point.timeline) == ("7412345678901234567", "17.2", 3)
    assert (point.start_lsn, point.stop_lsn) == (0x100000028, 0x100000150)
    assert [part.kind for part in point.parts.all()] == ["filestore_manifest", "configuration"]
    assert point.filestore_at is not None
    assert point.filestore_at >= point.consistent_at
    assert point.filestore_copy.file_count == 1
    assert point.copies.count() == 2


class UnlockedFolder(StoredObjects):
    """A folder that says of its lock what a plain bucket does."""

    def observe_lock(self, key: str) -> ObjectLock | None:
        return ObjectLock(until=None)


def open_unlocked(url: str, **_: Any) -> UnlockedFolder:
    return UnlockedFolder(open_store(url)._store)


def test_what_is_ours_of_the_point_is_asked_for_its_lock(scene: Scene, settings: Any) -> None:
    BackupPolicy.objects.update(lock_days=30)
    settings.ADAPTERS = {**settings.ADAPTERS, "object_store": f"{__name__}.open_unlocked"}
    scene.database(**IN_TREE)
    run = scene.asked()
    scene.ticked(run, times=2)
    scene.complete(run)

    scene.ticked(run, times=4)

    point = RecoveryPoint.objects.get()
    assert [one.locked_until for one in point.copies.exclude(lock_told_at=None)] == [None, None]
    assert all(f"{one.store} shows no object lock on {point.key}, and" in run.sentence for one in point.copies.all())
    assert {one.subject for one in alarms_of(run.policy, at=clock.now()) if one.kind == "not_locked"} == {
        one.store for one in point.copies.all()
    }


def test_point_says_what_belongs_together_to_whoever_may_read_it(scene: Scene) -> None:
    scene.database(**IN_TREE)
    run = scene.asked()
    scene.ticked(run, times=2)
    scene.complete(run)
    scene.ticked(run, times=4)

    part = RecoveryPoint.objects.get().parts.get(kind="configuration")
    data = (scene.folder / "objects" / part.key).read_bytes()

    assert hashlib.sha256(data).hexdigest() == part.sha256
    told = unpacked(data, identities=(OWNER.identity,), limit=1_000_000)
    assert b'"backup_id": "20261123T101500"' in told
    assert b'"operator": "cloudnativepg"' in told


@pytest.mark.parametrize(
    "status, sentence",
    [
        ({"phase": "failed", "error": "exit status 4"}, "failed: exit status 4."),
        ({"endLSN": "somewhere"}, "completed, but does not say endLSN. It is not taken for whole."),
    ],
    ids=["failed", "not-whole"],
)
def test_failed_backup_makes_no_point_and_says_why(scene: Scene, status: dict[str, Any], sentence: str) -> None:
    scene.database(**IN_TREE)
    run = scene.asked()
    scene.ticked(run, times=2)
    scene.complete(run, **status)

    scene.ticked(run)

    assert (run.state, RecoveryPoint.objects.count(), Job.objects.count()) == ("failed", 0, 0)
    assert run.sentence.endswith(sentence)


def test_backup_that_the_operator_never_completes_fails_within_a_day(scene: Scene) -> None:
    scene.database(**IN_TREE)
    run = scene.asked()
    scene.ticked(run, times=2)
    scene.kubernetes.say(scene.backup_of(run), {"phase": "walArchivingFailing"})

    scene.ticked(run, times=2, passing=timedelta(hours=25))

    assert run.state == "failed"
    assert run.sentence.startswith("The operator did not complete the backup within 24 hours. The backup ")
    assert "WAL archiving does not work" in run.sentence


def test_what_keeps_a_backup_waiting_is_told_as_trouble_until_it_is_over(scene: Scene) -> None:
    database = scene.database(**IN_TREE)
    run = scene.asked()
    failing = {"type": "ContinuousArchiving", "status": "False", "message": "exit status 1"}
    scene.kubernetes.say(database, {"conditions": [failing]})
    scene.ticked(run, times=2)
    trouble, attempts = run.trouble, run.attempts

    scene.kubernetes.say(database, {"conditions": [failing | {"status": "True"}]})
    scene.ticked(run)

    assert trouble.endswith(f"The WAL of {scene.namespace}/odoo-db is not archived: exit status 1.")
    assert (attempts, run.trouble) == (0, "")


def test_environment_without_its_database_cluster_fails_with_the_way_out(scene: Scene) -> None:
    run = scene.ticked(scene.asked(), times=2)

    label = f"{INVENTORY_LABEL}={scene.namespace}"
    assert run.state == "failed"
    assert run.sentence == f"No database cluster in {scene.namespace} carries the label {label}: label the one."


def test_two_database_clusters_of_one_environment_are_told_apart_by_a_person(scene: Scene) -> None:
    scene.database("one", **IN_TREE)
    scene.database("two", **IN_TREE)

    run = scene.ticked(scene.asked(), times=2)

    assert run.sentence.endswith(f"carries {INVENTORY_LABEL}={scene.namespace}: one, two.")


def test_database_cluster_that_backs_up_nowhere_fails(scene: Scene) -> None:
    scene.database()

    run = scene.ticked(scene.asked(), times=2)

    assert run.sentence.startswith(f"{scene.namespace}/odoo-db is set to be backed up nowhere")


@pytest.mark.parametrize("verb", ["observe_inventory", "observe_object", "ensure_applied"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_backup_is_asked_for_once_whatever_is_lost(scene: Scene, verb: str, moment: str) -> None:
    scene.database(**IN_TREE)
    fail = scene.kubernetes.script.fail_before if moment == "before" else scene.kubernetes.script.fail_after
    fail(verb, Transient("The cluster did not answer in time."))
    run = scene.asked()

    scene.ticked(run, times=4)
    scene.complete(run)
    scene.ticked(run, times=4)

    made = [one for one in scene.kubernetes.effects if one.ref.kind == "Backup"]
    assert [(one.verb, one.ref.name) for one in made] == [("applied", name_of(run))]
    assert run.state == "succeeded"


def test_attachments_wait_for_a_clock_that_is_behind(scene: Scene) -> None:
    scene.database(**IN_TREE)
    run = scene.asked()
    scene.ticked(run, times=2)
    ahead = (clock.now() + timedelta(minutes=3)).replace(microsecond=0)
    scene.complete(run, stoppedAt=ahead.isoformat())

    scene.ticked(run)
    behind = Job.objects.get().trouble
    scene.ticked(run, times=5)

    assert behind.startswith("The cluster's clock is ahead of ours")
    assert run.state == "succeeded"
    assert RecoveryPoint.objects.get().consistent_at == ahead


def test_schedule_begins_backups_of_an_operator_too(scene: Scene) -> None:
    Backup().find(clock.now())

    assert BackupRun.objects.get().policy.engine == "cloudnativepg"


def test_owners_hear_of_an_operator_that_does_not_archive_until_it_does(scene: Scene) -> None:  # BCK-1
    database = scene.database(**IN_TREE)
    policy = BackupPolicy.objects.get()

    def alarms_after(status: str, **up: Any) -> set[str]:
        archiving = {"type": "ContinuousArchiving", "status": status, "message": "exit status 1"}
        scene.kubernetes.say(database, {"conditions": [archiving], **up})
        work = AlarmWork()
        work.find(clock.now())
        clock.set_offset(clock.now() + timedelta(minutes=6) - datetime.now(UTC))
        engine.tick(work)
        return {
            one.sentence.split(" since ")[0] for one in alarms_of(policy, at=clock.now()) if one.kind == "wal_failing"
        }

    said = "CloudNativePG has not said"
    assert alarms_after("True", readyInstances=3) == set()
    assert alarms_after("False", readyInstances=3) == {said}
    assert alarms_after("True", readyInstances=1) == set()
    standbys = {"currentPrimary": "odoo-db-1", "instancesStatus": {"healthy": ["odoo-db-2"], "failed": ["odoo-db-1"]}}
    assert alarms_after("True", readyInstances=1, **standbys) == {said}
    # The condition is the instance's own word, and stays as it was once none is there to take it back.
    assert alarms_after("True") == {said}


def test_cluster_that_cannot_be_asked_is_as_good_as_one_that_does_not_archive(scene: Scene) -> None:  # BCK-1
    scene.kubernetes.script.fail_before("*", Transient("The cluster did not answer in time."), times=9)
    AlarmWork().find(clock.now())

    engine.tick(AlarmWork())

    found = alarms_of(BackupPolicy.objects.get(), at=clock.now())
    assert [one.since for one in found if one.kind == "wal_failing"] == [AlarmWatch.objects.get().stores_asked_at]


def test_credential_that_cannot_be_read_keeps_no_other_alarm_back(scene: Scene, settings: Any) -> None:  # BCK-1
    opened = {"kubernetes": f"{__name__}.open_with_unreadable_credential"}
    settings.ADAPTERS = {**settings.ADAPTERS, **opened}
    AlarmWork().find(clock.now())

    engine.tick(AlarmWork())

    assert set(RaisedAlarm.objects.values_list("kind", flat=True)) == {"wal_failing", "no_success", "drill_overdue"}
    assert AlarmWatch.objects.get().attempts == 0


def test_attachments_are_copied_between_the_operators_backups_too(scene: Scene) -> None:
    scene.kept_up()

    copies = FilestoreCopy.objects.filter(point__isnull=True)
    assert [one.file_count for one in copies] == [1] * copies.count()
    assert copies.count() >= 2


def test_times_that_the_operator_tells_are_covered_and_others_refused_with_the_last_safe_one(
    scene: Scene,
) -> None:  # BCK-3
    database = scene.database(**IN_TREE)
    point = scene.pointed()
    archiving = {"type": "ContinuousArchiving", "status": "True"}
    status = scene.kubernetes.objects()[database]["status"]
    told = {"firstRecoverabilityPoint": point.consistent_at.isoformat(), "conditions": [archiving]}
    scene.kubernetes.say(database, status | told)
    scene.kept_up()

    covered = coverage_of(scene.estate.production)

    asked_at = ClusterCoverage.objects.get().ends_at + timedelta(minutes=5)
    newest = FilestoreCopy.objects.order_by("taken_at").values_list("taken_at", flat=True).last()
    assert newest is not None
    assert covered.spans == (Span(point.consistent_at, min(newest, asked_at - timedelta(minutes=5))),)
    safe = covered.spans[0].end
    refusal = covered.refusal(clock.now())
    assert refusal.endswith(f"The last safe time before it is {moment(safe)}.")
    assert covered.backup_for(safe) == point.key


def test_times_stay_covered_where_the_operator_says_nothing_and_go_with_its_backups(scene: Scene) -> None:  # BCK-3
    database = scene.database(**IN_TREE)
    point = scene.pointed()
    archiving = {"type": "ContinuousArchiving", "status": "True"}
    status = scene.kubernetes.objects()[database]["status"]
    told = {"firstRecoverabilityPoint": point.consistent_at.isoformat(), "conditions": [archiving]}

    def covered_after(words: dict[str, Any]) -> tuple[Span, ...]:
        scene.kubernetes.say(database, status | words)
        scene.kept_up()
        return coverage_of(scene.estate.production).spans

    known = covered_after(told)
    silent = covered_after(told | {"conditions": []})
    removed = covered_after({"conditions": [archiving]})

    assert (len(known), silent[0].end >= known[0].end, removed) == (1, True, ())
    assert [one.tag for one in AuditEvent.objects.filter(tag=str(Tag.WAL_RECORDED))] == [str(Tag.WAL_RECORDED)]


def test_times_go_on_while_instances_are_replaced_and_stay_where_the_primary_or_all_are_down(
    scene: Scene,
) -> None:  # BCK-3
    database = scene.database(**IN_TREE)
    point = scene.pointed()
    status = scene.kubernetes.objects()[database]["status"]
    archiving = {"type": "ContinuousArchiving", "status": "True"}
    told = {"firstRecoverabilityPoint": point.consistent_at.isoformat(), "conditions": [archiving]}
    upgrading = {"phase": "Upgrading cluster", "readyInstances": 2}
    down = {"phase": "Waiting for the instances to become active"}

    def told_after(words: dict[str, Any]) -> datetime:
        scene.kubernetes.say(database, words)
        scene.kept_up()
        return ClusterCoverage.objects.get().ends_at

    up = told_after(status | told)
    replaced = told_after(status | told | upgrading)
    standbys = {"currentPrimary": "odoo-db-1", "instancesStatus": {"healthy": ["odoo-db-2", "odoo-db-3"]}}
    headless = told_after(status | told | standbys)
    del status["readyInstances"]
    dead = told_after(status | told | down)

    assert (up < replaced, headless, dead) == (True, replaced, replaced)


def test_what_the_policy_lets_go_leaves_our_stores_and_the_operator_keeps_its_own(scene: Scene) -> None:
    scene.database(**IN_TREE)
    BackupPolicy.objects.update(keep_last=1)
    old, new = scene.pointed(), scene.pointed()
    goes = retention_of(BackupPolicy.objects.get(), at=clock.now()).goes
    words: dict[str, Any] = {"actor": actor(scene.rio), "environment_id": scene.estate.production.pk}
    ask_retention(**words, **seen_removal(scene.estate.production, at=clock.now()), at=clock.now())

    scene.kept_up()

    old.refresh_from_db()
    assert (list(goes), old.state, old.removed_at is not None) == ([old.key], "removed", True)
    for place in ("objects", "elsewhere"):
        kept = [(scene.folder / place / part.key).exists() for part in new.parts.all()]
        assert kept == [True, True]
        assert [(scene.folder / place / part.key).exists() for part in old.parts.all()] == [False, False]
    assert len([ref for ref in scene.kubernetes.objects() if ref.kind == "Backup"]) == 2
