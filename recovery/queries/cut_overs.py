"""What a restore into production resolves to, and how far its preparation is. The rollout side asks here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from django.db.models import Q, QuerySet

from changecontrol.errors import Conflict
from changecontrol.lifecycles.change import ChangeKind
from changecontrol.lifecycles.run import RunState, TargetState
from changecontrol.models import ChangeRequest, Environment, Run
from recovery.lifecycles.cut_over import ACTIVE, PREPARING, CutOverState
from recovery.models import BackupPolicy, CutOver
from recovery.models.policy import Engine
from recovery.queries.progress import progress_of
from recovery.queries.restores import point_at
from recovery.rules.restores import check_target

PREPARING_STEP = "prepare"
"""The step of a run that waits in its preflight for what is brought back."""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a change brings back, as its approvers see it. `to` is ISO 8601 in UTC; `server` a reference."""

    environment: str
    point: str
    to: str
    from_database: str
    to_database: str
    to_filestore: str
    server: str
    keep_hours: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Standing(StrEnum):
    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Preparation:
    """How far the safety backup and the restore of a run are, in a sentence."""

    standing: Standing
    sentence: str


def restore_plan_of(
    environment: Environment, *, to: datetime, database: str, keep_hours: int, change: ChangeRequest | None = None
) -> RestorePlan:
    """Resolve what is brought back. Raises `Conflict` with the last safe time, or with what the policy lacks.

    A change whose own rollout has put the database in its place resolves to what was approved, for as long as it is
    there: what is asked before it goes on is no drift.
    """
    policy = BackupPolicy.objects.active().filter(environment=environment).first()
    if policy is None:
        raise Conflict(f"{environment} has no backup policy, so there is nothing to bring back.")
    if policy.engine == Engine.EXTERNAL:
        raise Conflict(f"Another tool backs {environment} up: no safety backup could be taken first.")
    if not environment.database:
        raise Conflict(f"The estate does not say which database {environment} runs on: name it there first.")
    if not policy.restore_target:
        raise Conflict("The backup policy names no server for restored databases: name one there first.")
    if policy.filestore and not policy.restore_filestore:
        raise Conflict("The backup policy names no folder for restored attachments: name one there first.")
    others = Environment.objects.filter(tenant=environment.tenant_id)
    replaced = _replaced_by(change, environment, database=database)
    if replaced:
        others = others.exclude(pk=environment.pk)
    if sentence := check_target(database, in_use=others.values_list("database", flat=True)):
        raise Conflict(sentence)
    point = point_at(environment, to)
    if policy.filestore and point.policy.engine == Engine.EXTERNAL:
        raise Conflict(
            f"Another tool made the point {point.key}, and no attachments come with it: {environment} would run "
            "without its own. Choose another time, or restore a copy beside it."
        )
    return RestorePlan(
        environment=environment.slug,
        point=point.key,
        to=to.astimezone(UTC).isoformat(),
        from_database=replaced or environment.database,
        to_database=database,
        to_filestore=filestore_for(policy, database=database),
        server=policy.restore_target,
        keep_hours=keep_hours,
    )


def filestore_for(policy: BackupPolicy, *, database: str) -> str:
    """Return where the attachments of a restored database go; empty where the policy names no folder."""
    return f"{policy.restore_filestore.rstrip('/')}/{database}" if policy.restore_filestore else ""


def _replaced_by(change: ChangeRequest | None, environment: Environment, *, database: str) -> str:
    """Return what ran before a change's own cut-over to this database; empty where that is not in place."""
    if change is None or environment.database != database:
        return ""
    own = CutOver.objects.filter(change=change, environment=environment, target_database=database)
    newest = own.filter(in_place_at__isnull=False).order_by("-pk").first()
    return newest.old_database if newest is not None else ""


def database_at(environment: Environment, at: datetime) -> str:
    """Return the database that was an environment's at a time: what is brought back from before a cut-over has it.

    The new one takes orders from the moment on at which its rollout began, and so it is the environment's from then on.
    """
    later = CutOver.objects.filter(environment=environment, in_place_at__gt=at).order_by("in_place_at").first()
    return later.old_database if later is not None else environment.database


