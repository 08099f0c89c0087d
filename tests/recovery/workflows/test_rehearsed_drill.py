"""Drills of level 5: a real copy on another server, the environment up elsewhere, and all of it gone (BCK-5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db.models import Model

from changecontrol import clock
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.errors import Conflict, Invalid
from changecontrol.models import AuditEvent, Cluster, Job, Message, Rehearsal, Run, RunTarget, User
from deployments.adapters.fakes.git import BareRepository
from recovery import doors
from recovery.actions.backups import ask_backup
from recovery.actions.drills import start_drill
from recovery.models import BackupPolicy, Drill, RecoveryPoint
from recovery.queries.drills import levels_of
from recovery.queries.points import coverage_of
from tests.deployments.workflows.scene import BAD, NEW, manifests
from tests.factories.changes import assess, submitted_change
from tests.factories.estate import SmallEstate, actor
from tests.recovery.workflows.conftest import Shop

pytestmark = pytest.mark.slow

PATH = "rehearsals/production"
NAME = "northwind_elsewhere"
CANARIES = ("AGE-SECRET-KEY", "canary-mail")

_cluster: FakeKubernetes


def open_cluster(*, credential: str, secrets: object) -> FakeKubernetes:
    return _cluster


@dataclass
class Elsewhere:
    """The other cluster, a point of what a rollout brought to production, and what lies on the other server."""

    shop: Shop
    rio: User
    cluster: FakeKubernetes
    git: BareRepository

    def commit(self, image: str = NEW) -> str:
        text = manifests(image, cohorts=["pilot"])
        return self.git.commit({f"{PATH}/all.yaml": text}, message="For Falkenstein.", author="linus@example.com")

    def back_up(self, commit: str) -> RecoveryPoint:
        """Take a point of production as a rollout of the commit left it."""
        rolled_out(self.shop.estate, commit)
        self.shop.sell()
        place = self.shop.estate.production
        ask_backup(actor=actor(self.rio), environment_id=place.pk, reason="A point.", at=clock.now())
        self.shop.work(lambda: RecoveryPoint.objects.exists())
        point = RecoveryPoint.objects.get()
        self.shop.work(lambda: coverage_of(place).holds(point.consistent_at))
        return point

    def start(self, point: RecoveryPoint, **words: Any) -> Drill:
        place = self.shop.estate.production
        asked = {"level": 5, "target_at": point.consistent_at, "at": clock.now(), **words}
        return start_drill(actor=actor(self.rio), environment_id=place.pk, **asked)

    def finish(self, drill: Drill) -> Drill:
        self.shop.work(lambda: Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists())
        drill.refresh_from_db()
        return drill

    def databases(self) -> list[str]:
        with psycopg.connect(self.shop.server.superuser_url) as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datname = %s", [NAME]).fetchall()
        return [name for (name,) in rows]

    @property
    def files(self) -> Path:
        """Where workloads elsewhere find attachments."""
        return self.shop.folder / "elsewhere-files" / NAME

    def beside(self) -> list[str]:
        return [path.name for path in self.files.parent.iterdir()] if self.files.parent.exists() else []

    def make_database(self, mark: str) -> None:
        with psycopg.connect(self.shop.server.superuser_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {NAME}")
            connection.execute(f"COMMENT ON DATABASE {NAME} IS '{mark}'")


def rolled_out(estate: SmallEstate, commit: str) -> None:
    at = clock.now()
    change = assess(submitted_change(estate, at=at), at=at, commit=commit)
    run = Run.objects.create(
        change=change, revision=change.revision, plan=change.plan, kind="rollout", state="succeeded", created_at=at,
        finished_at=at,
    )  # fmt: skip
    RunTarget.objects.create(run=run, environment=estate.production, wave=0, workload="Deployment/odoo")


def saved(row: Model, **words: Any) -> None:
    type(row)._default_manager.filter(pk=row.pk).update(**words)


def answers(drill: Drill) -> dict[str, bool]:
    return {one.name: one.is_passed for one in drill.checks.filter(level=5)}


@pytest.fixture
def elsewhere(shop: Shop, rio: User, settings: Any, tmp_path: Path) -> Elsewhere:
    global _cluster
    from deployments import rendering

    rendering._remembered.clear()
    _cluster = FakeKubernetes(namespaces=["somebody-else"], clock=clock.now, ready_after=timedelta(seconds=2))
    settings.ADAPTERS = {**settings.ADAPTERS, "kubernetes": f"{__name__}.open_cluster"}
    settings.GIT_LOCAL_PATHS_ALLOWED = True
    settings.GIT_MIRRORS = str(tmp_path / "mirrors")
    git = BareRepository(tmp_path / "estate.git")
    saved(shop.estate.source, url=git.url)
    Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential="env:KUBECONFIG_DE_1")
    words = {"rehearsal_cluster": "de-1", "rehearsal_path": PATH, "rehearsal_database": NAME}
    addresses = {
        "rehearsal_target": shop.policy.restore_target,
        "rehearsal_filestore": f"file://{tmp_path}/elsewhere-files",
    }
    saved(shop.policy, **addresses, **words)
    return Elsewhere(shop, rio, _cluster, git)


def test_an_environment_comes_up_elsewhere_from_its_point_and_nothing_of_it_stays(elsewhere: Elsewhere) -> None:
    shop = elsewhere.shop
    commit = elsewhere.commit()
    point = elsewhere.back_up(commit)
    drill = elsewhere.start(point)

    shop.work(lambda: Rehearsal.objects.filter(state="up").exists())

    up = Rehearsal.objects.get()
    assert (up.key, up.commit, up.path, up.cluster.slug) == (drill.key, commit, PATH, "de-1")
    with psycopg.connect(doors.url_of(shop.server.superuser_url, database=NAME)) as placed:
        assert placed.execute("SELECT count(*) FROM sale_order").fetchone() == (1,)
        # Nobody sends mail from there.
        assert placed.execute("SELECT count(*) FROM ir_mail_server WHERE active AND smtp_pass <> ''").fetchone() == (0,)

    assert [(elsewhere.files / name).is_file() for name in shop.files] == [True]
    assert elsewhere.beside() == [NAME]

    elsewhere.finish(drill)

    wrong = [one.sentence for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, drill.trouble_found, drill.leftovers, wrong) == ("passed", "", "", [])
    assert answers(drill) == {
        "Database beside the other cluster": True,
        "Brought up in Falkenstein 1": True,
        "Deployment odoo-pilot elsewhere": True,
        "Modules elsewhere": True,
        "Harmless elsewhere": True,
    }
    assert drill.checks.get(name="Modules elsewhere").sentence == "2 modules installed, and none left to upgrade."
    assert "this installation has none" in drill.checks.get(name="Database beside the other cluster").sentence
    assert NEW.partition("@")[2] in drill.checks.get(name="Deployment odoo-pilot elsewhere").sentence
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 5)
    assert drill.validated_at == up.up_at
    times = [drill.declared_at, drill.provisioned_at, drill.restored_at, drill.validated_at, drill.finished_at]
    assert times == sorted(one for one in times if one is not None)
    gone = Rehearsal.objects.get()
    assert (gone.state, elsewhere.databases(), elsewhere.beside(), shop.left_over()) == ("gone", [], [], [])
    assert elsewhere.cluster.objects() == {}
    kept = " ".join(
        map(str, [*AuditEvent.objects.values_list("body", flat=True), *Job.objects.values_list("result", "order")])
    )
    assert not [one for one in CANARIES if one in kept]


def test_what_does_not_come_up_fails_the_drill_and_not_the_point(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.spoil_image(BAD)
    point = elsewhere.back_up(elsewhere.commit(BAD))

    drill = elsewhere.finish(elsewhere.start(point))

    assert (drill.state, drill.leftovers) == ("failed", "")
    assert answers(drill) == {
        "Database beside the other cluster": True,
        "Brought up in Falkenstein 1": False,
        "Deployment odoo-pilot elsewhere": False,
    }
    assert "ImagePullBackOff" in drill.checks.get(name="Brought up in Falkenstein 1").sentence
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 3)
    assert drill.corrective_actions.count() == 1
    assert (Rehearsal.objects.get().state, elsewhere.databases(), elsewhere.cluster.objects()) == ("gone", [], {})


def test_what_workloads_elsewhere_did_to_the_copy_is_asked(elsewhere: Elsewhere) -> None:
    point = elsewhere.back_up(elsewhere.commit())
    drill = elsewhere.start(point)
    elsewhere.shop.work(lambda: Rehearsal.objects.filter(state="up").exists())
    with psycopg.connect(doors.url_of(elsewhere.shop.server.superuser_url, database=NAME)) as placed:
        placed.execute("UPDATE ir_module_module SET state = 'to upgrade' WHERE name = 'sale'")
        placed.execute("UPDATE ir_mail_server SET active = true, smtp_host = 'mail.northwind.example'")

    elsewhere.finish(drill)

    wrong = {one.name: one.sentence for one in drill.checks.filter(is_passed=False)}
    assert list(wrong) == ["Modules elsewhere", "Harmless elsewhere"]
    assert wrong["Modules elsewhere"] == "Left to be installed, upgraded or removed: sale."
    assert "mail" in wrong["Harmless elsewhere"]
    assert (drill.state, elsewhere.databases()) == ("failed", [])
    point.refresh_from_db()
    assert (point.state, point.level) == ("verified", 3)


def test_a_database_of_somebody_else_stays_and_nothing_is_brought_up(elsewhere: Elsewhere) -> None:
    point = elsewhere.back_up(elsewhere.commit())
    elsewhere.make_database("changecontrol drill of-another")

    drill = elsewhere.finish(elsewhere.start(point))

    assert_refused(elsewhere, drill, f"There is a database “{NAME}” on that server already, and it stays as it is.")
    assert elsewhere.databases() == [NAME]


def test_a_folder_of_somebody_else_stays_and_nothing_is_brought_up(elsewhere: Elsewhere) -> None:
    point = elsewhere.back_up(elsewhere.commit())
    (elsewhere.files / "aa").mkdir(parents=True)
    (elsewhere.files / ".changecontrol-run").write_text("another")

    drill = elsewhere.finish(elsewhere.start(point))

    assert_refused(elsewhere, drill, f"There is a folder {elsewhere.files} already, and it stays as it is.")
    assert sorted(path.name for path in elsewhere.files.iterdir()) == [".changecontrol-run", "aa"]


def test_its_own_name_on_its_own_server_is_refused_though_it_is_free(elsewhere: Elsewhere) -> None:
    shop = elsewhere.shop
    point = elsewhere.back_up(elsewhere.commit())
    saved(shop.policy, rehearsal_database="")
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE northwind RENAME TO northwind_lost")

    drill = elsewhere.finish(elsewhere.start(point))

    wanted = "That is the server which “northwind” runs on: name another server, or another name there."
    assert_refused(elsewhere, drill, wanted)


def assert_refused(elsewhere: Elsewhere, drill: Drill, sentence: str) -> None:
    """Hold that nothing was done, or left, and that nothing is said of the point."""
    assert (drill.state, drill.trouble_found, drill.leftovers) == ("failed", sentence, "")
    assert (drill.checks.count(), Rehearsal.objects.count(), elsewhere.cluster.effects) == (0, 0, [])
    drill.point.refresh_from_db()
    assert drill.point.state == "copied"


def test_what_a_killed_attempt_placed_is_placed_anew_and_dropped(elsewhere: Elsewhere) -> None:
    point = elsewhere.back_up(elsewhere.commit())
    drill = elsewhere.start(point)
    elsewhere.make_database(f"changecontrol drill {drill.key}")
    for folder in (elsewhere.files, elsewhere.files.with_name(f".{NAME}.{drill.key}")):
        (folder / "aa").mkdir(parents=True)
        (folder / ".changecontrol-run").write_text(str(drill.key))

    elsewhere.finish(drill)

    assert (drill.state, elsewhere.databases(), elsewhere.beside()) == ("passed", [], [])


def test_what_stays_elsewhere_is_a_failed_drill(elsewhere: Elsewhere) -> None:
    elsewhere.cluster.ends_namespaces = False
    point = elsewhere.back_up(elsewhere.commit())
    drill = elsewhere.start(point)

    shop = elsewhere.shop
    shop.work(lambda: any("deletionTimestamp" in one["metadata"] for one in elsewhere.cluster.objects().values()))
    clock.set_offset(clock._offset + timedelta(minutes=11))
    elsewhere.finish(drill)

    namespace = Rehearsal.objects.get().namespace
    assert drill.state == "failed"
    assert drill.leftovers.startswith(f"The namespace {namespace} is still being deleted after 10 min; in it: ")
    assert drill.sentence.startswith("It left something behind: ")
    assert elsewhere.databases() == []


def ended(drill: Drill) -> bool:
    """Tell whether a drill is over. What is tried again and again is so at once: nobody waits here for that."""
    clock.set_offset(clock._offset + timedelta(seconds=60))
    return Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists()


def test_what_a_server_that_is_away_keeps_is_a_leftover_and_goes_once_it_answers(elsewhere: Elsewhere) -> None:
    point = elsewhere.back_up(elsewhere.commit())
    drill = elsewhere.start(point)
    shop = elsewhere.shop

    shop.work(lambda: Rehearsal.objects.filter(state="up").exists())
    secret = shop.folder / "elsewhere-secret"
    secret.write_text("postgresql://127.0.0.1:1/nothing")
    secret.chmod(0o600)
    BackupPolicy.objects.update(rehearsal_target=f"file:{secret}")
    shop.work(lambda: ended(drill))
    drill.refresh_from_db()

    assert drill.state == "failed"
    assert drill.leftovers.startswith("What was placed elsewhere is perhaps still there.")
    assert elsewhere.databases() == [NAME]

    clearings = Job.objects.filter(kind="drill_clearing")
    clock.set_offset(clock._offset + timedelta(hours=1))
    shop.work(lambda: ended(drill) and clearings.filter(state="failed").count() == 2)
    BackupPolicy.objects.update(rehearsal_target=shop.policy.restore_target)
    clock.set_offset(clock._offset + timedelta(hours=1))
    shop.work(lambda: Message.objects.filter(subject__contains="is gone").exists())

    verdict, due_at = drill.sentence, Drill.objects.get(pk=drill.pk).next_due_at
    drill.refresh_from_db()
    assert (elsewhere.databases(), elsewhere.beside(), clearings.count()) == ([], [], 3)
    assert (drill.sentence, due_at, drill.state) == (verdict, None, "failed")


def test_what_a_drill_that_cannot_go_on_has_placed_goes_too(elsewhere: Elsewhere) -> None:
    point = elsewhere.back_up(elsewhere.commit())
    drill = elsewhere.start(point)
    elsewhere.shop.work(lambda: Job.objects.filter(kind="drill", state="done").exists())
    assert elsewhere.databases() == [NAME]
    saved(Cluster.objects.get(slug="de-1"), slug="de-2")

    elsewhere.shop.work(lambda: ended(drill))

    drill.refresh_from_db()
    sentence = "The cluster in which the environment is brought up is not in the estate any more."
    assert (drill.state, drill.trouble_found, drill.leftovers) == ("failed", sentence, "")
    assert drill.checks.filter(is_passed=True).exists()
    assert (elsewhere.databases(), elsewhere.beside(), Rehearsal.objects.count()) == ([], [], 0)


def test_level_5_is_refused_where_it_cannot_be_held(elsewhere: Elsewhere) -> None:
    shop = elsewhere.shop
    shop.sell()
    ask_backup(actor=actor(elsewhere.rio), environment_id=shop.estate.production.pk, reason="A point.", at=clock.now())
    shop.work(lambda: RecoveryPoint.objects.exists())
    point = RecoveryPoint.objects.get()
    shop.work(lambda: coverage_of(shop.estate.production).holds(point.consistent_at))

    with pytest.raises(Conflict, match="names no Git commit"):
        elsewhere.start(point)
    with pytest.raises(Invalid, match="A sabotaged copy is brought up nowhere"):
        elsewhere.start(point, sabotage="flip")
    saved(shop.policy, rehearsal_cluster="")
    with pytest.raises(Invalid, match="names no other cluster"):
        elsewhere.start(point)

    assert [one.level for one in levels_of(shop.estate.production) if not one.refusal] == [1, 2, 3]
    assert Drill.objects.count() == 0
