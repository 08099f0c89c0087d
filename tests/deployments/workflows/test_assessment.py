"""Assessment: from a submitted revision to a plan that approvers are asked about, or back to its author."""

from __future__ import annotations

from tests.deployments.workflows.scene import NEW, Scene
from tests.factories import submitted_change


def test_a_good_change_gets_a_plan_its_gates_and_its_approvers(scene: Scene) -> None:  # GATE-1
    scene.deployed()
    commit = scene.commit(NEW)
    change = submitted_change(scene.estate, at=scene.now(), commit="", environments=["production"])

    scene.assess(change)

    assert (change.state, change.problem) == ("authorize", "")
    document = change.plan.content
    assert document["commit"] == commit
