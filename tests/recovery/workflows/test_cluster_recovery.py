"""Restores and drills of points that an operator keeps: a cluster beside the source, used, and gone again."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.errors import Conflict, Transient
from changecontrol.models import Job, Message
from changecontrol.ports import ObjectRef
from changecontrol.project.local.postgres import Postgres
from changecontrol.workflow import engine
from recovery import doors
from recovery.actions.copies import record_filestore_copy
from recovery.actions.drills import cancel_drill, start_drill
from recovery.actions.points import record_found
from recovery.actions.restores import ask_incident_restore, ask_restore, cancel_restore
from recovery.jobs.adopting import adopt
from recovery.jobs.drill import practise
from recovery.models import BackupPolicy, Drill, FilestoreCopy, RecoveryPoint, Restore
from recovery.workflows.backup import new_filestore_copy, new_point
from recovery.workflows.cluster_recovery import run_of
from recovery.workflows.drill import DrillRun
from recovery.workflows.restore import RestoreRun
from tests.factories.estate import actor
from tests.recovery.workflows.conftest import DATABASE, TABLES
from tests.recovery.workflows.operated import API, IN_TREE, INVOICE, PLUGIN_API, Scene, do_job
from tests.recovery.workflows.test_adoption import forge

INVOICE_SHA1 = hashlib.sha1(INVOICE, usedforsecurity=False).hexdigest()
RUN_LABEL, CLUSTER_LABEL = "changecontrol.io/recovery-run", "cnpg.io/cluster"
PLUGIN = "barman-cloud.cloudnative-pg.io"
HEALTHY = "Cluster in healthy state"
Row = TypeVar("Row", Restore, Drill)


@dataclass
class Shop:
    """A point of a shop, and a server that stands for the one its operator recovers."""

    scene: Scene
    point: RecoveryPoint
    recovered: Postgres
    target: Postgres
    sandboxes: Path

    @property
    def cluster(self) -> ObjectRef:
        return ObjectRef(API, "Cluster", self.scene.namespace, "changecontrol-restore")

    def asked(self, name: str = "northwind_yesterday") -> Restore:
        return ask_restore(
            actor=actor(self.scene.rio),
            environment_id=self.scene.estate.production.pk,
            target_at=self.point.consistent_at,
            target_database=name,
            reason="Somebody deleted an order.",
            at=clock.now(),
        )

    def ticked(self, row: Row, *, times: int = 1, passing: timedelta = timedelta(minutes=1)) -> Row:
        """Let the workflows and their jobs act; between two ticks more time passes than any of them waits."""
        for _ in range(times):
            engine.tick(RestoreRun())
            engine.tick(DrillRun())
            do_job()
            clock.set_offset(clock.now() + passing - datetime.now(UTC))
        row.refresh_from_db()
        return row

    def say(self, phase: str, **status: Any) -> None:
        """Say as the operator does how far the cluster is."""
        self.scene.kubernetes.say(self.cluster, {"phase": phase, **status})

    def instance(self, run: str) -> tuple[ObjectRef, ObjectRef]:
        """Have the pod of the cluster, and the volume that it uses, as the operator makes them for a run."""
        name = f"{self.cluster.name}-1"
        labels = {RUN_LABEL: run, CLUSTER_LABEL: self.cluster.name}
        about = {"apiVersion": "v1", "metadata": {"name": name, "namespace": self.scene.namespace, "labels": labels}}
        volumes = [{"name": "pgdata", "persistentVolumeClaim": {"claimName": name}}]
        spec = {"nodeName": "node-1", "volumes": volumes}
        made = ({"kind": "Pod", "spec": spec}, {"kind": "PersistentVolumeClaim", "spec": {}})
        pod, volume = (self.scene.kubernetes.apply_as("cloudnative-pg", {**about, **one}).ref for one in made)
        return pod, volume

    def archives_to(self, store: str) -> None:
        """Have the source archive by the plugin into a store."""
        ref = ObjectRef(API, "Cluster", self.scene.namespace, "odoo-db")
        status = self.scene.kubernetes.objects()[ref]["status"]
        self.scene.kubernetes.remove(ref)
        plugin = {"name": PLUGIN, "isWALArchiver": True, "parameters": {"barmanObjectName": store}}
        self.scene.database(plugins=[plugin])
        self.scene.kubernetes.say(ref, status)

    def stores_read(self) -> list[str]:
        """Return the object stores that recovered clusters read from."""
        specs = [body["spec"] for ref, body in self.scene.kubernetes.objects().items() if ref.name in self.clusters()]
        plugins = [one["plugin"] for spec in specs for one in spec["externalClusters"]]
        return [one["parameters"]["barmanObjectName"] for one in plugins]

    def recover(self, *, kind: str = "restore", url: str = "") -> None:
        """Have the operator recover the cluster, and write down how it is reached."""
        self.scene.kubernetes.say(
            ObjectRef(API, "Cluster", self.scene.namespace, f"changecontrol-{kind}"), {"phase": HEALTHY}
        )
        metadata = {"name": f"changecontrol-{kind}-superuser", "namespace": self.scene.namespace}
        data = {"uri": b64encode((url or self.recovered.superuser_url).encode()).decode()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        self.scene.kubernetes.apply_as("cloudnative-pg", secret)

    def rows(self, server: Postgres, database: str, statement: str) -> list[Any]:
        with psycopg.connect(doors.url_of(server.superuser_url, database=database)) as connection:
            return [row[0] for row in connection.execute(statement).fetchall()]

    def databases(self) -> list[str]:
        return self.rows(
            self.target, "postgres", "SELECT datname FROM pg_database WHERE datname ~ '^northwind' ORDER BY 1"
        )

    def clusters(self) -> list[str]:
        found = self.scene.kubernetes.objects()
        return [ref.name for ref in found if ref.kind == "Cluster" and ref.name != "odoo-db"]


@pytest.fixture(scope="session")
def recovered_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("recovered"), durable=False).start()
    yield server
    server.destroy()


@pytest.fixture
def shop(
    scene: Scene, recovered_server: Postgres, shop_server: Postgres, sandboxes: Path, settings: Any
) -> Iterator[Shop]:
    settings.POSTGRES_PROGRAMS = [str(shop_server.tool("pg_dump").parent)]
    scene.estate.production.database = DATABASE
    scene.estate.production.save(update_fields=["database"])
    target = scene.folder / "target"
    target.write_text(shop_server.superuser_url)
    target.chmod(0o600)
    database = scene.database(**IN_TREE)
    scene.reader()
    point = scene.pointed()
    status = scene.kubernetes.objects()[database]["status"]
    archiving = {"type": "ContinuousArchiving", "status": "True"}
    told = {"firstRecoverabilityPoint": point.consistent_at.isoformat(), "conditions": [archiving]}
    scene.kubernetes.say(database, status | told)
    with psycopg.connect(recovered_server.superuser_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    with psycopg.connect(doors.url_of(recovered_server.superuser_url, database=DATABASE)) as connection:
        connection.execute(TABLES)
        connection.execute("INSERT INTO sale_order (name, create_date) VALUES ('S00001', '2026-11-20')")
        connection.execute(
            "INSERT INTO ir_attachment (name, store_fname, checksum, file_size) VALUES ('invoice', %s, %s, 10)",
            [f"{INVOICE_SHA1[:2]}/{INVOICE_SHA1}", INVOICE_SHA1],
        )
    yield Shop(scene, point, recovered_server, shop_server, sandboxes)
    for server in (recovered_server, shop_server):
        with psycopg.connect(server.superuser_url, autocommit=True) as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^northwind'").fetchall()
            for (name,) in found:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.slow
def test_a_cluster_is_recovered_moved_beside_the_old_made_harmless_and_removed(shop: Shop) -> None:
    restore = shop.ticked(shop.asked(), times=2)
    asked_for = shop.scene.kubernetes.objects()[shop.cluster]
    waiting = (restore.state, restore.sentence)
    shop.say("Setting up primary")
    begun = shop.ticked(restore).state
    shop.recover()

    shop.ticked(restore, times=3)

    assert waiting == (
        "provisioning",
        f"{shop.scene.namespace}/changecontrol-restore is being recovered: the operator has not begun.",
    )
    assert (begun, restore.state) == ("restoring", "succeeded"), restore.sentence
    spec = asked_for["spec"]
    assert asked_for["metadata"]["labels"] == {RUN_LABEL: run_of(restore)}
    assert (spec["storage"], "backup" in spec, "plugins" in spec) == (
        {"size": "20Gi", "storageClass": "fast"},
        False,
        False,
    )
    target = {"backupID": "20261123T101500", "targetImmediate": True}
    assert spec["bootstrap"]["recovery"] == {"source": "odoo-db", "recoveryTarget": target}
    reader = {"barmanObjectName": "read-only", "serverName": "odoo-db"}
    assert spec["externalClusters"][0]["plugin"]["parameters"] == reader
    assert shop.rows(shop.target, "northwind_yesterday", "SELECT name FROM sale_order") == ["S00001"]
    assert shop.rows(shop.target, "northwind_yesterday", "SELECT active FROM ir_mail_server WHERE name = 'out'") == [
        False
    ]
    restored = shop.scene.folder / "restored" / "northwind_yesterday"
    assert len(list(restored.glob("*/*"))) == 1
    times = [restore.declared_at, restore.provisioned_at, restore.restored_at, restore.validated_at]
    assert times == sorted(one for one in times if one is not None)
    assert shop.clusters() == ["changecontrol-restore"]
    shop.scene.kept_up(times=1)
    restore.refresh_from_db()
    assert (shop.clusters(), restore.data, list(shop.sandboxes.iterdir())) == ([], {}, [])
    kept = " ".join(map(str, Job.objects.values_list("result", "order", "progress")))
    assert shop.recovered.superuser_url not in kept


def test_recovered_cluster_has_what_its_sources_pods_need_also_where_that_is_gone(shop: Shop) -> None:
    needs: dict[str, Any] = {
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"requests": {"memory": "8Gi"}},
        "walStorage": {"size": "5Gi"},
        "tablespaces": [{"name": "archive", "storage": {"size": "50Gi"}}],
        "postgresql": {"parameters": {"max_connections": "500"}},
    }
    source = ObjectRef(API, "Cluster", shop.scene.namespace, "odoo-db")
    status = shop.scene.kubernetes.objects()[source]["status"]
    shop.scene.database(**IN_TREE, **needs)
    shop.scene.kubernetes.say(source, status)
    run = shop.scene.asked()
    shop.scene.ticked(run, times=2)
    shop.scene.complete(run)
    shop.scene.ticked(run, times=4)
    shop.point = RecoveryPoint.objects.get(run=run)
    shop.scene.kubernetes.remove(source)

    shop.ticked(shop.asked(), times=2)

    spec = shop.scene.kubernetes.objects()[shop.cluster]["spec"]
    assert {name: spec.get(name) for name in needs} == needs
    assert shop.point.cluster_facts is not None
    assert shop.point.cluster_facts["pod_needs"] == needs


@pytest.mark.slow
def test_incident_restore_works_where_the_source_is_gone_and_is_left_as_it_was(shop: Shop) -> None:
    shop.scene.kubernetes.remove(ObjectRef(API, "Cluster", shop.scene.namespace, "odoo-db"))
    restore = ask_incident_restore(
        actor=actor(shop.scene.rio),
        environment_id=shop.scene.estate.production.pk,
        target_at=shop.point.consistent_at,
        target_database="northwind_back",
        reason="The database is gone.",
        declared_at=clock.now() - timedelta(minutes=4),
        at=clock.now(),
    )
    shop.ticked(restore, times=2)
    shop.recover()

    shop.ticked(restore, times=3)

    assert restore.state == "succeeded", restore.sentence
    assert shop.rows(shop.target, "northwind_back", "SELECT active FROM ir_mail_server WHERE name = 'out'") == [True]


@pytest.mark.slow
def test_recovered_server_without_the_database_postgres_is_restored_from(shop: Shop) -> None:
    other = doors.url_of(shop.recovered.superuser_url, database="template1")
    restore = shop.ticked(shop.asked(), times=2)
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres RENAME TO lobby")
    try:
        shop.recover()
        shop.ticked(restore, times=4)
    finally:
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute("ALTER DATABASE lobby RENAME TO postgres")

    assert restore.state == "succeeded", restore.sentence


@pytest.mark.slow
def test_server_that_lets_nobody_in_yet_is_tried_again(shop: Shop) -> None:
    restore = shop.ticked(shop.asked(), times=2)
    shop.recover(url=make_conninfo(shop.recovered.superuser_url, password="not yet"))
    shop.ticked(restore, times=3)
    trouble = Job.objects.get(kind="restore").trouble
    before = (restore.state, shop.databases())
    shop.recover()

    shop.ticked(restore, times=4)

    assert trouble.startswith("The recovered cluster cannot be used yet. The database did not succeed: ")
    assert "not yet" not in trouble.replace("be used yet", "")
    assert before == ("provisioning", [])
    assert restore.state == "succeeded", restore.sentence


@pytest.mark.slow
def test_server_that_no_connection_reaches_fails_the_restore_with_the_words_of_the_connection(shop: Shop) -> None:
    restore = shop.ticked(shop.asked(), times=2)
    shop.recover(url=make_conninfo(shop.recovered.superuser_url, host="127.0.0.1", port=1))

    shop.ticked(restore, times=4)
    during = restore.state
    shop.ticked(restore, times=12, passing=timedelta(minutes=2))

    assert during == "provisioning"
    assert restore.state == "failed"
    assert restore.sentence.startswith("The database did not succeed: connection failed: "), restore.sentence
    shop.scene.kept_up(times=2)
    assert shop.clusters() == []


def test_failed_recovery_ends_in_the_operators_words_and_leaves_nothing(shop: Shop) -> None:
    restore = shop.ticked(shop.asked(), times=2)
    shop.say("Cluster is unrecoverable and needs manual intervention", phaseReason="exit status 1")

    shop.ticked(restore)

    assert restore.state == "failed"
    assert restore.sentence.startswith(f"{shop.scene.namespace}/changecontrol-restore could not be recovered: ")
    assert (shop.databases(), Job.objects.filter(kind="restore").count()) == ([], 0)
    shop.scene.kept_up(times=2)
    assert shop.clusters() == []


def test_cluster_of_a_canceled_restore_is_removed_and_the_next_one_waits_for_that(shop: Shop) -> None:
    first = shop.ticked(shop.asked(), times=2)
    second = shop.ticked(shop.asked("northwind_books"), times=6)
    waiting = second.trouble
    words: dict[str, Any] = {"actor": actor(shop.scene.rio), "reason": "Not needed.", "at": clock.now()}
    cancel_restore(restore_id=first.pk, **words)

    shop.scene.kept_up(times=2)
    shop.ticked(second, times=2)

    label = shop.scene.kubernetes.objects()[shop.cluster]["metadata"]["labels"][RUN_LABEL]
    assert waiting.endswith(f"is of run {run_of(first)} still: this one waits until it is gone.")
    assert label == run_of(second)


def test_next_restore_waits_for_the_volume_that_the_pod_of_the_last_one_still_uses(shop: Shop) -> None:
    first = shop.ticked(shop.asked(), times=2)
    pod, volume = shop.instance(run_of(first))
    cancel_restore(restore_id=first.pk, actor=actor(shop.scene.rio), reason="Not needed.", at=clock.now())
    shop.scene.kept_up(times=2)

    second = shop.ticked(shop.asked("northwind_books"), times=3)
    waiting, between = second.trouble, shop.clusters()
    shop.scene.kubernetes.remove(pod)
    shop.ticked(second, times=2)

    assert waiting == (
        f"Of an earlier {shop.scene.namespace}/changecontrol-restore there is still: {volume}, {pod}. This one waits "
        "until it is gone."
    )
    assert (between, shop.clusters()) == ([], ["changecontrol-restore"])


def test_job_of_the_last_restore_that_is_not_collected_yet_fails_no_other(shop: Shop) -> None:
    first = shop.ticked(shop.asked(), times=2)
    shop.say("Setting up primary")
    shop.scene.kubernetes.job_ends, shop.scene.kubernetes.is_node_away = "Failed", True
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {}}
    labels = {RUN_LABEL: run_of(first), CLUSTER_LABEL: "changecontrol-restore"}
    metadata = {"name": "changecontrol-restore-1-full-recovery", "namespace": shop.scene.namespace, "labels": labels}
    ref = shop.scene.kubernetes.apply_as("cloudnative-pg", {**job, "metadata": metadata}).ref
    shop.ticked(first, times=2)
    second = shop.ticked(shop.asked("northwind_books"), times=2)
    shop.scene.kept_up(times=2)

    shop.ticked(second, times=3)
    waiting = (second.state, second.trouble)
    shop.scene.kubernetes.remove(ref)
    shop.ticked(second, times=2)

    assert "its job changecontrol-restore-1-full-recovery failed" in first.sentence
    assert waiting == (
        "provisioning",
        f"Of an earlier {shop.scene.namespace}/changecontrol-restore there is still: {ref}. This one waits until it is "
        "gone.",
    )
    assert (second.state, shop.clusters()) == ("provisioning", ["changecontrol-restore"])


def test_owners_hear_once_of_what_is_left(shop: Shop) -> None:
    restore = shop.ticked(shop.asked(), times=2)
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {}}
    metadata = {"name": "recovery", "namespace": shop.scene.namespace, "labels": {RUN_LABEL: run_of(restore)}}
    shop.scene.kubernetes.apply_as("cloudnative-pg", {**job, "metadata": metadata})
    words: dict[str, Any] = {"actor": actor(shop.scene.rio), "reason": "Not needed.", "at": clock.now()}
    cancel_restore(restore_id=restore.pk, **words)

    shop.scene.kept_up(times=12)

    told = Message.objects.filter(subject__endswith="A restore left something behind")
    assert [one.text for one in told] == [f"In the cluster there is still: Job {shop.scene.namespace}/recovery."]
    shop.scene.kubernetes.remove(ObjectRef("batch/v1", "Job", shop.scene.namespace, "recovery"))
    shop.scene.kept_up(times=2)
    restore.refresh_from_db()
    assert restore.data == {}


@pytest.mark.parametrize(
    "stores, sentence",
    [
        ((), "No ObjectStore in {} carries the label"),
        (("one", "two"), "More than one ObjectStore in {} carries"),
    ],
    ids=["none", "two"],
)
def test_restore_reads_by_a_store_of_its_own_alone(shop: Shop, stores: tuple[str, ...], sentence: str) -> None:
    shop.scene.kubernetes.remove(ObjectRef(PLUGIN_API, "ObjectStore", shop.scene.namespace, "read-only"))
    for name in stores:
        shop.scene.reader(name)

    restore = shop.ticked(shop.asked(), times=2)

    assert restore.state == "failed"
    assert restore.sentence.startswith(sentence.format(shop.scene.namespace))
    assert shop.clusters() == []


@pytest.mark.parametrize(
    "readers, sentence",
    [
        (("read-only",), "{}/changecontrol-restore is being recovered: the operator has not begun."),
        ((), "The ObjectStore writer is the one that is archived to: label another"),
        (("read-only", "two"), "More than one ObjectStore in {} carries "),
    ],
    ids=["one", "none", "two"],
)
def test_store_that_a_rollout_writes_and_labels_is_left_out(
    shop: Shop, readers: tuple[str, ...], sentence: str
) -> None:
    shop.archives_to("writer")
    shop.scene.kubernetes.remove(ObjectRef(PLUGIN_API, "ObjectStore", shop.scene.namespace, "read-only"))
    for name in ("writer", *readers):
        shop.scene.reader(name)

    restore = shop.ticked(shop.asked(), times=2)

    assert restore.sentence.startswith(sentence.format(shop.scene.namespace))
    assert shop.stores_read() == ["read-only"] * (len(readers) == 1)


def test_store_that_is_archived_to_is_not_read_from(shop: Shop) -> None:
    facts = {**(shop.point.cluster_facts or {}), "object_store": "read-only"}
    RecoveryPoint.objects.update(cluster_facts=facts)
    shop.scene.kubernetes.remove(ObjectRef(API, "Cluster", shop.scene.namespace, "odoo-db"))

    restore = shop.ticked(shop.asked(), times=2)

    assert restore.sentence.startswith("The ObjectStore read-only is the one that is archived to: label another")


@pytest.mark.parametrize("verb", ["observe_inventory", "observe_object", "ensure_applied"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_cluster_is_asked_for_once_whatever_is_lost(shop: Shop, verb: str, moment: str) -> None:
    fail = shop.scene.kubernetes.script.fail_before if moment == "before" else shop.scene.kubernetes.script.fail_after
    fail(verb, Transient("The cluster did not answer in time."))

    shop.ticked(shop.asked(), times=5)

    made = [one for one in shop.scene.kubernetes.effects if one.ref.kind == "Cluster"]
    assert [(one.verb, one.ref.name) for one in made] == [("applied", "changecontrol-restore")]


def test_recovery_that_never_ends_fails_within_a_day(shop: Shop) -> None:
    restore = shop.ticked(shop.asked(), times=2)
    shop.say("Setting up primary")

    shop.ticked(restore, times=2, passing=timedelta(hours=25))

    assert restore.state == "failed"
    assert restore.sentence.startswith("The operator did not recover a cluster within 24 hours.")


def test_recovery_whose_pod_no_node_takes_says_so_at_once_and_when_its_day_is_over(shop: Shop) -> None:
    restore = shop.ticked(shop.asked(), times=2)
    shop.say("Setting up primary")
    pod, _ = shop.instance(run_of(restore))
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    shop.scene.kubernetes.say(pod, {"phase": "Pending", "conditions": [unscheduled]})

    waiting = shop.ticked(restore).sentence
    shop.ticked(restore, times=2, passing=timedelta(hours=25))

    why = "is being recovered: Setting up primary. No node takes its pod: 0/3 nodes are available."
    assert waiting == f"{shop.scene.namespace}/changecontrol-restore {why}"
    assert restore.sentence == f"The operator did not recover a cluster within 24 hours. {waiting}"


def test_incident_that_was_declared_days_ago_has_a_day_from_when_it_is_asked_for(shop: Shop) -> None:
    restore = ask_incident_restore(
        actor=actor(shop.scene.rio),
        environment_id=shop.scene.estate.production.pk,
        target_at=shop.point.consistent_at,
        target_database="northwind_back",
        reason="The database is gone.",
        declared_at=clock.now() - timedelta(hours=49),
        at=clock.now(),
    )
    shop.ticked(restore, times=2)
    shop.say("Setting up primary")

    shop.ticked(restore, passing=timedelta(hours=23))
    before = restore.state
    shop.ticked(restore, passing=timedelta(hours=2))
    shop.ticked(restore)

    assert (before, restore.state) == ("restoring", "failed")
    assert restore.sentence.startswith("The operator did not recover a cluster within 24 hours.")


def test_recovery_whose_name_another_run_holds_fails_within_a_day(shop: Shop) -> None:
    first = shop.ticked(shop.asked(), times=2)
    shop.say("Setting up primary")
    second = shop.ticked(shop.asked("northwind_books"), times=6)

    shop.ticked(second, times=4, passing=timedelta(hours=25))

    assert second.state == "failed"
    assert second.sentence == (
        f"The operator did not recover a cluster within 24 hours. {shop.scene.namespace}/changecontrol-restore is of "
        f"run {run_of(first)} still: this one waits until it is gone."
    )


def test_point_that_does_not_say_where_its_base_backup_is_is_refused(shop: Shop) -> None:
    RecoveryPoint.objects.update(cluster_facts=None)

    with pytest.raises(Conflict, match="does not say where CloudNativePG keeps its base backup"):
        shop.asked()


def drilled(shop: Shop, *, level: int, **words: Any) -> Drill:
    return start_drill(
        actor=actor(shop.scene.rio),
        environment_id=shop.scene.estate.production.pk,
        level=level,
        target_at=shop.point.consistent_at,
        at=clock.now(),
        **words,
    )


def answers(drill: Drill) -> dict[str, bool]:
    return {one.name: one.is_passed for one in drill.checks.all()}


@pytest.mark.slow
def test_drill_questions_the_recovered_cluster_and_is_over_once_it_is_gone(shop: Shop) -> None:  # BCK-5
    BackupPolicy.objects.update(has_sentinel=True, source=f"file:{shop.scene.folder}/target")
    sentinel_at = shop.point.consistent_at - timedelta(minutes=1)
    with psycopg.connect(doors.url_of(shop.recovered.superuser_url, database=DATABASE)) as connection:
        connection.execute("CREATE TABLE changecontrol_sentinel (at timestamptz PRIMARY KEY)")
        connection.execute("INSERT INTO changecontrol_sentinel VALUES (%s)", [sentinel_at])
    drill = shop.ticked(drilled(shop, level=3), times=2)
    before = (drill.state, shop.clusters())
    shop.recover(kind="drill")

    shop.ticked(drill, times=4)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert before == ("provisioning", ["changecontrol-drill"])
    assert (drill.state, drill.trouble_found, wrong) == ("passed", "", []), drill.sentence
    assert answers(drill) == dict.fromkeys(
        (
            "Base backup",
            "WAL of the operator",
            "Attachments of that time",
            "Attachments in the store",
            "One set",
            "Restored and started",
            "Structure and every row",
            "Database of the environment",
            "Newest sentinel",
            "Newest orders",
            "Every attachment, by its SHA-1",
        ),
        True,
    )
    assert "pg_verifybackup was not asked" in drill.checks.get(name="Restored and started").sentence
    assert drill.newest_sentinel_at == sentinel_at
    shop.point.refresh_from_db()
    assert (shop.point.state, shop.point.level) == ("verified", 3)
    assert (shop.clusters(), drill.data, list(shop.sandboxes.iterdir())) == ([], {}, [])
    times = [drill.declared_at, drill.provisioned_at, drill.restored_at, drill.validated_at, drill.finished_at]
    assert times == sorted(one for one in times if one is not None)
    assert len([one for one in times if one is not None]) == 5


def test_first_level_asks_the_operator_and_recovers_nothing(shop: Shop) -> None:
    drill = shop.ticked(drilled(shop, level=1), times=3)

    assert drill.state == "passed", drill.sentence
    assert list(answers(drill)) == [
        "Base backup",
        "WAL of the operator",
        "Attachments of that time",
        "Attachments in the store",
        "One set",
    ]
    assert shop.clusters() == []


def test_point_that_was_taken_in_without_its_commit_is_one_set(shop: Shop) -> None:
    forge(shop.scene, shop.point, commit="c" * 40)
    policy, estate = shop.point.policy, shop.scene.estate
    result = adopt({"policy": policy.pk, "name": shop.point.key}, lambda _: None)
    for rows in (RecoveryPoint.objects, FilestoreCopy.objects):
        rows.update(environment=estate.development)
    found = new_point(policy, key=shop.point.key, kind="base", result=result)
    by: dict[str, Any] = {"actor": system_actor(), "at": clock.now()}
    shop.point = record_found(estate.production, policy, point=found, **by)
    record_filestore_copy(policy, copy=new_filestore_copy(result["filestore"]), point=shop.point, **by)

    drill = shop.ticked(drilled(shop, level=1), times=3)

    assert drill.state == "passed", drill.sentence


def test_backup_that_is_another_than_was_recorded_breaks_the_point(shop: Shop) -> None:
    assert shop.point.run is not None
    shop.scene.complete(shop.point.run, backupId="20261123T999999")

    drill = shop.ticked(drilled(shop, level=1), times=3)

    shop.point.refresh_from_db()
    assert (drill.state, shop.point.state) == ("failed", "broken")
    assert drill.checks.get(is_passed=False).sentence.endswith(
        "is not the one that was recorded: it is 20261123T999999."
    )


def test_backup_that_the_operator_forgot_proves_nothing_of_the_point(shop: Shop) -> None:
    assert shop.point.run is not None
    shop.scene.kubernetes.remove(shop.scene.backup_of(shop.point.run))

    drill = shop.ticked(drilled(shop, level=1), times=3)

    shop.point.refresh_from_db()
    assert (drill.state, shop.point.state) == ("failed", "copied")
    assert "says nothing of the backup" in drill.sentence


def test_recovery_that_fails_is_trouble_and_proves_nothing_of_the_point(shop: Shop) -> None:
    drill = shop.ticked(drilled(shop, level=2), times=2)
    status = {"phase": "Cluster is unrecoverable and needs manual intervention"}
    shop.scene.kubernetes.say(ObjectRef(API, "Cluster", shop.scene.namespace, "changecontrol-drill"), status)

    shop.ticked(drill)

    shop.point.refresh_from_db()
    assert (drill.state, shop.point.state) == ("failed", "copied")
    assert "changecontrol-drill could not be recovered" in drill.sentence
    shop.scene.kept_up(times=2)
    assert shop.clusters() == []


@pytest.mark.parametrize("times", [1, 2], ids=["before-it-is-asked-for", "while-it-is-recovered"])
def test_cluster_of_a_canceled_drill_goes_and_its_job_never_begins(shop: Shop, times: int) -> None:  # BCK-8
    drill = shop.ticked(drilled(shop, level=2), times=times)
    before = shop.clusters()
    words: dict[str, Any] = {"actor": actor(shop.scene.rio), "reason": "Not needed.", "at": clock.now()}
    [under_way] = engine.claim(DrillRun(), at=clock.now())
    cancel_drill(drill_id=drill.pk, **words)
    engine.settle(DrillRun(), under_way, engine.step(DrillRun(), under_way.row, at=clock.now()), at=clock.now())
    asked_for = shop.clusters()

    shop.ticked(drill, times=3)

    shop.point.refresh_from_db()
    assert (before, asked_for) == ([] if times == 1 else ["changecontrol-drill"], ["changecontrol-drill"])
    assert (drill.state, drill.leftovers, drill.sentence) == ("canceled", "", "Rio canceled it: Not needed.")
    assert (shop.clusters(), Job.objects.filter(kind="drill").exists(), shop.point.state) == ([], False, "copied")
    # What a tick that had lost its lease asked for afterwards would go, too.
    assert "cluster" in drill.data
    shop.scene.kept_up(times=2)
    drill.refresh_from_db()
    assert drill.data == {}


def test_recovered_cluster_of_a_drill_that_is_canceled_at_its_questions_goes(shop: Shop) -> None:  # BCK-8
    drill = shop.ticked(drilled(shop, level=2), times=2)
    shop.recover(kind="drill")
    engine.tick(DrillRun())
    ordered = Job.objects.get(kind="drill").state
    words: dict[str, Any] = {"actor": actor(shop.scene.rio), "reason": "Not needed.", "at": clock.now()}
    cancel_drill(drill_id=drill.pk, **words)

    shop.ticked(drill, times=3)

    assert (ordered, Job.objects.get(kind="drill").state) == ("open", "stopped")
    assert (drill.state, drill.leftovers, shop.clusters()) == ("canceled", "", [])


@pytest.mark.slow
def test_drill_that_leaves_something_in_the_cluster_has_failed(shop: Shop) -> None:  # BCK-8
    drill = shop.ticked(drilled(shop, level=2), times=2)
    shop.recover(kind="drill")
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {}}
    metadata = {"name": "recovery", "namespace": shop.scene.namespace, "labels": {RUN_LABEL: run_of(drill)}}
    shop.scene.kubernetes.apply_as("cloudnative-pg", {**job, "metadata": metadata})

    waiting = shop.ticked(drill, times=4).state
    shop.ticked(drill, times=12)

    assert (waiting, drill.state) == ("tearing_down", "failed")
    assert drill.leftovers == f"In the cluster there is still: Job {shop.scene.namespace}/recovery."
    assert answers(drill)["Structure and every row"]
    shop.scene.kubernetes.remove(ObjectRef("batch/v1", "Job", shop.scene.namespace, "recovery"))
    shop.scene.kept_up(times=2)
    drill.refresh_from_db()
    assert drill.data == {}


@pytest.mark.slow
def test_what_odoo_did_in_an_attempt_that_was_killed_says_nothing_of_the_point(shop: Shop, settings: Any) -> None:
    settings.ODOO_COMMAND = "odoo"
    drill = shop.ticked(drilled(shop, level=4), times=2)
    shop.recover(kind="drill")
    engine.tick(DrillRun())

    def is_killed(said: Mapping[str, Any]) -> None:
        if said["sentence"] == "Starting Odoo on the copy.":
            with psycopg.connect(doors.url_of(shop.recovered.superuser_url, database=DATABASE)) as connection:
                connection.execute("INSERT INTO sale_order (name, create_date) VALUES ('SYN-1', '2031-01-01')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        practise(Job.objects.get(kind="drill").order, is_killed)
    shop.ticked(drill, times=4)

    shop.point.refresh_from_db()
    assert (drill.state, shop.point.state) == ("failed", "copied")
    assert drill.trouble_found == (
        "An attempt ended while Odoo worked on the recovered database: hold the drill again."
    )
    assert (set(answers(drill).values()), shop.clusters()) == ({True}, [])


def test_sabotage_of_what_lies_in_our_store_is_caught(shop: Shop) -> None:  # BCK-9
    drill = shop.ticked(drilled(shop, level=1, sabotage="remove"), times=3)

    assert drill.state == "passed", drill.sentence
    assert drill.sentence.startswith("The sabotage was caught by:")


def test_cadence_begins_drills_of_an_operators_points_too(shop: Shop) -> None:
    DrillRun().find(clock.now())

    drill = Drill.objects.get()
    assert (drill.point, drill.level, drill.asked_by) == (shop.point, 3, None)