def databases_in_turn(environment: Environment) -> list[str]:
    """Return the database of an environment, and those between which nobody knows yet which will have been it.

    From before a rollout puts one in place until it has succeeded or was taken back, either may be what a moment is
    brought back from.
    """
    unsure = Q(state=CutOverState.READY) | Q(state=CutOverState.ABANDONED, in_place_at__isnull=False)
    return _databases(environment, CutOver.objects.filter(unsure))


def databases_known(environment: Environment) -> list[str]:
    """Return the databases that an environment has or had, as far as the estate and its cut-overs tell."""
    return _databases(environment, CutOver.objects.all())


def _databases(environment: Environment, cut_overs: QuerySet[CutOver]) -> list[str]:
    pairs = cut_overs.filter(environment=environment).values_list("old_database", "target_database")
    return list(dict.fromkeys([environment.database, *(name for pair in pairs for name in pair)]))


def return_of(run: Run) -> CutOver | None:
    """Return what a rollback of a run would take back: the cut-over by which its new database is in use."""
    rows = CutOver.objects.filter(run=run, state=CutOverState.READY, in_place_at__isnull=False)
    return rows.order_by("-pk").first()


def has_gone_back(run: Run) -> bool:
    """Tell whether an ended run left nothing on what it brought: it was taken back, or ended with nothing touched."""
    if run.state == RunState.ROLLED_BACK:
        return True
    if run.state not in (RunState.ABORTED, RunState.FAILED):
        return False
    touched = ~Q(state__in=(TargetState.PENDING, TargetState.SKIPPED, TargetState.REVERTED)) | ~Q(applied=[])
    return not run.targets.filter(touched).exists()


def cut_overs_to_take_back() -> list[CutOver]:
    """Return those whose run had ended in the middle and was taken back since."""
    rows = CutOver.objects.filter(state=CutOverState.ABANDONED, in_place_at__isnull=False)
    return list(rows.filter(run__state=RunState.ROLLED_BACK).order_by("pk"))


def uses_of(database: str, *, beside: CutOver) -> list[str]:
    """Say what names a database beside a cut-over that is over: environments of its tenant, and later cut-overs.

    One that ended in the middle counts as well: nobody knows which of its two databases is in use.
    """
    tenant = beside.environment.tenant_id
    environments = Environment.objects.filter(tenant=tenant, database__iexact=database).order_by("slug")
    is_under_way = Q(state__in=sorted(ACTIVE)) | Q(state=CutOverState.ABANDONED, in_place_at__isnull=False)
    is_named = Q(old_database__iexact=database) | Q(target_database__iexact=database)
    later = CutOver.objects.filter(is_under_way, is_named, environment__tenant=tenant, pk__gt=beside.pk)
    changes = {one.change.number for one in later.select_related("change")}
    return [
        *(f"the estate names it for {one.slug}" for one in environments),
        *(f"{number} names it" for number in sorted(changes)),
    ]


def runs_to_prepare() -> list[Run]:
    """Return the runs that wait for what they bring back, and for which nobody has begun it since their preflight."""
    rows = Run.objects.filter(change__kind=ChangeKind.RESTORE, state=RunState.PREFLIGHT, step=PREPARING_STEP)
    return [run for run in rows.select_related("change", "plan").order_by("pk") if is_to_prepare(run)]


def is_to_prepare(run: Run) -> bool:
    """Tell whether a waiting run needs another attempt: it has none, or the last one failed before it was resumed."""
    newest = CutOver.objects.filter(run=run).order_by("-pk").first()
    if newest is None:
        return True
    return newest.state == CutOverState.FAILED and newest.created_at < datetime.fromisoformat(run.data["preflight_at"])


def preparation_of(run: Run, *, at: datetime) -> Preparation:
    """Tell a run how far it is: it opens its first wave once this is ready."""
    newest = CutOver.objects.filter(run=run).select_related("restore").order_by("-pk").first()
    if newest is None or is_to_prepare(run):
        return Preparation(Standing.WAITING, "The safety backup is about to begin.")
    if newest.state == CutOverState.READY:
        return Preparation(Standing.READY, newest.sentence)
    if newest.state not in PREPARING:
        return Preparation(Standing.FAILED, newest.sentence)
    progress = progress_of(newest.restore, at=at) if newest.restore is not None else None
    done = f" {progress.share:.0%} of this step." if progress is not None and progress.share is not None else ""
    return Preparation(Standing.WAITING, f"{newest.sentence}{done}")
