"""What stops a rollout, and what it says then: one test for each kind of failure of the far side."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml

from changecontrol.actions.runs import ask_run
from changecontrol.actions.submissions import revise_change
from changecontrol.adapters.fakes.script import Call
from changecontrol.errors import Permanent, Transient
from changecontrol.models import EnvironmentLock, Freeze, GateResult, Message, Run, Window
from changecontrol.ports import NotAllowed, ObjectRef
from tests.deployments.workflows.scene import BAD, GOOD, NEW, Scene, pass_time
from tests.factories import actor

CLUSTER_PROBLEMS: dict[str, Transient | Permanent] = {
    "403": NotAllowed("The executor may not apply Deployment odoo: it lacks the right to patch deployments.apps."),
    "429": Transient("The cluster asks for fewer requests.", after=7),
    "500": Transient("The cluster could not apply Deployment odoo now (HTTP 500)."),
    "timeout": Transient("The cluster did not answer within 10 s."),
    "expired token": NotAllowed("The cluster no longer accepts this credential. Renew it where it is stored."),
}


def ask(scene: Scene, verb: str, reason: str = "Because.") -> None:
    ask_run(actor=actor(scene.estate.cy), run_id=scene.run().pk, verb=verb, reason=reason, at=scene.now())


def freeze(scene: Scene, *, hours: float = 1) -> Freeze:
    return Freeze.objects.create(
        tenant=scene.estate.tenant,
        name="Peak trading",
        reason="Black Friday.",
        starts_at=scene.now(),
        ends_at=scene.now() + timedelta(hours=hours),
        opened_by=scene.estate.ben,
    )


def real_apply(call: Call) -> bool:
    return not call.words.get("dry_run") and call.args[0].kind == "Deployment"


@pytest.mark.parametrize("problem", CLUSTER_PROBLEMS)
def test_a_cluster_that_never_answers_defers_the_targets_and_pauses_the_run(  # RUN-4, RUN-8
    scene: Scene, problem: str
) -> None:
    scene.scheduled(NEW)
    scene.cluster.script.fail_before("ensure_applied", CLUSTER_PROBLEMS[problem], times=10_000, when=real_apply)

    run = scene.until("paused", "succeeded", "rolled_back", "failed", step=30)

    assert (run.state, run.pause_reason) == ("paused", "cluster_unreachable")
    target = scene.target("Deployment/odoo-pilot")
    assert target.state == "deferred"
    assert CLUSTER_PROBLEMS[problem].reason in target.sentence
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}


def test_a_deferred_target_is_taken_up_again_after_resuming(scene: Scene) -> None:  # RUN-4
    scene.scheduled(NEW)
    scene.cluster.script.fail_before("ensure_applied", Transient("No route."), times=12, when=real_apply)
    scene.until("paused", step=30)

    ask(scene, "resume")
    run = scene.until("succeeded")

    assert scene.images() == {"odoo-pilot": NEW, "odoo-rest": NEW}
    assert run.pause_reason == ""


@pytest.mark.parametrize("problem", ["429", "500", "timeout"])
def test_a_passing_trouble_costs_only_time(scene: Scene, problem: str) -> None:  # RUN-8
    scene.scheduled(NEW)
    scene.cluster.script.fail_before("*", CLUSTER_PROBLEMS[problem], times=3)

    run = scene.until("succeeded", "paused", "failed")

    assert run.state == "succeeded"


def test_a_connection_cut_after_the_server_acted_repeats_nothing(scene: Scene) -> None:  # RUN-1
    scene.scheduled(NEW)
    scene.cluster.script.fail_after("ensure_applied", Transient("The connection was cut."), when=real_apply)

    scene.until("succeeded")

    applied = [effect.ref.name for effect in scene.cluster.effects if effect.verb == "applied"]
    assert sorted(applied) == ["odoo-pilot", "odoo-rest"]


def test_fields_of_another_manager_pause_the_run_and_are_not_forced(scene: Scene) -> None:
    scene.scheduled(NEW)
    live = next(
        body
        for ref, body in scene.cluster.objects().items()
        if ref == ObjectRef("apps/v1", "Deployment", "northwind-production", "odoo-pilot")
    )
    scaled = {
        **live,
        "spec": {**live["spec"], "replicas": 5},
        "metadata": {"name": "odoo-pilot", "namespace": "northwind-production"},
    }
    scene.cluster.apply_as("autoscaler", scaled, force=True)

    run = scene.until("paused", "succeeded", "rolled_back")

    assert (run.state, run.pause_reason) == ("paused", "apply_conflict")
    assert "belongs to autoscaler" in run.sentence


def test_a_failure_pauses_where_the_plan_says_so(scene: Scene) -> None:
    scene.cluster.spoil_image(BAD)
    scene.scheduled(BAD, on_failure="pause")

    run = scene.until("paused", "rolled_back")

    assert (run.state, run.pause_reason) == ("paused", "health")
    assert "ImagePullBackOff" in run.sentence
    assert scene.images() == {"odoo-pilot": BAD, "odoo-rest": GOOD}
    assert Message.objects.filter(tag="run:needs_attention", recipient=scene.estate.cy).exists()


def test_a_crash_loop_is_a_failure_at_once(scene: Scene) -> None:
    scene.cluster.spoil_image(BAD, reason="CrashLoopBackOff")
    scene.scheduled(BAD, on_failure="pause")

    run = scene.until("paused")

    assert "CrashLoopBackOff" in run.sentence


def test_a_target_that_is_not_ready_in_time_has_failed(scene: Scene) -> None:
    scene.cluster.spoil_image(BAD, reason="Unschedulable")
    scene.scheduled(BAD, on_failure="pause", ready_within_seconds=60)

    run = scene.until("paused")

    assert run.pause_reason == "health"
    assert "Not healthy within 1 min." in run.sentence


def test_a_failure_within_the_budget_does_not_stop_the_wave(scene: Scene) -> None:  # RUN-4
    scene.cluster.spoil_image(BAD)
    waves = [{"name": "All", "environments": ["production"], "bake_seconds": 5}]
    scene.scheduled(BAD, waves=waves, failure_budget=2, on_failure="pause")

    scene.until("running")
    scene.work(until=lambda: scene.run().targets.filter(state="failed").count() == 2)

    assert scene.run().state == "running"


def test_a_workload_that_falls_sick_while_it_bakes_has_failed(scene: Scene) -> None:  # RUN-2
    scene.scheduled(NEW, on_failure="pause")
    scene.until("baking")

    scene.cluster.remove(ObjectRef("apps/v1", "Deployment", "northwind-production", "odoo-pilot"))
    run = scene.until("paused", "succeeded")

    assert run.state == "paused"
    assert "it is gone" in run.sentence


def test_a_plan_that_resolves_differently_is_drift_and_nothing_starts(scene: Scene) -> None:  # APR-9
    scene.scheduled(NEW)
    other = scene.git.commit({"README": "moved on"})
    scene.git.move(scene.estate.production.ref, other)

    run = scene.until("paused", "succeeded")

    assert (run.state, run.pause_reason) == ("paused", "plan_drift")
    assert "commit from" in run.sentence
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}


def test_a_run_that_drifted_ends_by_itself_once_its_change_is_revised(scene: Scene) -> None:  # APR-9
    change = scene.scheduled(NEW)
    scene.git.move(scene.estate.production.ref, scene.git.commit({"README": "moved on"}))
    run = scene.until("paused", "succeeded")

    revise_change(actor=actor(scene.estate.ada), change_id=change.pk, content=change.revision.content, at=scene.now())
    scene.work(until=lambda: Run.objects.get(pk=run.pk).state == "failed")

    assert "moved on to" in Run.objects.get(pk=run.pk).sentence
    assert not EnvironmentLock.objects.exists()


def test_drift_between_two_waves_stops_the_second(scene: Scene) -> None:  # APR-9
    scene.scheduled(NEW)
    scene.until("baking")

    store = scene.estate.rest.stores.first()
    assert store is not None
    store.sales_share = 40
    store.save()
    run = scene.until("paused", "succeeded")

    assert (run.pause_reason, run.wave) == ("plan_drift", 0)
    assert scene.images() == {"odoo-pilot": NEW, "odoo-rest": GOOD}


def test_nothing_starts_outside_its_window(scene: Scene) -> None:  # WIN-5
    Window.objects.create(
        tenant=scene.estate.tenant,
        name="Nights",
        rrule="FREQ=DAILY",
        starts_local=scene.now().replace(hour=22, minute=0, second=0, microsecond=0),
        zone="UTC",
        duration_seconds=4 * 3600,
        created_at=scene.now(),
    )
    scene.scheduled(NEW)

    scene.work(until=lambda: True)
    pass_time(3600)
    assert scene.estate.production.changes.get().state == "scheduled"
    pass_time(11 * 3600)
    run = scene.until("succeeded", "paused")

    assert run.state == "succeeded"
    assert run.created_at.hour == 22


def test_a_window_that_closes_lets_the_wave_finish_and_goes_on_in_the_next(scene: Scene) -> None:  # WIN-7
    Window.objects.create(
        tenant=scene.estate.tenant,
        name="Mornings",
        rrule="FREQ=DAILY",
        starts_local=scene.now().replace(hour=10, minute=0, second=0, microsecond=0),
        zone="UTC",
        duration_seconds=13 * 60,
        created_at=scene.now(),
    )
    scene.scheduled(NEW, waves=two_waves(bake_seconds=120))
    scene.until("baking")

    run = scene.until("paused", "succeeded")

    assert (run.state, run.pause_reason, run.wave) == ("paused", "window_closed", 0)
    assert scene.target("Deployment/odoo-pilot").state == "healthy"
    pass_time(24 * 3600 - 600)
    run = scene.until("succeeded", "plan_drift")
    assert scene.images() == {"odoo-pilot": NEW, "odoo-rest": NEW}


def test_a_freeze_pauses_what_is_running_and_lets_it_go_on_afterwards(scene: Scene) -> None:  # WIN-5
    scene.scheduled(NEW)
    scene.until("baking")

    freeze(scene, hours=0.5)
    run = scene.until("paused")
    assert (run.pause_reason, "Peak trading" in run.sentence) == ("freeze", True)
    pass_time(1800)
    run = scene.until("succeeded")

    assert run.state == "succeeded"


def test_stale_gates_are_asked_again_before_the_start(scene: Scene) -> None:  # GATE-1
    change = scene.scheduled(NEW)
    before = GateResult.objects.filter(change=change, gate="dry_run").count()

    pass_time(13 * 3600)
    scene.until("succeeded")

    assert (before, GateResult.objects.filter(change=change, gate="dry_run").count()) == (1, 2)


def test_a_gate_that_fails_now_stops_the_start(scene: Scene) -> None:  # GATE-1
    scene.scheduled(NEW)
    pass_time(13 * 3600)
    scene.cluster.namespaces.discard("northwind-production")

    run = scene.until("paused", "succeeded")

    assert run.pause_reason == "needs_attention"
    assert "has no namespace northwind-production" in run.sentence


def test_an_approver_who_left_before_the_start_no_longer_counts(scene: Scene) -> None:  # APR-11
    change = scene.scheduled(NEW)
    scene.estate.ben.is_active = False
    scene.estate.ben.save()

    scene.work(until=lambda: True)
    scene.work(until=lambda: type(change).objects.get(pk=change.pk).state != "scheduled")

    change.refresh_from_db()
    assert change.state == "authorize"
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}


def test_pausing_holds_and_resuming_checks_everything_again(scene: Scene) -> None:  # RUN-5
    scene.scheduled(NEW)
    scene.until("baking")

    ask(scene, "pause")
    run = scene.until("paused")
    assert (run.pause_reason, run.sentence) == ("by_person", "Paused by Cy “Because.”.")
    pass_time(7200)
    scene.work(until=lambda: True)
    assert scene.run().state == "paused"
    ask(scene, "resume")
    scene.until("succeeded")


def test_aborting_freezes_in_place_and_says_what_is_where(scene: Scene) -> None:  # RUN-5, WIN-8
    change = scene.scheduled(NEW)
    scene.until("baking")
    freeze(scene)

    ask(scene, "abort", "The supplier called.")
    run = scene.until("aborted", "succeeded")

    assert scene.images() == {"odoo-pilot": NEW, "odoo-rest": GOOD}
    assert "On the new version: " in run.sentence
    assert "Untouched: " in run.sentence
    change.refresh_from_db()
    assert (change.state, change.close_code) == ("review", "failed")
    assert not run.locks.exists()


def two_waves(*, bake_seconds: int) -> list[dict[str, object]]:
    return [
        {"name": "Pilot", "environments": ["production"], "cohorts": ["pilot"], "bake_seconds": bake_seconds},
        {"name": "Everybody else", "environments": ["production"], "bake_seconds": bake_seconds},
    ]


@pytest.mark.parametrize("verb", ["observe_object", "observe_workloads"])
def test_a_right_that_is_lacking_for_a_moment_fails_nothing(scene: Scene, verb: str) -> None:  # RUN-8
    scene.scheduled(NEW)
    scene.until("running")
    scene.cluster.script.fail_before(verb, CLUSTER_PROBLEMS["expired token"], times=2)

    run = scene.until("succeeded", "paused", "rolled_back", "rolling_back")

    assert run.state == "succeeded", run.sentence


def test_an_object_written_in_another_version_of_its_kind_is_not_pruned(scene: Scene) -> None:
    scene.cluster.kinds.add(("autoscaling/v1", "HorizontalPodAutoscaler"))
    scaler = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "odoo-rest"},
        "spec": {
            "minReplicas": 2,
            "maxReplicas": 4,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "elsewhere"},
        },
    }
    scene.deployed(GOOD)
    scene.commit(NEW, extra=f"---\n{yaml.safe_dump(scaler)}")
    scene.scheduled(before=None, commit=False)

    scene.until("succeeded")

    assert "HorizontalPodAutoscaler" in {ref.kind for ref in scene.cluster.objects()}
