"""A rollout from its start to its end: the good way, the ways it stops, and the way back."""

from __future__ import annotations

from tests.deployments.workflows.scene import BAD, GOOD, NEW, Scene


def test_a_good_change_reaches_every_wave_and_git_names_it(scene: Scene) -> None:  # RUN-2, GIT-2
    change = scene.scheduled(NEW)

    run = scene.until("succeeded", "paused", "rolled_back", "failed")

    assert run.state == "succeeded", run.sentence
    assert scene.images() == {"odoo-pilot": NEW, "odoo-rest": NEW}
    assert scene.git.ref(scene.estate.production.ref) == change.plan.content["commit"]
    change.refresh_from_db()
    assert (change.state, change.close_code) == ("review", "successful")


def test_a_bad_image_is_rolled_back_and_git_says_so(scene: Scene) -> None:  # RBK-4, RBK-5, GIT-2
    scene.cluster.spoil_image(BAD)
    change = scene.scheduled(BAD)

    run = scene.until("rolled_back", "paused", "succeeded", "rollback_failed")

    assert run.state == "rolled_back", run.sentence
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}
    change.refresh_from_db()
    assert (change.state, change.close_code) == ("review", "rolled_back")
    newest = scene.git.log(scene.estate.production.ref)[0]
    assert newest.startswith(f"Roll back {change.number}: ")
