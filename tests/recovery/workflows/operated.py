"""An environment whose database CloudNativePG keeps: workflows tick, and the test plays Kubernetes and the operator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from changecontrol import clock
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.models import User
from changecontrol.ports import INVENTORY_LABEL, ObjectRef
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import JobWork
from recovery.actions.backups import ask_backup
from recovery.adapters.cloudnativepg.operator import KINDS
from recovery.adapters.encryption import make_key_pair
from recovery.models import BackupRun, RecoveryPoint
from recovery.workflows.backup import Backup
from recovery.workflows.cluster_backup import name_of
from recovery.workflows.upkeep import UpkeepWork
from tests.factories.estate import NOW, SmallEstate, actor, small_estate
from tests.factories.recovery import backup_policy, recovery_owner

API, PLUGIN_API = "postgresql.cnpg.io/v1", "barmancloud.cnpg.io/v1"
INVOICE = b"an invoice"
IN_TREE: dict[str, Any] = {"backup": {"barmanObjectStore": {"destinationPath": "s3://odoo/db"}}}
SIZE: dict[str, Any] = {"instances": 3, "storage": {"size": "20Gi", "storageClass": "fast"}}
OWNER, INDEX = make_key_pair(), make_key_pair()
FAKE: list[FakeKubernetes] = []
OTHERS: dict[str, FakeKubernetes] = {}
"""Clusters besides the environment's own, by their credential."""


def open_fake(*, credential: str, **_: Any) -> FakeKubernetes:
    return OTHERS.get(credential, FAKE[0])


def do_job() -> int:
    """Do the job that is due longest, in this process. No beat comes before it is over, however busy the machine is.

    A beat has a connection of its own, to which this test's transaction shows no job: it would end the process.
    """
    with override_settings(WORKFLOW_LEASE_SECONDS=3600):
        return engine.tick(JobWork())


@dataclass
class Scene:
    """An environment whose database CloudNativePG keeps; `kubernetes` is played by the test."""

    estate: SmallEstate
    rio: User
    kubernetes: FakeKubernetes
    folder: Path

    @property
    def namespace(self) -> str:
        return str(self.estate.production.namespace)

    def database(self, name: str = "odoo-db", **spec: Any) -> ObjectRef:
        """Have a database cluster that carries the environment's label, up and archiving."""
        labels = {INVENTORY_LABEL: self.estate.production.inventory}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        body = {"apiVersion": API, "kind": "Cluster", "metadata": metadata, "spec": {**SIZE, **spec}}
        ref = self.kubernetes.apply_as("administrator", body).ref
        image = "ghcr.io/cloudnative-pg/postgresql:17.2-bookworm"
        up = {"instances": 3, "readyInstances": 3}
        self.kubernetes.say(ref, {"systemID": "7412345678901234567", "timelineID": 3, "image": image, **up})
        return ref

    def reader(self, name: str = "read-only", *, is_labelled: bool = True) -> None:
        """Have an object store of the plugin, to be read from where it carries the environment's label."""
        labels = {INVENTORY_LABEL: self.estate.production.inventory} if is_labelled else {"of": "somebody"}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        body = {"apiVersion": PLUGIN_API, "kind": "ObjectStore", "metadata": metadata, "spec": {}}
        self.kubernetes.apply_as("administrator", body)

    def asked(self) -> BackupRun:
        rio, at = actor(self.rio), clock.now()
        return ask_backup(actor=rio, environment_id=self.estate.production.pk, reason="Before the release.", at=at)

    def ticked(self, run: BackupRun, *, times: int = 1, passing: timedelta = timedelta(minutes=2)) -> BackupRun:
        """Let the workflow and its jobs act; between two ticks more time passes than any of them waits."""
        for _ in range(times):
            engine.tick(Backup())
            do_job()
            clock.set_offset(clock.now() + passing - datetime.now(UTC))
        run.refresh_from_db()
        return run

    def pointed(self) -> RecoveryPoint:
        """Have a backup from its asking to its point."""
        run = self.asked()
        self.ticked(run, times=2)
        self.complete(run)
        self.ticked(run, times=4)
        return RecoveryPoint.objects.get(run=run)

    def kept_up(self, *, times: int = 4) -> None:
        """Let what is done again and again be done, with its jobs."""
        for _ in range(times):
            UpkeepWork().find(clock.now())
            while engine.tick(UpkeepWork()) + do_job():
                pass
            clock.set_offset(clock.now() + timedelta(minutes=2) - datetime.now(UTC))

    def backup_of(self, run: BackupRun) -> ObjectRef:
        return ObjectRef(API, "Backup", self.namespace, name_of(run))

    def complete(self, run: BackupRun, **words: Any) -> None:
        """Say as the operator does that a backup is complete."""
        stopped = clock.now().replace(microsecond=0)
        status = {"phase": "completed", "backupId": "20261123T101500", "method": "barmanObjectStore"}
        status |= {
            "beginLSN": "1/28",
            "endLSN": "1/150",
            "beginWal": "000000030000000100000000",
            "serverName": "odoo-db",
        }
        status |= {"startedAt": (stopped - timedelta(seconds=30)).isoformat(), "stoppedAt": stopped.isoformat()}
        self.kubernetes.say(self.backup_of(run), {**status, **words})


@pytest.fixture
def scene(db: None, settings: Any, tmp_path: Path) -> Iterator[Scene]:
    estate = small_estate()
    kubernetes = FakeKubernetes(namespaces=(estate.production.namespace,))
    kubernetes.kinds |= {*KINDS, (PLUGIN_API, "ObjectStore"), ("v1", "Pod")}
    FAKE[:] = [kubernetes]
    settings.ADAPTERS = {**settings.ADAPTERS, "kubernetes": f"{__name__}.open_fake"}
    clock.set_offset(NOW - datetime.now(UTC))
    (tmp_path / "filestore" / "aa").mkdir(parents=True)
    digest = hashlib.sha1(INVOICE, usedforsecurity=False).hexdigest()
    (tmp_path / "filestore" / digest[:2]).mkdir(exist_ok=True)
    (tmp_path / "filestore" / digest[:2] / digest).write_bytes(INVOICE)
    for name, secret in {"index": INDEX.identity, "owner": OWNER.identity}.items():
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    backup_policy(
        estate.production,
        engine="cloudnativepg",
        source="",
        filestore=f"file://{tmp_path}/filestore",
        store=f"file://{tmp_path}/objects",
        copy_store=f"file://{tmp_path}/elsewhere",
        identity=f"file:{tmp_path}/owner",
        index_identity=f"file:{tmp_path}/index",
        restore_credential="",
        restore_target=f"file:{tmp_path}/target",
        restore_filestore=f"file://{tmp_path}/restored",
        recipients=(OWNER.recipient,),
    )
    yield Scene(estate, recovery_owner(estate), kubernetes, tmp_path)
    clock.set_offset(timedelta())
    FAKE.clear()
    OTHERS.clear()
