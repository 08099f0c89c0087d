"""Drills of level 5 of points that an operator keeps: recovered by it, brought up elsewhere, and all of it gone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db.models import Q

from changecontrol import clock
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.errors import Transient
from changecontrol.models import AuditEvent, Cluster, Job, Message, Rehearsal
from changecontrol.ports import NotAllowed, ObjectRef
from changecontrol.workflow import engine
from deployments.adapters.fakes.git import BareRepository
from deployments.workflows.rehearsal import RehearsalRun
from recovery import doors
from recovery.models import BackupPolicy, Drill
from recovery.workflows.cluster_recovery import run_of
from recovery.workflows.drill import DrillRun
from recovery.workflows.drill_elsewhere import UNCLEARED
from recovery.workflows.steps import UNREMOVED
from recovery.workflows.upkeep import UpkeepWork
from tests.deployments.workflows.scene import NEW, manifests
from tests.recovery.workflows.operated import API, OTHERS, do_job
from tests.recovery.workflows.test_cluster_recovery import (  # noqa: F401  fixtures
    INVOICE_SHA1,
    RUN_LABEL,
    Shop,
    answers,
    drilled,
    recovered_server,
    shop,
)
from tests.recovery.workflows.test_rehearsed_drill import rolled_out, saved

CREDENTIAL, PATH, NAME = "env:KUBECONFIG_DE_1", "rehearsals/production", "northwind_elsewhere"
AWAY = Transient("The cluster cannot be reached.")
DENIED = NotAllowed("The executor may not delete Cluster.")
ENDED = Q(state__in=["passed", "failed"])


class ClustersUpkeep(UpkeepWork):
    """What removes recovered clusters, and nothing else that is done again and again."""

    def due(self) -> Q:
        return Q(kind="clusters")


@dataclass
class Elsewhere:
    """A shop whose point names what a rollout brought, the other cluster, and a drill of level 5."""

    shop: Shop
    cluster: FakeKubernetes
    drill: Drill

    def work(self, holds: Callable[[], Any], *, limit: int = 200, step: timedelta = timedelta(seconds=20)) -> None:
        """Let everything that is due happen, until something holds."""
        for _ in range(limit):
            if holds():
                self.drill.refresh_from_db()
                return
            ClustersUpkeep().find(clock.now())
            engine.tick(DrillRun())
            engine.tick(RehearsalRun())
            engine.tick(ClustersUpkeep())
            do_job()
            clock.set_offset(clock.now() + step - datetime.now(UTC))
        self.drill.refresh_from_db()
        raise AssertionError(f"It never came to that: {self.drill.state}, {self.drill.sentence} {self.drill.trouble}")

    def recover(self) -> None:
        """Have the operator recover the cluster that the drill asks for."""
        self.work(lambda: self.shop.clusters())
        self.shop.recover(kind="drill")

    def finish(self, **words: Any) -> Drill:
        self.work(lambda: Drill.objects.filter(ENDED, pk=self.drill.pk).exists(), **words)
        return self.drill

    def is_up(self) -> bool:
        return Rehearsal.objects.filter(state="up").exists()

    def databases(self) -> list[str]:
        return [name for name in self.shop.databases() if name == NAME]

    def make_database(self, mark: str) -> None:
        with psycopg.connect(self.shop.target.superuser_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {NAME}")
            connection.execute(f"COMMENT ON DATABASE {NAME} IS '{mark}'")

    @property
    def files(self) -> Path:
        """Where workloads elsewhere find attachments."""
        return self.shop.scene.folder / "elsewhere-files" / NAME

    def beside(self) -> list[str]:
        return [path.name for path in self.files.parent.iterdir()] if self.files.parent.exists() else []

    def left(self) -> list[Any]:
        """Return all that a drill may leave: at the operator's, elsewhere, on the other server, on this host."""
        return [
            *self.shop.clusters(),
            *self.cluster.objects(),
            *self.databases(),
            *self.beside(),
            *self.shop.sandboxes.iterdir(),
        ]


