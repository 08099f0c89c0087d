"""Publishing backup policies. A version never changes: an edit is the next one, and later backups follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import reason_of
from changecontrol.actions.windows import differences_of
from changecontrol.errors import Conflict, Forbidden, Invalid
from changecontrol.events import Tag
from changecontrol.models import Cluster, Environment
from changecontrol.rules.rehearsals import refusal_of_place
from changecontrol.rules.roles import Ability
from recovery.actions.locking import locked_environment
from recovery.actions.refusals import audited
from recovery.models import BackupPolicy
from recovery.queries.policies import fitness_of
from recovery.rules.policies import PolicyContent, policy_problems

REACHES = (
    *("source", "filestore", "filestore_credential"),
    *("store", "store_credential", "copy_store", "copy_credential", "restore_credential"),
    *("identity", "index_identity", "restore_target", "restore_filestore"),
    *("rehearsal_cluster", "rehearsal_path", "rehearsal_target", "rehearsal_database"),
    "rehearsal_filestore",
)
"""Where data and secrets are read from and sent to."""


@audited
@transaction.atomic
def publish_backup_policy(
    *, actor: Actor, environment_id: int, content: PolicyContent, seen_version: int, reason: str = "", at: datetime
) -> BackupPolicy:
    """Write the next version of an environment's policy, or with `seen_version` 0 its first.

    Refused where it could not meet the RPO of what the environment supports, with the reason. Raises `Conflict` where
    somebody published another version meanwhile, `Invalid` with everything that is wrong.
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_EDIT, environment)
    latest = BackupPolicy.objects.select_for_update().filter(environment=environment).order_by("-version").first()
    version = latest.version if latest else 0
    if seen_version != version:
        raise Conflict(f"This policy is at version {version}, and you were editing version {seen_version}.")
    words = reason_of(reason, field="reason", sentence="Say why the policy changes.") if latest else reason.strip()
    _check(environment, content, at=at)
    columns = _columns(content)
    old = {name: getattr(latest, name) for name in columns} if latest else {}
    _require_reach(actor, columns, before=old)
    differences = differences_of(_told(old), _told(columns))
    if latest is not None and not differences:
        return latest
    BackupPolicy.objects.active().filter(environment=environment).update(is_active=False)
    policy = BackupPolicy.objects.create(
        environment=environment,
        version=version + 1,
        reason=words[:500],
        created_at=at,
        created_by=actor.person,
        **columns,
    )
    data = {"version": policy.version, "reason": words, "differences": differences}
    audit.record(
        Tag.BACKUP_POLICY_PUBLISHED, subject=policy, actor=actor, at=at, data=data, tenant=environment.tenant_id
    )
    wiring.nudge("backup")
    return policy


def _check(environment: Environment, content: PolicyContent, *, at: datetime) -> None:
    problems = policy_problems(content)
    if sentence := _refusal_of_cluster(environment, content.rehearsal_cluster):
        problems["rehearsal_cluster"] = [sentence]
    if problems:
        raise Invalid("The backup policy does not hold as it is written.", fields=problems)
    fitness = fitness_of(
        environment,
        schedule=content.schedule,
        wal_seconds=content.wal_seconds,
        filestore_seconds=content.filestore_seconds,
        at=at,
    )
    if not fitness.is_met:
        raise Invalid(fitness.sentence, fields={"rpo": [fitness.sentence]})


def _refusal_of_cluster(environment: Environment, slug: str) -> str:
    """Say why an environment is not brought up in the cluster of this name; empty where it is, or none is named."""
    if not slug:
        return ""
    cluster = Cluster.objects.filter(slug=slug).first()
    if cluster is None:
        return "There is no cluster of this name."
    return refusal_of_place(cluster_id=cluster.pk, own_cluster_id=environment.cluster_id)


def _require_reach(actor: Actor, columns: Mapping[str, Any], *, before: Mapping[str, Any]) -> None:
    """Let platform administrators alone say what is read from where and sent to where.

    An address may be another tenant's, and a secret is offered to the address that stands beside its reference.
    """
    if all(before.get(name, "") == columns[name] for name in REACHES):
        return
    if not access.can(actor, Ability.ESTATE_EDIT, None):
        raise Forbidden("Only a platform administrator says where backups are read from and sent to.")


def _columns(content: PolicyContent) -> dict[str, Any]:
    columns = asdict(content)
    columns["rrule"] = content.rrule.strip()
    columns["starts_local"] = content.starts_local.replace(tzinfo=UTC)
    columns["recipients"] = list(content.recipients)
    return columns


def _told(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values; what is said of where secrets are stays a reference."""
    return {
        name: value.replace(tzinfo=None).isoformat() if isinstance(value, datetime) else value
        for name, value in columns.items()
    }
