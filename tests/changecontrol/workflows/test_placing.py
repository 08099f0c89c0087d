"""Jobs in a cluster: begun once, told when they do not go on, cleared away, whoever is killed in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.actions.jobs import ask_stop, ensure_job
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.adapters.jobs import open_cluster
from changecontrol.errors import Permanent, Transient
from changecontrol.models import Job
from changecontrol.ports import JobCluster, NotAllowed, ObjectRef, OverQuota, Right
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import only
from changecontrol.workflows.placing import look_after
from tests.changecontrol.workflows.toy_jobs import JOBS

pytestmark = pytest.mark.django_db

KEY = "drill/1"
PLACE = JobCluster(
    namespace="shop",
    image="registry.example/changecontrol@sha256:" + "a" * 64,
    service_account="changecontrol-job",
    secret="changecontrol-settings",
    references="",
    cpu="2",
    memory_mib=4096,
    disk_gib=50,
    needs_token=False,
)
AWAY = Transient("The cluster cannot be reached.")
GIB = 1024**3


@pytest.fixture(autouse=True)
def kinds(settings: Any) -> Iterator[None]:
    settings.JOBS = JOBS
    clock.set_offset(timedelta())
    yield
    clock.set_offset(timedelta())


@pytest.fixture
def cluster() -> FakeKubernetes:
    fake = FakeKubernetes(namespaces=("shop",))
    fake.kinds.add(("v1", "Pod"))
    fake.job_ends = ""
    return fake


@pytest.fixture
def job(tmp_path: Any) -> Job:
    order = {"folder": str(tmp_path)}
    deadline_at = clock.now() + timedelta(hours=2)
    return ensure_job(key=KEY, kind="note", order=order, at=clock.now(), deadline_at=deadline_at)


def look(cluster: FakeKubernetes, *, after: timedelta = timedelta(), at_once: int = 4) -> None:
    clock.set_offset(clock._offset + after)
    look_after(lambda: open_cluster(cluster, place=PLACE), kinds=["note"], at_once=at_once, at=clock.now())


def row() -> Job:
    return Job.objects.get(key=KEY)


def the_ref(cluster: FakeKubernetes) -> ObjectRef:
    (found,) = [ref for ref in cluster.objects() if ref.kind == "Job"]
    return found


def metadata_of(cluster: FakeKubernetes, ref: ObjectRef) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects()[ref]["metadata"]
    return found


def end(cluster: FakeKubernetes, condition: str, *, reason: str = "BackoffLimitExceeded") -> None:
    held = {"type": condition, "status": "True", "reason": reason, "message": "Job has reached the limit"}
    cluster.say(the_ref(cluster), {"conditions": [held]})


def pod(cluster: FakeKubernetes, **status: Any) -> None:
    """Have a pod of the Job, as its controller makes it from the template."""
    template = cluster.objects()[the_ref(cluster)]["spec"]["template"]
    metadata = {"name": "pod-1", "namespace": "shop", "labels": template["metadata"]["labels"]}
    cluster.apply_as("job-controller", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
    cluster.say(ObjectRef("v1", "Pod", "shop", "pod-1"), status)


def terminated(**words: Any) -> dict[str, Any]:
    return {"phase": "Failed", "containerStatuses": [{"name": "job", "state": {"terminated": words}}]}


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "job", "state": state}]}


def test_a_due_job_is_begun_once_done_by_its_pod_and_cleared_away(cluster: FakeKubernetes, job: Job) -> None:
    for _ in range(3):
        look(cluster)
    assert [one.verb for one in cluster.effects] == ["applied"]
    assert row().placed_at is not None

    engine.tick(only(job.pk))  # as its pod does
    end(cluster, "Complete")
    for _ in range(2):
        look(cluster)

    assert (row().state, row().result, row().attempts, row().placed_at) == ("done", {"lines": 1}, 0, None)
    assert cluster.objects() == {}


def test_no_more_are_begun_than_may_be_done_at_once(cluster: FakeKubernetes, job: Job) -> None:
    ensure_job(key="drill/2", kind="note", order=job.order, at=clock.now())
    ensure_job(key="backup/1", kind="wait", order=job.order, at=clock.now())  # done elsewhere

    look(cluster, at_once=1)
    look(cluster, at_once=1)
    begun = set(cluster.objects())
    look(cluster, at_once=4)

    assert len(begun) == 1
    assert len(cluster.objects()) == 2


@pytest.mark.parametrize(
    "status, sentence",
    [
        (
            terminated(exitCode=137, reason="OOMKilled"),
            "Its pod took more memory than it may, and was ended (JOB_MEMORY_MIB).",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir volume exceeds the limit 50Gi"},
            "Its pod was evicted: Usage of EmptyDir volume exceeds the limit 50Gi.",
        ),
        (terminated(exitCode=1, reason="Error"), "Its pod ended with code 1 (Error)."),
    ],
    ids=["memory", "disk", "code"],
)
def test_a_pod_that_failed_is_told_counted_once_and_tried_again(
    cluster: FakeKubernetes, job: Job, status: dict[str, Any], sentence: str
) -> None:
    look(cluster)
    claimed = engine.claim(only(job.pk), at=clock.now())[0]  # as its pod does, which is then killed
    pod(cluster, **status)
    end(cluster, "Failed")

    look(cluster)
    assert (row().attempts, row().trouble) == (0, "")  # its lease runs on: nobody may begin before it ends

    cluster.remove(ObjectRef("v1", "Pod", "shop", "pod-1"))
    pod(cluster, **status)
    look(cluster, after=engine.lease_for() + timedelta(seconds=1))

    assert (row().state, row().attempts, row().trouble, row().placed_at) == ("open", 1, sentence, None)
    assert not [ref for ref in cluster.objects() if ref.kind == "Job"]
    cluster.remove(ObjectRef("v1", "Pod", "shop", "pod-1"))
    look(cluster, after=timedelta(minutes=5))
    assert row().placed_at is not None
    with pytest.raises(engine.LeaseLost):
        engine.confirm_lease(claimed.row)


def test_it_fails_once_its_attempts_are_used_up(cluster: FakeKubernetes, job: Job) -> None:
    for _ in range(engine.ATTEMPTS_LIMIT):
        look(cluster, after=timedelta(minutes=2))
        end(cluster, "Failed")
        look(cluster)

    assert (row().state, row().reason) == ("failed", "Its Kubernetes Job failed: Job has reached the limit.")
    look(cluster)
    assert cluster.objects() == {}


def test_an_image_that_cannot_be_pulled_is_told_at_once_and_counted_after_a_while(
    cluster: FakeKubernetes, job: Job
) -> None:
    look(cluster)
    pod(cluster, **waiting("ImagePullBackOff", 'Back-off pulling image "x"'))

    look(cluster)
    sentence = 'Its image cannot be pulled: Back-off pulling image "x".'
    assert (row().trouble, row().attempts) == (sentence, 0)

    look(cluster, after=timedelta(minutes=11))
    assert (row().trouble, row().attempts, row().placed_at) == (sentence, 1, None)


def test_a_quota_that_keeps_pods_away_is_told_by_the_events_of_the_job(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster)
    words = 'FailedCreate: Error creating: pods "x" is forbidden: exceeded quota: small'
    cluster.warnings[the_ref(cluster)] = [words]

    look(cluster)

    assert row().trouble == f"Its pod does not begin: {words}."


def test_a_quota_that_leaves_no_room_for_the_job_is_waited_for(cluster: FakeKubernetes, job: Job) -> None:
    cluster.script.fail_before("ensure_applied", OverQuota("The quota of the namespace is too small."))

    look(cluster)
    assert (row().state, row().attempts, row().trouble) == ("open", 0, "The quota of the namespace is too small.")

    look(cluster, after=timedelta(minutes=2))
    assert row().placed_at is not None


@pytest.mark.parametrize(
    "trouble",
    [Transient("The cluster asks for fewer requests.", after=30), Transient("It could not apply now (HTTP 500).")],
    ids=["429", "500"],
)
def test_a_cluster_that_stumbles_is_asked_again(cluster: FakeKubernetes, job: Job, trouble: Transient) -> None:
    cluster.script.fail_before("ensure_applied", trouble)

    look(cluster)
    waits = row().next_due_at
    assert (row().attempts, row().trouble) == (0, trouble.reason)
    assert waits is not None
    assert waits >= clock.now() + timedelta(seconds=(trouble.after or 1) - 1)

    look(cluster, after=timedelta(minutes=2))
    assert row().placed_at is not None


def test_a_cluster_that_cannot_be_asked_is_told_and_costs_no_attempt(cluster: FakeKubernetes, job: Job) -> None:
    cluster.script.fail_before("observe_labelled", Transient("The cluster cannot be reached."))

    look(cluster)
    assert (row().attempts, row().trouble) == (0, "The cluster cannot be reached.")

    cluster.script.fail_before("observe_labelled", Transient("The cluster cannot be reached."))
    look(cluster, after=timedelta(hours=3))
    assert (row().state, row().reason) == ("failed", "The cluster cannot be reached.")


@pytest.mark.parametrize(
    "trouble", [AWAY, OverQuota("The quota of the namespace is too small.")], ids=["no answer", "quota"]
)
def test_a_job_that_cannot_be_placed_waits_until_its_deadline_and_costs_no_attempt(
    cluster: FakeKubernetes, job: Job, trouble: Exception
) -> None:
    cluster.script.fail_before("ensure_applied", trouble, times=1_000)

    for _ in range(110):
        look(cluster, after=timedelta(minutes=1))
    assert (row().state, row().attempts, row().trouble) == ("open", 0, str(trouble))
    calls = [one for one in cluster.script.calls if one.verb == "ensure_applied"]
    assert 55 <= len(calls) <= 111  # once a minute, and not at each look

    for _ in range(12):
        look(cluster, after=timedelta(minutes=1))
    assert (row().state, row().reason) == ("failed", f"Its time was over before it was done. {trouble}")


def test_a_job_is_begun_once_its_cluster_answers_after_an_hour(cluster: FakeKubernetes, job: Job) -> None:
    for operation in ("ensure_applied", "observe_labelled"):
        cluster.script.fail_before(operation, AWAY, times=30)

    for _ in range(80):
        look(cluster, after=timedelta(minutes=1))
    look(cluster)
    assert row().placed_at is not None
    engine.tick(only(job.pk))  # as its pod does

    assert (row().state, row().attempts, row().trouble) == ("done", 0, "")


def test_a_pod_has_its_time_to_begin_once_its_cluster_answers_again(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster)
    pod(cluster, phase="Pending")
    cluster.script.fail_before("observe_labelled", AWAY, times=60)

    for _ in range(60):
        look(cluster, after=timedelta(minutes=1))
    during = (row().attempts, row().trouble)
    look(cluster, after=timedelta(minutes=1))

    assert during == (0, AWAY.reason)
    assert (row().state, row().attempts, row().trouble) == ("open", 0, "")
    look(cluster, after=timedelta(minutes=11))
    assert (row().attempts, row().trouble) == (1, "Its pod did not take the job on within 10 minutes.")


def test_a_pod_that_gave_its_job_back_while_its_cluster_was_away_costs_no_attempt(
    cluster: FakeKubernetes, job: Job
) -> None:
    look(cluster)
    claimed = engine.claim(only(job.pk), at=clock.now())[0]
    given_back: engine.Settlement[Job] = engine.Settlement(
        write=engine.uncounted, due_in=timedelta(seconds=0.1), failed=True, trouble="It is asked for again."
    )
    engine.settle(only(job.pk), claimed, given_back, at=clock.now())
    end(cluster, "Complete")
    cluster.script.fail_before("observe_labelled", AWAY, times=20)

    for _ in range(20):
        look(cluster, after=timedelta(minutes=1))
    for _ in range(2):
        look(cluster, after=timedelta(minutes=1))

    assert (row().attempts, row().placed_at is not None) == (0, True)


def test_a_job_that_the_cluster_refuses_fails(cluster: FakeKubernetes, job: Job) -> None:
    cluster.script.fail_before("ensure_applied", Permanent("A policy of the cluster refused to apply it."))

    look(cluster)

    assert (row().state, row().reason) == ("failed", "A policy of the cluster refused to apply it.")


def test_rights_that_are_lacking_are_named_before_anything_is_begun(cluster: FakeKubernetes, job: Job) -> None:
    cluster.lacking.add(Right(verb="create", group="batch", resource="jobs"))

    look(cluster)

    assert cluster.effects == []
    assert row().trouble == (
        "The account of JOBS_CLUSTER may not create jobs in shop. Grant it as deploy/rbac-jobs.yaml does."
    )


def test_a_job_that_somebody_deleted_is_told_and_begun_again(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster)
    engine.claim(only(job.pk), at=clock.now())
    cluster.remove(the_ref(cluster))

    look(cluster)
    assert row().attempts == 0  # whoever did it may be at work still

    look(cluster, after=engine.lease_for() + timedelta(seconds=1))
    assert (row().attempts, row().trouble) == (
        1,
        "What did it in the cluster is gone: somebody deleted it, or its node went away.",
    )


def test_a_job_whose_node_went_away_begins_again_beside_what_is_left_of_it(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster, at_once=1)
    engine.claim(only(job.pk), at=clock.now())
    cluster.is_node_away = True

    look(cluster, after=engine.lease_for() + timedelta(minutes=2), at_once=1)
    assert (row().attempts, row().placed_at) == (1, None)
    look(cluster, after=timedelta(seconds=30), at_once=1)

    assert [one.verb for one in cluster.effects] == ["applied", "deleted", "applied"]
    gone, begun = sorted(cluster.objects(), key=lambda ref: "deletionTimestamp" not in metadata_of(cluster, ref))
    assert metadata_of(cluster, gone)["labels"]["changecontrol.io/run"] == job.run
    assert metadata_of(cluster, begun)["labels"]["changecontrol.io/run"] == job.run
    engine.tick(only(job.pk))  # as its new pod does
    assert row().state == "done"
    look(cluster)
    assert "deletionTimestamp" in metadata_of(cluster, begun)
    cluster.remove(gone)
    cluster.remove(begun)
    look(cluster)
    assert row().placed_at is None


@pytest.mark.parametrize("at_once", [0, 4], ids=["no room", "room"])
def test_a_job_past_its_deadline_fails_though_what_did_it_does_not_go(
    cluster: FakeKubernetes, job: Job, at_once: int
) -> None:
    look(cluster)
    cluster.is_node_away = True

    look(cluster, after=timedelta(minutes=11))
    look(cluster, after=timedelta(hours=2), at_once=at_once)

    assert (row().state, row().reason) == (
        "failed",
        "Its time was over before it was done. Its pod did not take the job on within 10 minutes.",
    )


def test_a_placed_job_fails_at_its_deadline_though_its_cluster_cannot_be_asked(
    cluster: FakeKubernetes, job: Job
) -> None:
    look(cluster)
    cluster.script.fail_before("observe_labelled", Transient("The cluster cannot be reached."))

    look(cluster, after=timedelta(hours=2))

    assert (row().state, row().reason) == ("failed", "The cluster cannot be reached.")


def test_a_pod_that_gave_its_job_back_costs_no_attempt(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster)
    claimed = engine.claim(only(job.pk), at=clock.now())[0]
    given_back: engine.Settlement[Job] = engine.Settlement(
        write=engine.uncounted, due_in=timedelta(seconds=0.1), failed=True
    )
    engine.settle(only(job.pk), claimed, given_back, at=clock.now())
    end(cluster, "Complete")

    look(cluster)
    look(cluster, after=timedelta(seconds=5))

    assert (row().attempts, row().placed_at is not None) == (0, True)
    assert [one.verb for one in cluster.effects] == ["applied", "deleted", "applied"]


def test_a_stop_ends_what_has_not_begun(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster)

    ask_stop(key=KEY, at=clock.now())
    look(cluster)
    look(cluster)

    assert (row().state, row().placed_at) == ("stopped", None)
    assert cluster.objects() == {}


def test_a_stop_ends_a_pod_that_no_longer_listens(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster)
    engine.claim(only(job.pk), at=clock.now())
    ask_stop(key=KEY, at=clock.now())

    for _ in range(3):
        look(cluster, after=engine.lease_for())

    assert (row().state, row().placed_at) == ("stopped", None)
    assert cluster.objects() == {}


def test_what_cannot_be_cleared_away_is_told_and_tried_again(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster)
    engine.tick(only(job.pk))
    cluster.script.fail_before("ensure_deleted", NotAllowed("The executor may not delete Job shop/x."))

    look(cluster)
    assert (row().leftovers, row().placed_at is None) == ("The executor may not delete Job shop/x.", False)

    look(cluster)
    look(cluster)
    assert (row().leftovers, row().placed_at) == ("", None)
    assert cluster.objects() == {}


def test_what_belongs_to_another_installation_stays(cluster: FakeKubernetes, job: Job) -> None:
    look(cluster)
    foreign = cluster.objects()[the_ref(cluster)]
    foreign["metadata"] = {
        "name": "theirs",
        "namespace": "shop",
        "labels": {**foreign["metadata"]["labels"], "changecontrol.io/run": f"{job.pk}-1"},
    }
    cluster.apply_as("another", foreign)
    engine.tick(only(job.pk))

    for _ in range(3):
        look(cluster)

    assert [ref.name for ref in cluster.objects()] == ["theirs"]


class Killed(BaseException):
    """Whoever looks after the cluster is killed here."""


@pytest.mark.parametrize("fate", ["done", "failed", "gone"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", range(12))
def test_a_dispatcher_killed_at_any_call_repeats_and_loses_nothing(
    cluster: FakeKubernetes, job: Job, fate: str, moment: str, call: int
) -> None:
    left = iter(range(call, -1, -1))
    fail = cluster.script.fail_before if moment == "before" else cluster.script.fail_after
    fail("*", Killed(), when=lambda _: next(left) == 0)

    def looked(times: int) -> None:
        for _ in range(times):
            with suppress(Killed):
                look(cluster)

    looked(3)
    if fate == "done":
        engine.tick(only(job.pk))
        end(cluster, "Complete")
    elif fate == "failed":
        end(cluster, "Failed")
    else:
        cluster.remove(the_ref(cluster))
    looked(4)

    verbs = [one.verb for one in cluster.effects]
    assert (row().state, row().attempts) == (("done", 0) if fate == "done" else ("open", 1))
    assert verbs == ["applied"] if fate == "gone" else ["applied", "deleted"]
    assert row().placed_at is None
    assert cluster.objects() == {}