@pytest.fixture
def elsewhere(shop: Shop, settings: Any, tmp_path: Path) -> Elsewhere:  # noqa: F811
    from deployments import rendering

    rendering._remembered.clear()
    cluster = FakeKubernetes(namespaces=["somebody-else"], clock=clock.now, ready_after=timedelta(seconds=50))
    OTHERS[CREDENTIAL] = cluster
    settings.GIT_LOCAL_PATHS_ALLOWED = True
    settings.GIT_MIRRORS = str(tmp_path / "mirrors")
    git = BareRepository(tmp_path / "estate.git")
    saved(shop.scene.estate.source, url=git.url)
    Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential=CREDENTIAL)
    BackupPolicy.objects.update(
        rehearsal_cluster="de-1",
        rehearsal_path=PATH,
        rehearsal_database=NAME,
        rehearsal_target=f"file:{tmp_path}/target",
        rehearsal_filestore=f"file://{tmp_path}/elsewhere-files",
    )
    text = manifests(NEW, cohorts=["pilot"])
    commit = git.commit({f"{PATH}/all.yaml": text}, message="For Falkenstein.", author="linus@example.com")
    rolled_out(shop.scene.estate, commit)
    shop.point = shop.scene.pointed()
    assert shop.point.git_commit == commit
    return Elsewhere(shop, cluster, drilled(shop, level=5))


@pytest.mark.slow
def test_environment_comes_up_elsewhere_from_what_the_operator_recovered(elsewhere: Elsewhere) -> None:  # BCK-5
    drill, shop = elsewhere.drill, elsewhere.shop  # noqa: F811
    elsewhere.recover()

    elsewhere.work(elsewhere.is_up)

    up = Rehearsal.objects.get()
    kept = (shop.point.git_commit, PATH, "de-1")
    assert (up.commit, up.path, up.cluster.slug) == kept
    # Nothing reads what the operator recovered any more, and it is gone before the rehearsal is.
    assert (drill.state, shop.clusters(), drill.data) == ("checking", [], {"policy": drill.data["policy"]})
    with psycopg.connect(doors.url_of(shop.target.superuser_url, database=NAME)) as placed:
        assert placed.execute("SELECT name FROM sale_order").fetchall() == [("S00001",)]
        assert placed.execute("SELECT count(*) FROM ir_mail_server WHERE active AND smtp_pass <> ''").fetchone() == (0,)
    assert (elsewhere.files / INVOICE_SHA1[:2] / INVOICE_SHA1).is_file()

    elsewhere.finish()

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, drill.leftovers, wrong) == ("passed", "", "", []), drill.sentence
    assert [one.name for one in drill.checks.filter(level=5)] == [
        "Database beside the other cluster",
        "Brought up in Falkenstein 1",
        "Deployment odoo-pilot elsewhere",
        "Modules elsewhere",
        "Harmless elsewhere",
    ]
    shop.point.refresh_from_db()
    assert (shop.point.state, shop.point.level) == ("verified", 5)
    assert drill.validated_at == up.up_at
    times = [drill.declared_at, drill.provisioned_at, drill.restored_at, drill.validated_at, drill.finished_at]
    assert times == sorted(one for one in times if one is not None)
    assert (elsewhere.left(), Rehearsal.objects.get().state) == ([], "gone")
    said = " ".join(map(str, AuditEvent.objects.values_list("body", flat=True)))
    said += " ".join(map(str, Job.objects.values_list("result", "order", "progress")))
    assert shop.recovered.superuser_url not in said
    assert "canary-mail" not in said


@pytest.mark.slow
def test_copy_that_does_not_hold_is_turned_back_before_anything_comes_up(elsewhere: Elsewhere) -> None:
    with psycopg.connect(doors.url_of(elsewhere.shop.recovered.superuser_url, database="northwind")) as connection:
        connection.execute("INSERT INTO sale_order (name, create_date) VALUES ('S00002', '2031-01-01')")
    elsewhere.recover()

    drill = elsewhere.finish()

    assert (drill.state, drill.sentence) == ("failed", "These checks failed: Newest orders.")
    assert (Rehearsal.objects.count(), elsewhere.cluster.effects, elsewhere.left()) == (0, [], [])
    assert drill.data.keys() == {"policy"}
    elsewhere.shop.point.refresh_from_db()
    assert elsewhere.shop.point.state == "broken"


