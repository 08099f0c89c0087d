"""What runs in an environment: the code and the image that its last rollout brought, kept with every point (BCK-2)."""

from __future__ import annotations

from dataclasses import dataclass

from changecontrol.lifecycles.run import RunState
from changecontrol.models import Environment, Plan, RunTarget
from changecontrol.models.run import RunKind
from recovery.models import RecoveryPoint


@dataclass(frozen=True, slots=True)
class Running:
    """A Git commit and the digest or name of the image of its first workload; empty where nothing was rolled out."""

    commit: str = ""
    image: str = ""


def running_in(environment: Environment) -> Running:
    """Return what the last rollout that succeeded left in an environment."""
    targets = RunTarget.objects.filter(
        environment=environment, run__kind=RunKind.ROLLOUT, run__state=RunState.SUCCEEDED, run__plan__isnull=False
    )
    target = targets.select_related("run__plan").order_by("-run__finished_at", "-pk").first()
    if target is None or target.run.plan is None:
        return Running()
    content = target.run.plan.content
    images = [
        str(one.get("digest") or one.get("image") or "")
        for one in content.get("images", [])
        if one.get("environment") == environment.slug
    ]
    return Running(commit=str(content.get("commit", "")), image=images[0] if images else "")


def has_run(environment: Environment, commit: str) -> bool:
    """Tell whether a rollout brought a commit to an environment, or a point that was taken here says that it ran."""
    if not commit:
        return False
    rollouts = RunTarget.objects.filter(
        environment=environment, run__kind=RunKind.ROLLOUT, run__state=RunState.SUCCEEDED
    )
    plans = Plan.objects.filter(pk__in=rollouts.values("run__plan"), document__contains=commit)
    if any(one.content.get("commit") == commit for one in plans):
        return True
    return RecoveryPoint.objects.filter(environment=environment, run__isnull=False, git_commit=commit).exists()
