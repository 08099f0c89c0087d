"""A step does what fits into a few seconds, settles it, and loses the event of nothing that was done."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import yaml

from changecontrol import clock
from changecontrol.adapters.fakes.script import Call
from changecontrol.errors import Transient
from changecontrol.models import AuditEvent, Run
from changecontrol.ports import Rejected
from changecontrol.workflow import engine
from deployments.workflows.rollout import RolloutRun
from deployments.workflows.steps import STEP_FOR
from deployments.workflows.target import TargetUpdate
from tests.deployments.workflows.scene import GOOD, NEW, Scene, pass_time
from tests.deployments.workflows.test_rollback import ask

COUNT = 20
ANSWER_SECONDS = 1
NEVER = Transient("No call fails by this.")


class Killed(BaseException):
    """The worker is gone: nothing may catch it."""


def slow_down(scene: Scene) -> None:
    """Let every call to the cluster take a second of the clock."""

    def take_time(call: Call) -> bool:
        pass_time(ANSWER_SECONDS)
        return False

    scene.cluster.script.fail_before("*", NEVER, when=take_time)


def many(image: str, count: int = COUNT) -> str:
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"part-{n:02}"}, "data": {"image": image}}
        for n in range(count)
    ]
    return "---\n" + yaml.safe_dump_all(maps)


def scheduled(scene: Scene, *, count: int = COUNT, **answers: Any) -> None:
    waves = [{"name": "All", "environments": ["production"], "bake_seconds": 900}]
    scene.commit(NEW, extra=many(NEW, count))
    scene.scheduled(before=None, commit=False, waves=waves, **answers)


def lasted_until(*states: str) -> list[timedelta]:
    """Work until the run is in one of the states; return how long each tick lasted."""
    found: list[timedelta] = []
    workflows: tuple[Any, ...] = (RolloutRun(), TargetUpdate())
    for _ in range(400):
        if Run.objects.filter(kind="rollout", state__in=states).exists():
            return found
        RolloutRun().find(clock.now())
        for workflow in workflows:
            began = clock.now()
            if engine.tick(workflow):
                found.append(clock.now() - began)
        pass_time(1)
    raise AssertionError(f"It never came to that: {Run.objects.latest('pk').sentence}")


def objects_of(tag: str) -> list[str]:
    return sorted(one["object"] for one in data_of(tag))


def data_of(tag: str) -> list[dict[str, Any]]:
    return [json.loads(one)["data"] for one in AuditEvent.objects.filter(tag=tag).values_list("body", flat=True)]


def work_through_a_kill(scene: Scene, *states: str) -> Run:
    with pytest.raises(Killed):
        scene.until(*states)
    pass_time(engine.LEASE_SECONDS + 1)
    return scene.until(*states)


def test_many_objects_on_a_slow_cluster_take_many_short_ticks_there_and_back(scene: Scene) -> None:
    scheduled(scene)
    slow_down(scene)

    there = lasted_until("baking")
    applied = objects_of("run:object:applied")
    ask(scene, "roll_back")
    back = lasted_until("rolled_back")

    longest = STEP_FOR + timedelta(seconds=10)
    assert max(there) < longest
    assert max(back) < longest
    parts = [f"ConfigMap northwind-production/part-{n:02}" for n in range(COUNT)]
    assert [one for one in applied if "part-" in one] == parts
    assert [one for one in objects_of("run:object:pruned") if "part-" in one] == parts
    assert not [ref for ref in scene.cluster.objects() if ref.namespace == "northwind-production"]


def test_a_worker_killed_after_a_deletion_loses_no_event_of_it(scene: Scene) -> None:  # RUN-1
    scene.commit(GOOD, extra=many(GOOD, 2))
    scene.deployed(GOOD)
    for name in ("part-00", "part-01"):
        labels = {"changecontrol.io/environment": scene.estate.production.inventory}
        metadata = {"name": name, "namespace": scene.estate.production.namespace, "labels": labels}
        scene.cluster.ensure_applied({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    scene.scheduled(NEW, before=None)
    scene.cluster.script.fail_after("ensure_deleted", Killed())

    run = work_through_a_kill(scene, "succeeded")

    assert run.state == "succeeded"
    pruned = [f"ConfigMap northwind-production/part-{n:02}" for n in range(2)]
    assert objects_of("run:object:pruned") == pruned


def test_a_worker_killed_after_a_deletion_on_the_way_back_loses_no_event_of_it(scene: Scene) -> None:  # RUN-1
    scheduled(scene, count=2)
    scene.until("baking")
    ask(scene, "roll_back")
    scene.cluster.script.fail_after("ensure_deleted", Killed())

    work_through_a_kill(scene, "rolled_back")

    pruned = objects_of("run:object:pruned")
    assert pruned == sorted(set(pruned))
    assert pruned == objects_of("run:object:applied")


def test_what_a_killed_worker_may_have_applied_is_said_when_nobody_goes_on(scene: Scene) -> None:  # RUN-5
    scheduled(scene, count=0)
    scene.cluster.script.fail_after("ensure_applied", Killed(), when=lambda call: not call.words["dry_run"])
    with pytest.raises(Killed):
        scene.until("baking")

    ask(scene, "abort")
    pass_time(engine.LEASE_SECONDS + 1)
    scene.until("aborted")

    names = ["ConfigMap northwind-production/odoo"]
    names += [f"PodDisruptionBudget northwind-production/odoo-{cohort}" for cohort in ("pilot", "rest")]
    assert objects_of("run:object:applied") == names
    assert {one.get("is_certain") for one in data_of("run:object:applied")} == {False}


def test_what_was_applied_before_a_refusal_is_recorded(scene: Scene) -> None:
    scheduled(scene, count=3, on_failure="pause")
    scene.cluster.script.fail_before(
        "ensure_applied",
        Rejected("The cluster refused to apply ConfigMap part-02."),
        times=2,
        when=lambda call: not call.words["dry_run"] and call.args[0].name == "part-02",
    )

    run = scene.until("paused")

    assert "refused to apply ConfigMap part-02" in run.sentence
    names = ["odoo", "part-00", "part-01"]
    assert objects_of("run:object:applied") == [f"ConfigMap northwind-production/{name}" for name in names]