def test_recovery_that_fails_leaves_nothing_elsewhere_and_says_nothing_of_the_point(elsewhere: Elsewhere) -> None:
    elsewhere.work(lambda: elsewhere.shop.clusters())
    status = {"phase": "Cluster is unrecoverable and needs manual intervention", "phaseReason": "exit status 1"}
    made = ObjectRef(API, "Cluster", elsewhere.shop.scene.namespace, "changecontrol-drill")
    elsewhere.shop.scene.kubernetes.say(made, status)

    drill = elsewhere.finish()

    assert (drill.state, drill.leftovers, Rehearsal.objects.count()) == ("failed", "", 0)
    assert "changecontrol-drill could not be recovered" in drill.trouble_found
    elsewhere.work(lambda: not elsewhere.shop.clusters())
    elsewhere.shop.point.refresh_from_db()
    assert (elsewhere.left(), elsewhere.shop.point.state) == ([], "copied")


def test_operator_is_asked_for_nothing_where_the_copy_could_not_go(elsewhere: Elsewhere) -> None:
    elsewhere.make_database("of somebody")

    drill = elsewhere.finish()

    sentence = f"There is a database “{NAME}” on that server already, and it stays as it is."
    assert (drill.state, drill.trouble_found, drill.leftovers) == ("failed", sentence, "")
    made = [one.ref.name for one in elsewhere.shop.scene.kubernetes.effects if one.ref.kind == "Cluster"]
    assert (made, elsewhere.databases()) == ([], [NAME])


@pytest.mark.slow
def test_place_that_is_taken_while_the_operator_recovers_is_left_alone(elsewhere: Elsewhere) -> None:
    elsewhere.recover()
    elsewhere.make_database("of somebody")

    drill = elsewhere.finish()

    sentence = f"There is a database “{NAME}” on that server already, and it stays as it is."
    assert (drill.state, drill.trouble_found, drill.leftovers, drill.checks.count()) == ("failed", sentence, "", 0)
    assert (elsewhere.left(), Rehearsal.objects.count()) == ([NAME], 0)


@pytest.mark.slow
def test_what_a_killed_attempt_placed_is_placed_anew_and_dropped(elsewhere: Elsewhere) -> None:
    elsewhere.make_database(f"changecontrol drill {elsewhere.drill.key}")
    for folder in (elsewhere.files, elsewhere.files.with_name(f".{NAME}.{elsewhere.drill.key}")):
        (folder / "aa").mkdir(parents=True)
        (folder / ".changecontrol-run").write_text(str(elsewhere.drill.key))
    elsewhere.recover()

    drill = elsewhere.finish()

    assert (drill.state, elsewhere.left()) == ("passed", []), drill.sentence


