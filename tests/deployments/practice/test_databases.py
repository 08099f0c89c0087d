"""CloudNativePG's kinds: their shapes as published, and what happens to them, with time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deployments.practice.behaviour import ANNOTATION
from deployments.practice.cloudnativepg.install import install
from deployments.practice.server import PracticeServer
from tests.contracts.kubernetes.client import Answer
from tests.deployments.practice.conftest import SPEED, Rehearsal, rehearsal_on

API = "postgresql.cnpg.io/v1"
PLUGIN_API = "barmancloud.cnpg.io/v1"
PLUGIN = "barman-cloud.cloudnative-pg.io"
IN_TREE: dict[str, Any] = {"backup": {"barmanObjectStore": {"destinationPath": "s3://backups/shop"}}}
BY_PLUGIN: dict[str, Any] = {
    "plugins": [{"name": PLUGIN, "isWALArchiver": True, "parameters": {"barmanObjectName": "store"}}]
}


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeServer]:
    folder = tmp_path_factory.mktemp("operated")
    with PracticeServer.start(state=folder, speed=SPEED, seed=install) as server:
        yield server


@pytest.fixture
def shop(operated: PracticeServer) -> Iterator[Rehearsal]:
    with rehearsal_on(operated) as rehearsal:
        yield rehearsal


class Databases:
    """What an administrator of databases does in a namespace."""

    def __init__(self, shop: Rehearsal) -> None:
        self.shop = shop

    def path(self, plural: str, name: str = "") -> str:
        group = PLUGIN_API if plural == "objectstores" else API
        return self.shop.path(plural, name, group=group)

    def apply(self, kind: str, name: str, spec: dict[str, Any], *, behaviour: str = "", **params: str) -> Answer:
        metadata: dict[str, Any] = {"name": name, "namespace": self.shop.namespace}
        if behaviour:
            metadata["annotations"] = {ANNOTATION: behaviour}
        api_version = PLUGIN_API if kind == "ObjectStore" else API
        body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
        return self.shop.client.apply(self.path(f"{kind.lower()}s", name), body, **params)

    def cluster(self, name: str = "odoo-db", *, behaviour: str = "", **spec: Any) -> Answer:
        return self.apply(
            "Cluster", name, {"instances": 3, "storage": {"size": "20Gi"}, **spec}, behaviour=behaviour, force="true"
        )

    def backup(self, name: str, **spec: Any) -> Answer:
        return self.apply("Backup", name, {"cluster": {"name": "odoo-db"}, **spec})

    def hold(self, pod: str, finalizers: list[str]) -> None:
        """Keep a pod from going, as one whose server takes its time to end does."""
        path, body = self.shop.path("pods", pod, group="v1"), {"metadata": {"finalizers": finalizers}}
        answer = self.shop.client.ask("PATCH", path, body, content_type="application/merge-patch+json")
        assert answer.status == 200, answer.body

    def until(self, plural: str, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        answer = self.shop.client.until(self.path(plural, name), lambda it: holds(it.body.get("status") or {}))
        status: dict[str, Any] = answer.body.get("status") or {}
        assert holds(status), status
        return status

    def phase(self, plural: str, name: str, wanted: str) -> dict[str, Any]:
        return self.until(plural, name, lambda status: status.get("phase") == wanted)

    def healthy(self, name: str = "odoo-db") -> dict[str, Any]:
        return self.phase("clusters", name, "Cluster in healthy state")


@pytest.fixture
def databases(shop: Rehearsal) -> Databases:
    return Databases(shop)


def condition(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next((one for one in status.get("conditions", ()) if one["type"] == name), {})


def recovery(target: str = "", **more: Any) -> dict[str, Any]:
    bootstrap: dict[str, Any] = {"source": "odoo-db"} | ({"recoveryTarget": {"targetTime": target}} if target else {})
    store = {"destinationPath": "s3://backups/shop", "serverName": "odoo-db"}
    external = [{"name": "odoo-db", "barmanObjectStore": store}]
    return {"instances": 1, "bootstrap": {"recovery": bootstrap}, "externalClusters": external, **more}


def test_kinds_are_served_as_published(databases: Databases) -> None:
    served = databases.shop.client.ask("GET", f"/apis/{API}").body["resources"]

    names = {one["name"]: one["kind"] for one in served}
    assert names.items() >= {"clusters": "Cluster", "backups": "Backup", "backups/status": "Backup"}.items()
    assert names["scheduledbackups"] == "ScheduledBackup"
    stores = databases.shop.client.ask("GET", f"/apis/{PLUGIN_API}").body["resources"]
    assert {one["name"] for one in stores} == {"objectstores", "objectstores/status"}


def test_definitions_fill_their_defaults(databases: Databases) -> None:
    body = databases.backup("nameless").body
    scheduled = databases.apply("ScheduledBackup", "s", {"cluster": {"name": "x"}, "schedule": "@yearly"}).body

    assert body["spec"]["method"] == "barmanObjectStore"
    assert (scheduled["spec"]["method"], scheduled["spec"]["backupOwnerReference"]) == ("barmanObjectStore", "none")


@pytest.mark.parametrize(
    "kind, spec, message",
    [
        ("Backup", {}, "spec.cluster: Required value"),
        (
            "Backup",
            {"cluster": {"name": "odoo-db"}, "method": "tape"},
            'spec.method: Unsupported value: "tape": supported values: "barmanObjectStore", "volumeSnapshot", "plugin"',
        ),
        ("Backup", {"cluster": {"name": "odoo-db"}, "method": "plugin"}, "cannot be empty when the backup method is"),
        ("Cluster", {"externalClusters": [{}]}, "spec.externalClusters[0].name: Required value"),
        ("Cluster", {"instances": 0}, "should be greater than or equal to 1"),
        (
            "Cluster",
            {"instances": 1, "bootstrap": {"recovery": {"source": "gone"}}},
            "External cluster gone not found",
        ),
        ("Cluster", {"instances": 1, **IN_TREE, **BY_PLUGIN}, "Cannot enable a WAL archiver plugin"),
        ("ScheduledBackup", {"cluster": {"name": "odoo-db"}, "schedule": "0 3 * * *"}, "expected exactly 6 fields"),
        (
            "ObjectStore",
            {"configuration": {"destinationPath": "s3://b"}, "retentionPolicy": "a month"},
            "spec.retentionPolicy in body should match",
        ),
        ("ObjectStore", {"configuration": {"destinationPath": ""}}, "should be at least 1 chars long"),
    ],
)
def test_what_does_not_fit_is_refused(databases: Databases, kind: str, spec: dict[str, Any], message: str) -> None:
    answer = databases.apply(kind, "wrong", spec)

    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert message in answer.body["message"]


def test_unknown_field_is_refused(databases: Databases) -> None:
    answer = databases.backup("typo", mehtod="plugin")

    assert answer.status == 500
    assert "field not declared in schema" in answer.body["message"]


def test_name_of_a_cluster_is_short_enough_for_what_is_named_after_it(databases: Databases) -> None:
    answer = databases.cluster("d" * 51)

    assert "the maximum length of a cluster name is 50 characters" in answer.body["message"]


def test_schedule_never_goes_over_to_another_cluster(databases: Databases) -> None:
    databases.apply("ScheduledBackup", "s", {"cluster": {"name": "one"}, "schedule": "@yearly"})

    answer = databases.apply("ScheduledBackup", "s", {"cluster": {"name": "two"}, "schedule": "@yearly"})

    assert "cluster reference is immutable after creation" in answer.body["message"]


def test_cluster_comes_up_and_archives(databases: Databases) -> None:
    databases.cluster(**IN_TREE)

    status = databases.healthy()

    assert (status["readyInstances"], status["currentPrimary"], status["timelineID"]) == (3, "odoo-db-1", 1)
    assert condition(status, "ContinuousArchiving")["reason"] == "ContinuousArchivingSuccess"
    assert condition(status, "Ready")["status"] == "True"
    volume = databases.shop.client.ask(
        "GET", databases.shop.path("persistentvolumeclaims", "odoo-db-1", group="v1")
    ).body
    assert volume["metadata"]["labels"]["cnpg.io/cluster"] == "odoo-db"


def test_status_cannot_be_set_with_the_spec(databases: Databases) -> None:
    databases.cluster()
    databases.healthy()

    answer = databases.shop.client.ask(
        "PATCH",
        databases.path("clusters", "odoo-db"),
        {"status": {"phase": "Mine"}},
        content_type="application/merge-patch+json",
    )

    assert answer.body["status"]["phase"] == "Cluster in healthy state"


def test_backup_runs_and_tells_its_positions(databases: Databases) -> None:
    databases.cluster(**IN_TREE)

    databases.backup("nightly")
    status = databases.phase("backups", "nightly", "completed")

    assert (status["method"], status["serverName"], status["majorVersion"]) == ("barmanObjectStore", "odoo-db", 18)
    assert status["beginWal"].startswith("00000001")
    assert status["startedAt"] <= status["stoppedAt"]
    assert status["instanceID"]["podName"] == "odoo-db-1"
    cluster = databases.until("clusters", "odoo-db", lambda it: "firstRecoverabilityPoint" in it)
    assert cluster["firstRecoverabilityPointByMethod"]["barmanObjectStore"] == status["stoppedAt"]
    done = databases.until(
        "clusters", "odoo-db", lambda it: condition(it, "LastBackupSucceeded").get("status") == "True"
    )
    assert condition(done, "LastBackupSucceeded")["message"] == "Backup was successful"


def test_backup_by_plugin_tells_the_window_of_its_store(databases: Databases) -> None:
    databases.apply("ObjectStore", "store", {"configuration": {"destinationPath": "s3://backups/shop"}})
    databases.cluster(**BY_PLUGIN)

    databases.backup("nightly", method="plugin", pluginConfiguration={"name": PLUGIN})
    status = databases.phase("backups", "nightly", "completed")

    assert status["pluginMetadata"]["timeline"] == "1"
    window = databases.until("objectstores", "store", lambda it: "serverRecoveryWindow" in it)["serverRecoveryWindow"]
    assert window == {
        "odoo-db": {"firstRecoverabilityPoint": status["stoppedAt"], "lastSuccessfulBackupTime": status["stoppedAt"]}
    }


def test_backups_of_a_cluster_take_turns(databases: Databases) -> None:
    databases.cluster(**IN_TREE)
    databases.healthy()
    for name in ("a", "b"):
        databases.backup(name)

    databases.phase("backups", "a", "running")
    waiting = databases.until("backups", "b", lambda status: bool(status.get("phase")))
    databases.phase("backups", "b", "completed")

    assert waiting["phase"] == "pending"
    assert databases.phase("backups", "a", "completed")


@pytest.mark.parametrize(
    "spec, error",
    [
        ({}, "cannot proceed with the backup as the cluster has no backup section"),
        (
            {"method": "plugin", "pluginConfiguration": {"name": PLUGIN}},
            "cannot proceed with the backup as the cluster has no plugin configured",
        ),
    ],
    ids=["object-store", "plugin"],
)
def test_backup_of_a_cluster_without_a_place_for_it_fails(
    databases: Databases, spec: dict[str, Any], error: str
) -> None:
    databases.cluster()

    databases.backup("nowhere", **spec)

    assert databases.phase("backups", "nowhere", "failed")["error"] == error


def test_failing_backup_is_told_to_the_cluster(databases: Databases) -> None:
    databases.cluster(behaviour="backups-fail", **IN_TREE)

    databases.backup("nightly")

    assert databases.phase("backups", "nightly", "failed")["error"] == "exit status 1"
    status = databases.until("clusters", "odoo-db", lambda it: "lastFailedBackup" in it)
    assert condition(status, "LastBackupSucceeded")["reason"] == "LastBackupFailed"


def test_backup_waits_for_archiving_and_goes_on_when_it_works_again(databases: Databases) -> None:
    databases.cluster(behaviour="archiving-fails", **IN_TREE)
    failing = condition(databases.healthy(), "ContinuousArchiving")
    databases.backup("nightly")
    databases.phase("backups", "nightly", "walArchivingFailing")

    databases.cluster(behaviour="nothing", **IN_TREE)
    databases.phase("backups", "nightly", "completed")

    assert (failing["status"], failing["reason"]) == ("False", "ContinuousArchivingFailing")
    assert condition(databases.healthy(), "ContinuousArchiving")["status"] == "True"


def test_backup_of_an_unknown_cluster_waits(databases: Databases) -> None:
    databases.backup("early")
    databases.phase("backups", "early", "pending")

    databases.cluster(**IN_TREE)

    assert databases.phase("backups", "early", "completed")["backupId"]


def test_schedule_makes_backups(databases: Databases) -> None:
    databases.cluster(**IN_TREE)
    databases.healthy()

    spec = {
        "cluster": {"name": "odoo-db"},
        "schedule": "* * * * * *",
        "immediate": True,
        "backupOwnerReference": "self",
    }
    databases.apply("ScheduledBackup", "often", spec)

    def made() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = databases.shop.client.ask(
            "GET", databases.path("backups"), labelSelector="cnpg.io/scheduled-backup=often"
        ).body["items"]
        return items

    answer = databases.shop.client.until(databases.path("backups"), lambda _: len(made()) >= 2)
    assert answer.status == 200
    backups = made()
    assert len(backups) >= 2
    assert [one["metadata"]["labels"]["cnpg.io/immediateBackup"] for one in backups[:2]] == ["true", "false"]
    assert backups[0]["metadata"]["ownerReferences"][0]["name"] == "often"
    assert "nextScheduleTime" in databases.until("scheduledbackups", "often", lambda it: "lastScheduleTime" in it)


def test_suspended_schedule_makes_none(databases: Databases) -> None:
    spec = {"cluster": {"name": "odoo-db"}, "schedule": "* * * * * *", "immediate": True, "suspend": True}
    databases.apply("ScheduledBackup", "never", spec)
    databases.cluster(**IN_TREE)
    databases.healthy()

    assert databases.shop.client.ask("GET", databases.path("backups")).body["items"] == []


def test_cluster_is_recovered_from_the_archive_of_another(databases: Databases) -> None:
    databases.cluster(**IN_TREE)
    databases.backup("nightly")
    stopped = databases.phase("backups", "nightly", "completed")["stoppedAt"]

    databases.apply("Cluster", "copy", recovery(stopped))
    begun = databases.until("clusters", "copy", lambda status: bool(status.get("phase")))
    status = databases.healthy("copy")

    assert begun["phase"] == "Setting up primary"
    assert (status["timelineID"], status["systemID"]) == (2, databases.healthy()["systemID"])
    assert condition(status, "ContinuousArchiving") == {}


@pytest.mark.parametrize(
    "target, behaviour, said",
    [
        ("2020-01-01T00:00:00Z", "", "no target backup found"),
        ("2099-01-01T00:00:00Z", "", "FATAL: recovery ended before configured recovery target was reached"),
        ("", "recovery-fails", "FATAL: could not restore the backup"),
    ],
)
def test_recovery_that_cannot_succeed_says_which_job_failed(
    databases: Databases, target: str, behaviour: str, said: str
) -> None:
    databases.cluster(**IN_TREE)
    databases.backup("nightly")
    databases.phase("backups", "nightly", "completed")

    databases.apply("Cluster", "copy", recovery(target), behaviour=behaviour)
    status = databases.phase("clusters", "copy", "Cluster is unrecoverable and needs manual intervention")

    assert status["phaseReason"].startswith("Instance creation failed for the following jobs: copy-1-full-recovery. ")
    job = databases.shop.client.ask("GET", databases.shop.path("jobs", "copy-1-full-recovery", group="batch/v1")).body
    assert said in job["spec"]["template"]["spec"]["containers"][0]["command"][-1]


def test_what_was_written_after_archiving_failed_cannot_be_recovered(databases: Databases) -> None:
    databases.cluster(**IN_TREE)
    databases.backup("nightly")
    databases.phase("backups", "nightly", "completed")
    databases.cluster(behaviour="archiving-fails", **IN_TREE)
    since = databases.until(
        "clusters", "odoo-db", lambda it: condition(it, "ContinuousArchiving").get("status") == "False"
    )

    later = condition(since, "ContinuousArchiving")["lastTransitionTime"].replace("Z", ".9Z")
    databases.apply("Cluster", "copy", recovery(later))

    databases.phase("clusters", "copy", "Cluster is unrecoverable and needs manual intervention")


def test_recovered_cluster_goes_with_its_volume_and_its_job(databases: Databases) -> None:
    databases.cluster(**IN_TREE)
    databases.backup("nightly")
    databases.phase("backups", "nightly", "completed")
    databases.apply("Cluster", "copy", recovery(inheritedMetadata={"labels": {"run": "drill-7"}}))
    databases.healthy("copy")
    kinds = (("persistentvolumeclaims", "v1"), ("jobs", "batch/v1"))

    def marked() -> list[str]:
        found = [
            databases.shop.client.ask("GET", databases.shop.path(plural, group=group), labelSelector="run=drill-7")
            for plural, group in kinds
        ]
        return [one["metadata"]["name"] for answer in found for one in answer.body["items"]]

    before = marked()
    databases.shop.client.ask("DELETE", databases.path("clusters", "copy"))
    databases.shop.client.until(databases.path("clusters", "copy"), lambda _: marked() == [])

    assert before == ["copy-1", "copy-1-full-recovery"]
    assert marked() == []
    assert databases.healthy()


def test_pod_runs_as_the_definition_wants_and_is_made_anew(databases: Databases) -> None:
    resources = {"requests": {"cpu": "2", "memory": "4Gi"}}
    toleration = {"key": "databases", "operator": "Exists"}
    databases.cluster(resources=resources, affinity={"tolerations": [toleration]})
    databases.healthy()
    path = databases.shop.path("pods", "odoo-db-1", group="v1")
    first = databases.shop.client.ask("GET", path).body

    databases.shop.client.ask("DELETE", path)
    databases.shop.client.until(path, lambda it: it.status == 200 and it.body["metadata"]["uid"] != uid_of(first))

    assert first["spec"]["containers"][0]["resources"] == resources
    assert toleration in first["spec"]["tolerations"]
    assert first["metadata"]["labels"]["cnpg.io/cluster"] == "odoo-db"


def test_cluster_whose_pod_no_node_takes_does_not_come_up(databases: Databases) -> None:
    databases.cluster(affinity={"nodeSelector": {"pool": "databases"}})

    waiting = databases.phase("clusters", "odoo-db", "Waiting for the instances to become active")

    assert "readyInstances" not in waiting
    assert "didn't match Pod's node affinity/selector" in unscheduled(databases, "odoo-db-1")


def test_primary_that_goes_down_is_named_on_while_its_standbys_stay_ready(databases: Databases) -> None:
    databases.cluster(**IN_TREE)
    up = databases.healthy()
    databases.cluster(**IN_TREE, affinity={"nodeSelector": {"pool": "databases"}})
    databases.shop.client.ask("DELETE", databases.shop.path("pods", "odoo-db-1", group="v1"))

    down = databases.until("clusters", "odoo-db", lambda status: "failed" in status.get("instancesStatus", {}))

    assert up["instancesStatus"] == {"healthy": ["odoo-db-1", "odoo-db-2", "odoo-db-3"]}
    assert up["instancesReportedState"]["odoo-db-1"] == {"isPrimary": True, "timeLineID": 1, "ip": ""}
    assert down["instancesStatus"] == {"healthy": ["odoo-db-2", "odoo-db-3"], "failed": ["odoo-db-1"]}
    assert down["instancesReportedState"]["odoo-db-1"] == {"isPrimary": False, "ip": ""}
    assert (down["currentPrimary"], down["targetPrimary"], down["phase"]) == ("odoo-db-1", "odoo-db-1", up["phase"])
    # What it said last, which it alone could take back.
    assert condition(down, "ContinuousArchiving")["status"] == "True"


def test_cluster_that_is_made_while_the_volume_of_another_goes_never_starts(databases: Databases) -> None:
    databases.cluster(**IN_TREE)
    databases.backup("nightly")
    databases.phase("backups", "nightly", "completed")
    databases.apply("Cluster", "copy", recovery())
    databases.healthy("copy")
    databases.hold("copy-1", ["test/held"])
    databases.shop.client.ask("DELETE", databases.path("clusters", "copy"))
    volume = databases.shop.path("persistentvolumeclaims", "copy-1", group="v1")
    going = databases.shop.client.until(volume, lambda it: "deletionTimestamp" in it.body["metadata"])
    databases.shop.client.until(databases.path("clusters", "copy"), lambda it: it.status == 404)

    databases.apply("Cluster", "copy", recovery())
    first = unscheduled(databases, "copy-1-full-recovery")
    databases.hold("copy-1", [])
    databases.shop.client.until(volume, lambda it: it.status == 404)
    later = unscheduled(databases, "copy-1-full-recovery", words="not found")

    assert "deletionTimestamp" in going.body["metadata"]
    assert 'persistentvolumeclaim "copy-1" is being deleted' in first
    assert 'persistentvolumeclaim "copy-1" not found' in later
    phase = databases.shop.client.ask("GET", databases.path("clusters", "copy")).body["status"]["phase"]
    assert phase == "Setting up primary"


def uid_of(item: dict[str, Any]) -> str:
    return str(item["metadata"]["uid"])


def unscheduled(databases: Databases, name: str, *, words: str = "") -> str:
    """Wait until no node takes a pod whose name begins so, for a reason with these words; return the reason."""

    def reasons(answer: Answer) -> list[str]:
        pods = [pod for pod in answer.body["items"] if pod["metadata"]["name"].startswith(name)]
        found = [condition(pod.get("status") or {}, "PodScheduled") for pod in pods]
        return [one["message"] for one in found if one.get("status") == "False" and words in one["message"]]

    answer = databases.shop.client.until(databases.shop.path("pods", group="v1"), lambda it: reasons(it) != [])
    return reasons(answer)[0]


def test_estate_without_the_operator_does_not_know_its_kinds(rehearsal: Rehearsal) -> None:
    assert rehearsal.client.ask("GET", f"/apis/{API}").status == 404
