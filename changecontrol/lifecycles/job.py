"""The life of a job: work of minutes or hours that a process of its own does for a workflow."""

from __future__ import annotations

from changecontrol.lifecycles.machine import Lifecycle, Word


class JobState(Word):
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


_S = JobState

JOB: Lifecycle[JobState] = Lifecycle(
    name="job",
    initial=_S.OPEN,
    transitions={
        "finish": (frozenset({_S.OPEN}), _S.DONE),
        "fail": (frozenset({_S.OPEN}), _S.FAILED),
        "stop": (frozenset({_S.OPEN}), _S.STOPPED),
    },
)