@pytest.mark.slow
def test_what_does_not_come_up_fails_the_drill_and_not_the_point(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.spoil_image(NEW)
    elsewhere.recover()

    drill = elsewhere.finish()

    assert (drill.state, drill.leftovers, answers(drill)["Brought up in Falkenstein 1"]) == ("failed", "", False)
    elsewhere.shop.point.refresh_from_db()
    assert (elsewhere.left(), elsewhere.shop.point.state, elsewhere.shop.point.level) == ([], "verified", 3)


@pytest.mark.slow
def test_what_stays_of_the_operators_cluster_fails_a_drill_that_came_up(elsewhere: Elsewhere) -> None:  # BCK-8
    elsewhere.recover()
    scene = elsewhere.shop.scene
    metadata = {"name": "recovery", "namespace": scene.namespace, "labels": {RUN_LABEL: run_of(elsewhere.drill)}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {}, "metadata": metadata}
    ref = scene.kubernetes.apply_as("cloudnative-pg", job).ref

    drill = elsewhere.finish()

    assert (drill.state, drill.leftovers) == ("failed", f"In the cluster there is still: {ref}.")
    assert set(answers(drill).values()) == {True}
    assert (elsewhere.left(), "cluster" in drill.data) == ([], True)
    scene.kubernetes.remove(ref)
    elsewhere.work(lambda: "cluster" not in Drill.objects.get(pk=drill.pk).data)


@pytest.mark.slow
def test_what_stays_of_the_rehearsal_fails_the_drill_and_the_operators_cluster_is_gone(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.ends_namespaces = False
    elsewhere.recover()

    drill = elsewhere.finish()

    namespace = Rehearsal.objects.get().namespace
    assert drill.state == "failed"
    assert drill.leftovers.startswith(f"The namespace {namespace} is still being deleted after 10 min; in it: ")
    assert (elsewhere.databases(), elsewhere.shop.clusters(), drill.data.keys()) == ([], [], {"policy"})


@pytest.mark.slow
def test_rehearsal_comes_up_and_is_judged_while_the_operators_cluster_is_away(elsewhere: Elsewhere) -> None:
    elsewhere.recover()
    elsewhere.work(lambda: Rehearsal.objects.exists())
    ends_at = clock.now() + timedelta(hours=1)
    script = elsewhere.shop.scene.kubernetes.script
    script.fail_before("*", AWAY, times=10_000, when=lambda call: clock.now() < ends_at)

    elsewhere.work(lambda: Rehearsal.objects.filter(state="gone").exists())
    meanwhile = (clock.now() < ends_at, elsewhere.drill.state, elsewhere.shop.clusters())
    drill = elsewhere.finish(step=timedelta(minutes=1))

    assert meanwhile == (True, "tearing_down", ["changecontrol-drill"])
    assert (drill.state, drill.leftovers, elsewhere.left()) == ("passed", "", []), drill.sentence
    assert drill.validated_at is not None
    assert drill.validated_at < ends_at


@pytest.mark.slow
def test_rehearsal_waits_for_its_own_cluster_and_the_operators_is_let_go_meanwhile(elsewhere: Elsewhere) -> None:
    elsewhere.recover()
    ends_at = clock.now() + timedelta(hours=1)
    elsewhere.cluster.script.fail_before("*", AWAY, times=10_000, when=lambda call: clock.now() < ends_at)

    elsewhere.work(lambda: not elsewhere.shop.clusters())
    elsewhere.work(lambda: AWAY.reason in Drill.objects.get(pk=elsewhere.drill.pk).sentence)
    drill = elsewhere.finish(step=timedelta(minutes=1))

    assert (drill.state, drill.leftovers, elsewhere.left()) == ("passed", "", []), drill.sentence


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [AWAY, DENIED], ids=["away", "denied"])
def test_what_is_never_removed_is_told_once_all_else_is_gone(elsewhere: Elsewhere, trouble: Any) -> None:
    elsewhere.recover()
    elsewhere.shop.scene.kubernetes.script.fail_before("ensure_deleted", trouble, times=10_000)
    elsewhere.work(lambda: Rehearsal.objects.filter(state="gone").exists())

    drill = elsewhere.finish(step=timedelta(minutes=10))

    assert (drill.state, drill.leftovers) == ("failed", f"{UNREMOVED} {trouble.reason}")
    assert (set(answers(drill).values()), elsewhere.left()) == ({True}, ["changecontrol-drill"])


def test_drill_that_kills_its_workers_left_nothing_elsewhere_where_nothing_was_placed(elsewhere: Elsewhere) -> None:
    elsewhere.work(lambda: elsewhere.shop.clusters())

    drill = killed(elsewhere)

    assert (drill.state, drill.leftovers) == ("failed", "")
    assert "Its workers ended in the middle of this step, again and again." in drill.trouble_found


@pytest.mark.slow
def test_drill_that_kills_its_workers_with_a_rehearsal_says_so_and_has_it_taken_down(elsewhere: Elsewhere) -> None:
    elsewhere.recover()
    elsewhere.work(lambda: Rehearsal.objects.exists())

    drill = killed(elsewhere)

    assert (drill.state, drill.leftovers) == ("failed", "")
    assert "Its workers ended in the middle of this step, again and again." in drill.trouble_found
    assert (elsewhere.left(), Rehearsal.objects.get().state) == ([], "gone")


@pytest.mark.slow
def test_drill_that_kills_its_workers_as_it_clears_away_says_so_and_is_cleared_away_later(elsewhere: Elsewhere) -> None:
    elsewhere.recover()
    elsewhere.work(lambda: Drill.objects.filter(state="tearing_down").exists())

    drill = killed(elsewhere)

    assert (drill.state, drill.leftovers) == ("failed", UNCLEARED)
    elsewhere.work(lambda: Message.objects.filter(subject__contains="is gone").exists(), step=timedelta(minutes=10))
    assert (elsewhere.left(), Rehearsal.objects.get().state, drill.next_due_at) == ([], "gone", None)


def killed(elsewhere: Elsewhere) -> Drill:
    """Have the last of many workers end in the middle of a step."""
    held: dict[str, Any] = {"lease_token": uuid.uuid4(), "lease_until": clock.now(), "next_due_at": clock.now()}
    saved(elsewhere.drill, attempts=engine.ATTEMPTS_LIMIT - 1, **held)
    return elsewhere.finish()
