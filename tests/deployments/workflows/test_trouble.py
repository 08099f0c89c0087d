"""What a row says while it is tried again: what is wrong, since when, and when (RUN-8)."""

from __future__ import annotations

from changecontrol.errors import Transient, UnderWay
from changecontrol.models import Run, RunLog
from changecontrol.ports import NotAllowed
from changecontrol.workflow import engine
from changecontrol.workflow.trouble import trouble_of
from deployments.workflows.assessment import Assessment
from tests.deployments.workflows.scene import NEW, Scene, pass_time
from tests.factories import submitted_change

REVOKED = "The cluster does not accept this credential any more."


def test_a_target_says_what_is_wrong_until_it_goes_on(scene: Scene) -> None:  # RUN-8
    scene.scheduled(NEW)
    scene.cluster.script.fail_before("observe_object", NotAllowed(REVOKED), times=4)
    scene.until("running")
    scene.work(until=lambda: scene.run().targets.filter(attempts=3).exists())
    target = scene.run().targets.filter(attempts=3).earliest("pk")
    assert target.next_due_at is not None
    assert target.trouble_since is not None

    said = trouble_of(target)
    lines = RunLog.objects.filter(run=scene.run(), sentence__contains=REVOKED)

    assert said == (
        f"{REVOKED} Since {target.trouble_since:%H:%M} UTC; tried again at {target.next_due_at:%H:%M:%S} UTC "
        "(attempt 4 of 12)."
    )
    assert [one.sentence for one in lines] == [f"{target}: {REVOKED} It is tried again."]
    assert scene.until("succeeded", "paused", "rolled_back").state == "succeeded"
    assert [trouble_of(one) for one in scene.run().targets.all()] == ["", "", ""]


def test_another_reason_is_another_line_and_the_same_trouble(scene: Scene) -> None:
    scene.scheduled(NEW)
    scene.cluster.script.fail_before("observe_object", Transient("No route."))
    scene.cluster.script.fail_before("observe_object", Transient("It asks for fewer requests."))
    scene.until("succeeded", "paused", "rolled_back")

    lines = RunLog.objects.filter(run=scene.run(), icon="clock-pause").order_by("pk")

    assert [one.sentence.partition(": ")[2] for one in lines] == [
        "No route. It is tried again.",
        "It asks for fewer requests. It is tried again.",
    ]


def test_a_source_that_is_still_being_fetched_costs_no_attempt(scene: Scene) -> None:
    scene.commit(NEW)
    word = "Fetching the source for the first time (42 MB)…"
    scene.repository().script.fail_before("ensure_fetched", UnderWay(word), times=20)
    change = submitted_change(scene.estate, at=scene.now(), commit="", environments=["production"])
    seen: list[tuple[str, int]] = []

    Assessment().find(scene.now())
    for _ in range(21):
        assert engine.tick(Assessment())
        run = Run.objects.get(change=change)
        seen.append((trouble_of(run), run.attempts))
        pass_time(6)

    assert seen == [(word, 0)] * 20 + [("", 0)]
    assert not RunLog.objects.filter(run=run, sentence__contains=word).exists()
