"""Asks recovery whether each environment could be brought back: a verified point, how old, and a drill in time (RBK-2).

Which limit holds for which change is said in `deployments.rules.recovery`. A restore is not held up by what it mends:
its own safety backup comes first.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings

from changecontrol.gates import GateVerdict
from changecontrol.models import Environment
from changecontrol.models.estate import Stage
from changecontrol.models.gate import Verdict
from deployments.gates.context import DEPLOYS, DeployContext, digest_of_value, said
from deployments.rules.recovery import Allowed, Backups, judge_backups
from recovery.queries import Freshness, Limit, Promise, freshness_in, promise_of

TOOL = "ChangeControl recovery"
SUBMIT_AGAIN = "Then submit this change again, or resume its run."


class BackupGate:
    """Is there a verified recovery point of every environment, fresh enough for what the change could cost?"""

    key = "backup_freshness"
    name = "Freshness of backups"
    tool = TOOL
    kinds = DEPLOYS
    time_to_live = timedelta(hours=1)

    def judge(self, context: DeployContext) -> GateVerdict:
        rollback_class = context.resolved.classification.rollback_class
        sentences: dict[bool, list[str]] = {True: [], False: []}
        raw: list[dict[str, Any]] = []
        points: list[list[Any]] = []
        all_fresh = freshness_in([one.environment for one in context.resolved.environments], at=context.at)
        for one in context.resolved.environments:
            environment = one.environment
            fresh, promise = all_fresh[environment.pk], promise_of(environment, context.at)
            backups = _backups(environment, fresh, promise)
            answer = judge_backups(
                backups, rollback_class=rollback_class, is_policy_required=settings.BACKUP_POLICY_REQUIRED
            )
            sentences[answer.is_enough].append(answer.sentence)
            points.append([environment.slug, fresh.point_key, fresh.level])
            allowed = backups.allowed_for(rollback_class)
            raw.append(
                {
                    "environment": environment.slug,
                    "policy_version": promise.version if promise else None,
                    "is_enough": answer.is_enough,
                    "point": fresh.point_key,
                    "level": fresh.level,
                    "consistent_at": fresh.consistent_at.isoformat() if fresh.consistent_at else None,
                    "allowed_seconds": allowed.within.total_seconds() if allowed and allowed.within else None,
                    "says": answer.sentence,
                }
            )
        return _verdict(sentences, judged=digest_of_value(points), judged_what="recovery points", raw=raw)


class DrillGate:
    """Was a restore practised in time, where the backup policy of an environment says how often?"""

    key = "drill_age"
    name = "Age of the last drill"
    tool = TOOL
    kinds = DEPLOYS
    time_to_live = timedelta(hours=1)

    def judge(self, context: DeployContext) -> GateVerdict:
        sentences: dict[bool, list[str]] = {True: [], False: []}
        raw: list[dict[str, Any]] = []
        drills: list[list[str]] = []
        for one in context.resolved.environments:
            slug = one.environment.slug
            promise = promise_of(one.environment, context.at)
            if promise is None:
                # Whether it must have a policy, the gate above has said.
                sentences[True].append(f"{slug}: no policy asks for a drill.")
                raw.append({"environment": slug, "due_at": None, "last_at": None})
                drills.append([slug, ""])
                continue
            drill = promise.drill
            way_out = " Hold a drill of it." if drill.is_overdue else ""
            sentences[not drill.is_overdue].append(f"{slug}: {drill.sentence}{way_out}")
            last_at = drill.last_at.isoformat() if drill.last_at else ""
            raw.append({"environment": slug, "due_at": drill.due_at.isoformat(), "last_at": last_at or None})
            drills.append([slug, last_at])
        return _verdict(sentences, judged=digest_of_value(drills), judged_what="drills", raw=raw)


def _backups(environment: Environment, fresh: Freshness, promise: Promise | None) -> Backups:
    return Backups(
        environment=environment.slug,
        is_production=environment.stage == Stage.PRODUCTION,
        sentence=fresh.sentence,
        level=fresh.level,
        age=fresh.age,
        fresh=_allowed(promise.fresh) if promise else None,
        proved=_allowed(promise.proved) if promise else None,
    )


def _allowed(limit: Limit) -> Allowed:
    return Allowed(limit.within, limit.sentence)


def _verdict(
    sentences: dict[bool, list[str]], *, judged: str, judged_what: str, raw: list[dict[str, Any]]
) -> GateVerdict:
    failing = sentences[False]
    return GateVerdict(
        verdict=Verdict.FAIL if failing else Verdict.PASS,
        sentence=f"{said(failing)} {SUBMIT_AGAIN}" if failing else said(sentences[True]),
        judged=judged,
        judged_what=judged_what,
        raw=raw,
    )
