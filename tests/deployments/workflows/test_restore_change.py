"""A restore into production is a change: safety backup, restore beside, cut-over by its rollout, the old one kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.access import scope_of, system_actor
from changecontrol.actions.runs import ask_run
from changecontrol.models import AuditEvent, ChangeRequest, Environment, GateResult, Message, Run
from changecontrol.ports import ObjectRef
from changecontrol.templatetags.times import exact_moment
from changecontrol.workflow import engine
from deployments.views.controls import controls_of
from recovery.actions.backups import cancel_backup, move_backup
from recovery.actions.points import record_point
from recovery.actions.restores import cancel_restore
from recovery.models import BackupPolicy, BackupRun, CutOver, RecoveryPoint, Restore
from recovery.queries.attachments import copy_for
from recovery.queries.cut_overs import database_at
from recovery.workflows.cut_over import WATCH_RUN, CutOverWork
from tests.deployments.workflows.scene import GOOD, Scene, pass_time
from tests.factories import actor, submitted_change
from tests.factories.estate import SmallEstate
from tests.factories.recovery import copy_attachments, new_point, recovery_owner, restored

NAME = "northwind_monday"
WAVES = [{"name": "All", "environments": ["production"], "bake_seconds": 5}]
BEFORE = ("northwind", "s3://attachments/northwind")
AFTER = (NAME, f"file:///var/lib/restored/northwind/{NAME}")


@pytest.fixture
def shop(scene: Scene) -> Scene:
    production = scene.estate.production
    production.database = "northwind"
    production.save(update_fields=["database"])
    scene.deployed(GOOD, message="db_name = northwind")
    return scene


def asked(scene: Scene, *, message: str = f"db_name = {NAME}", **answers: Any) -> ChangeRequest:
    """Ask to go back to the newest point, by a commit that names the new database."""
    scene.commit(GOOD, message=message)
    target_at = RecoveryPoint.objects.latest("consistent_at").consistent_at
    words = {"restore_to": target_at.isoformat(), "restore_database": NAME, "keep_hours": 48, "waves": WAVES, **answers}
    change = submitted_change(scene.estate, at=scene.now(), kind="restore", commit="", **words)
    return scene.assess(change)


def approved(scene: Scene, **answers: Any) -> ChangeRequest:
    change = asked(scene, **answers)
    assert change.state == "authorize", change.problem
    return scene.approve(change)


def look(scene: Scene, *, limit: int = 8) -> None:
    """Let both sides look at what is there, as long as one has something to do."""
    for _ in range(limit):
        CutOverWork().find(scene.now())
        engine.drain(CutOverWork(), budget_seconds=30)
        try:
            scene.work(until=lambda: False, limit=2, step=3)
        except AssertionError:
            continue


def back_up(scene: Scene, *, is_good: bool = True) -> BackupRun:
    """Play the worker that takes the safety backup."""
    run = BackupRun.objects.latest("pk")
    move_backup(run, "start", sentence="It runs.", actor=system_actor(), at=scene.now())
    if is_good:
        record_point(run, point=new_point("safety", scene.now()), actor=system_actor(), at=scene.now())
    else:
        move_backup(run, "fail", sentence="The store is full.", actor=system_actor(), at=scene.now())
    return run


def cut_over() -> CutOver:
    return CutOver.objects.latest("pk")


def brought_back(scene: Scene) -> None:
    """Carry the safety backup and the restore out; the rollout may begin."""
    look(scene)
    back_up(scene)
    look(scene)
    restored(Restore.objects.get())
    watch()


def baking(scene: Scene) -> Run:
    """Let the rollout bake for an hour, and recovery look at it."""
    approved(scene, waves=[{**WAVES[0], "bake_seconds": 3600}])
    brought_back(scene)
    run = scene.until("baking", "paused")
    assert run.state == "baking", run.sentence
    watch()
    return run


def watch() -> None:
    """Let recovery look at the rollout that it watches."""
    pass_time(WATCH_RUN.total_seconds())
    CutOverWork().find(clock.now())
    engine.drain(CutOverWork(), budget_seconds=30)


def in_use(scene: Scene) -> tuple[str, str]:
    """Return the database and the folder of attachments that estate and policy name."""
    policy = BackupPolicy.objects.active().get(environment=scene.estate.production)
    return Environment.objects.get(pk=scene.estate.production.pk).database, policy.filestore


def test_the_plan_says_what_comes_back_what_is_lost_and_what_is_kept(shop: Scene) -> None:
    change = asked(shop)

    assert change.state == "authorize", change.problem
    assert change.plan is not None
    point = RecoveryPoint.objects.latest("consistent_at")
    assert change.plan.content["restore"] == {
        "environment": "production",
        "point": point.key,
        "to": point.consistent_at.isoformat(),
        "from_database": "northwind",
        "to_database": NAME,
        "to_filestore": f"file:///var/lib/restored/northwind/{NAME}",
        "server": "file:/run/secrets/northwind-restores",
        "keep_hours": 48,
    }
    rollback = change.plan.content["rollback"]
    assert rollback["class"] == "R2"
    assert "which is kept for 48 hours" in rollback["how"]
    gates = set(GateResult.objects.filter(change=change).values_list("gate", flat=True))
    assert "cut_over" in gates
    assert not gates & {"backup_freshness", "drill_age"}


def test_a_restore_whose_author_plans_no_waves_moves_everything_in_one(shop: Scene) -> None:  # BCK-4
    change = asked(shop, waves=[])

    assert change.state == "authorize", change.problem
    assert change.plan is not None
    waves = [(one["name"], one["environments"], one["cohorts"]) for one in change.plan.content["waves"]]
    assert waves == [("All at once", ["production"], [])]
    targets = {(one["workload"], one["cohort"], one["wave"]) for one in change.plan.content["targets"]}
    assert targets == {("", "", 0), ("Deployment/odoo-pilot", "pilot", 0), ("Deployment/odoo-rest", "rest", 0)}


def test_a_restore_in_several_waves_is_refused_since_orders_would_go_to_two_databases(shop: Scene) -> None:  # BCK-4
    pilot = {"name": "Pilot", "environments": ["production"], "cohorts": ["pilot"], "bake_seconds": 5}

    change = asked(shop, waves=[pilot, *WAVES])

    assert (change.state, change.problem) == (
        "draft",
        "production is restored in 2 waves, “Pilot” and “All”: between them some of it would write to "
        f"“{NAME}” and the rest to “northwind”, and what the rest wrote would be lost. Put all of it in one wave, or "
        "plan no waves.",
    )


def test_database_comes_back_beside_what_runs_before_anything_is_put_in_place(shop: Scene) -> None:  # BCK-4
    change = approved(shop)

    look(shop)
    assert (shop.run().state, shop.run().step) == ("preflight", "prepare")
    assert shop.run().sentence == "The safety backup is under way."
    assert not Restore.objects.exists()
    back_up(shop)
    look(shop)
    restore = Restore.objects.get()
    assert (restore.purpose, restore.target_database, restore.is_neutralised) == ("production", NAME, False)
    assert restore.asked_by == shop.estate.ada
    assert shop.cluster.effects == []
    change.refresh_from_db()
    assert change.state == "scheduled"
    assert BackupRun.objects.latest("pk").origin == "before a restore"
    restored(restore)
    look(shop)
    run = shop.until("succeeded", "paused")
    look(shop)

    assert run.state == "succeeded", run.sentence
    config = shop.cluster.objects()[ObjectRef("v1", "ConfigMap", shop.estate.production.namespace, "odoo")]
    assert config["data"] == {"message": f"db_name = {NAME}"}
    assert cut_over().state == "kept"
    kept_until = cut_over().kept_until
    assert kept_until is not None
    assert run.finished_at is not None
    assert kept_until - run.finished_at >= timedelta(hours=48)
    production = Environment.objects.get(pk=shop.estate.production.pk)
    assert production.database == NAME
    # What is brought back from before has the database that was in use then.
    times = (restore.target_at, kept_until, shop.now())
    assert [database_at(production, at) for at in times] == ["northwind", NAME, NAME]
    policy = BackupPolicy.objects.active().get(environment=shop.estate.production)
    assert (policy.version, policy.filestore) == (2, f"file:///var/lib/restored/northwind/{NAME}")


def test_estate_and_backups_follow_when_the_rollout_begins_and_not_when_it_has_succeeded(shop: Scene) -> None:  # BCK-4
    run = baking(shop)

    assert in_use(shop) == AFTER
    made = cut_over()
    assert (made.state, made.in_place_at) == ("ready", run.wave_opened_at)
    assert made.in_place_at is not None
    production = Environment.objects.get(pk=shop.estate.production.pk)
    # What is taken in while it bakes is in the new one, and comes back with it.
    times = [made.in_place_at - timedelta(microseconds=1), made.in_place_at, shop.now()]
    assert [database_at(production, at) for at in times] == ["northwind", NAME, NAME]
    pass_time(3600)
    shop.until("succeeded")
    watch()
    assert (cut_over().state, cut_over().in_place_at) == ("kept", run.wave_opened_at)


def test_a_run_that_is_paused_while_it_bakes_goes_on_as_it_was_approved(shop: Scene) -> None:  # APR-9, BCK-4
    run = baking(shop)
    cy = actor(shop.estate.cy)
    ask_run(actor=cy, run_id=run.pk, verb="pause", reason="A look.", at=shop.now())
    shop.until("paused")

    ask_run(actor=cy, run_id=run.pk, verb="resume", reason="It is fine.", at=shop.now())
    shop.until("baking")
    pass_time(3600)
    run = shop.until("succeeded", "paused")

    assert run.state == "succeeded", run.sentence
    assert in_use(shop) == AFTER


def words_of(run: Run, verb: str, *, estate: SmallEstate) -> str:
    """Return what a person reads before they ask a run for something."""
    offered = controls_of(run, list(run.targets.all()), scope=scope_of(actor(estate.cy)), rollback_class="R2")
    return next(str(one["consequence"]) for one in offered.rows if one["verb"] == verb)


def test_a_rollback_while_it_bakes_gives_the_old_database_back_with_all_its_time(shop: Scene) -> None:  # BCK-4
    run = baking(shop)
    opened_at = run.wave_opened_at
    assert opened_at is not None
    told = words_of(run, "roll_back", estate=shop.estate)
    assert f"“northwind” is the database again, as it was left at {exact_moment(opened_at)}" in told
    assert f"what was written since is in “{NAME}” alone, which stays." in told

    ask_run(actor=actor(shop.estate.cy), run_id=run.pk, verb="roll_back", reason="It is slow.", at=shop.now())
    shop.until("rolled_back")
    watch()

    assert in_use(shop) == BEFORE
    assert (cut_over().state, cut_over().in_place_at) == ("abandoned", None)
    assert cut_over().sentence == f"Its run ended as “rolled back”. “{NAME}” stays, and nothing uses it."
    production = Environment.objects.get(pk=shop.estate.production.pk)
    assert {database_at(production, at) for at in (opened_at, shop.now())} == {"northwind"}
    assert list(BackupPolicy.objects.order_by("version").values_list("version", "is_active", "filestore")) == [
        (1, False, BEFORE[1]),
        (2, False, AFTER[1]),
        (3, True, BEFORE[1]),
    ]


def test_attachments_that_were_copied_while_it_baked_go_with_no_moment_of_the_old_database(shop: Scene) -> None:
    production = shop.estate.production
    copy_attachments(production, shop.now())
    run = baking(shop)
    assert run.wave_opened_at is not None
    baked_at = run.wave_opened_at + timedelta(seconds=1)
    copy_attachments(production, baked_at + timedelta(minutes=1))
    point = RecoveryPoint.objects.get(key="nightly")
    while_it_bakes = copy_for(point, baked_at)

    ask_run(actor=actor(shop.estate.cy), run_id=run.pk, verb="roll_back", reason="It is slow.", at=shop.now())
    shop.until("rolled_back")
    watch()
    copy_attachments(production, shop.now())
    once_it_is_back = copy_for(point, baked_at)
    just_before = copy_for(point, run.wave_opened_at - timedelta(seconds=1))

    assert while_it_bakes is not None
    assert while_it_bakes.policy.filestore == AFTER[1]
    assert once_it_is_back is not None
    assert once_it_is_back.policy.filestore == BEFORE[1]
    assert just_before == once_it_is_back


def test_a_run_that_is_aborted_while_it_bakes_stays_on_the_new_database_until_it_is_taken_back(shop: Scene) -> None:
    run = baking(shop)
    cy = actor(shop.estate.cy)
    ask_run(actor=cy, run_id=run.pk, verb="abort", reason="Stop.", at=shop.now())
    shop.until("aborted")
    watch()
    aborted = (in_use(shop), cut_over().state)

    ask_run(actor=cy, run_id=run.pk, verb="roll_back", reason="Back.", at=shop.now())
    shop.until("rolled_back")
    watch()
    watch()

    assert aborted == (AFTER, "abandoned")
    assert in_use(shop) == BEFORE
    assert (cut_over().state, cut_over().in_place_at) == ("abandoned", None)
    told = Message.objects.filter(subject__endswith="The old database is in use")
    assert told.values("recipient").distinct().count() == told.count() > 0


def test_the_old_database_is_kept_as_long_as_was_said_and_then_told_of(shop: Scene) -> None:
    approved(shop)
    look(shop)
    back_up(shop)
    look(shop)
    restored(Restore.objects.get())
    look(shop)
    shop.until("succeeded")
    look(shop)

    pass_time(47.5 * 3600)
    engine.drain(CutOverWork(), budget_seconds=30)
    before = cut_over().state
    pass_time(3600)
    engine.drain(CutOverWork(), budget_seconds=30)

    assert (before, cut_over().state) == ("kept", "over")
    told = Message.objects.filter(subject__contains="An old database may be removed")
    assert told.exists()


def test_a_safety_backup_that_is_canceled_stops_the_run_and_says_who_canceled_it(shop: Scene) -> None:
    approved(shop)
    look(shop)
    rio, backup = recovery_owner(shop.estate, "rae"), BackupRun.objects.get(state="queued")
    cancel_backup(actor=actor(rio), run_id=backup.pk, reason="The shop is slow.", at=shop.now())
    look(shop)

    assert shop.run().sentence == (
        "The safety backup was canceled, and nothing was restored. Rae canceled it: The shop is slow."
    )
    assert not Restore.objects.exists()


def test_a_safety_backup_that_fails_stops_the_run_and_a_resumed_run_tries_again(shop: Scene) -> None:
    approved(shop)
    look(shop)
    back_up(shop, is_good=False)
    look(shop)

    run = shop.run()
    assert (run.state, run.pause_reason) == ("paused", "needs_attention")
    assert run.sentence == "The safety backup failed, and nothing was restored. The store is full."
    assert not Restore.objects.exists()
    ask_run(actor=actor(shop.estate.cy), run_id=run.pk, verb="resume", reason="There is room.", at=shop.now())
    look(shop)
    assert [one.state for one in CutOver.objects.order_by("pk")] == ["failed", "backing_up"]
    back_up(shop)
    look(shop)
    assert Restore.objects.count() == 1


def test_a_run_that_is_aborted_stops_the_restore_and_nothing_is_put_in_place(shop: Scene) -> None:
    change = approved(shop)
    look(shop)
    back_up(shop)
    look(shop)

    ask_run(actor=actor(shop.estate.cy), run_id=shop.run().pk, verb="abort", reason="Not today.", at=shop.now())
    look(shop)

    assert shop.run().state == "aborted"
    assert (cut_over().state, Restore.objects.get().state) == ("abandoned", "canceled")
    assert cut_over().sentence == "Its run ended as “aborted”."
    assert shop.cluster.effects == []
    assert Environment.objects.get(pk=shop.estate.production.pk).database == "northwind"
    change.refresh_from_db()
    assert change.close_code != "successful"


def test_a_restore_that_somebody_cancels_stops_the_run(shop: Scene) -> None:
    approved(shop)
    look(shop)
    back_up(shop)
    look(shop)

    ada = actor(shop.estate.ada, at=shop.now())
    cancel_restore(actor=ada, restore_id=Restore.objects.get().pk, reason="Wrong hour.", at=shop.now())
    look(shop)

    assert (shop.run().state, shop.run().pause_reason) == ("paused", "needs_attention")
    assert "canceled it: Wrong hour." in shop.run().sentence


def test_a_point_that_is_gone_since_the_approval_is_drift(shop: Scene) -> None:
    approved(shop)
    point = RecoveryPoint.objects.latest("consistent_at")
    RecoveryPoint.objects.filter(pk=point.pk).update(state="broken")

    look(shop)

    assert (shop.run().state, shop.run().pause_reason) == ("paused", "plan_drift")
    assert not CutOver.objects.exists()


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"message": "db_name = northwind"}, f"No object of the commit names the database “{NAME}”"),
        ({"restore_to": "2026-11-22T08:00:00+00:00"}, "is before the first time that can be restored"),
        ({"restore_database": "northwind", "message": "db_name = northwind"}, "is a database in use"),
    ],
    ids=["commit", "time", "name"],
)
def test_what_cannot_be_put_in_place_goes_back_to_its_author(
    shop: Scene, answers: dict[str, Any], sentence: str
) -> None:
    change = asked(shop, **answers)

    assert change.state == "draft"
    assert sentence in change.problem


def test_without_what_it_needs_the_assessment_says_what_is_missing(shop: Scene) -> None:
    BackupPolicy.objects.update(restore_target="")

    change = asked(shop)

    assert (change.state, change.problem) == (
        "draft",
        "The backup policy names no server for restored databases: name one there first.",
    )


def test_each_step_is_in_the_trail(shop: Scene) -> None:  # AUD-1
    change = approved(shop)
    look(shop)
    back_up(shop)
    look(shop)
    restored(Restore.objects.get())
    look(shop)
    shop.until("succeeded")
    look(shop)

    tags = list(AuditEvent.objects.filter(change=change, tag__startswith="recovery:").values_list("tag", flat=True))
    assert tags == ["recovery:cut_over:begun", *["recovery:cut_over:moved"] * 4]
