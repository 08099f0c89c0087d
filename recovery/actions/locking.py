"""Locking the root of recovery: the environment whose data it is."""

from __future__ import annotations

from changecontrol import access
from changecontrol.access import Actor
from changecontrol.actions.locking import sight_of
from changecontrol.errors import NotFound
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.models import BackupPolicy, Disagreement


def locked_environment(actor: Actor, environment_id: int) -> Environment:
    """Lock an environment whose recovery the actor may see. One that is hidden is exactly as missing as none."""
    rows = access.environments_with(sight_of(actor), Ability.RECOVERY_VIEW).filter(pk=environment_id)
    # Not its key: what points at an environment may be written meanwhile, and need not wait for us.
    found = rows.select_for_update(of=("self",), no_key=True).select_related("tenant").first()
    if found is None:
        raise NotFound("There is no such environment.")
    return found


def locked_root(actor: Actor, environment_id: int | None, *, missing: str) -> Environment:
    """Lock the environment of a thing of recovery; None where there is no such thing.

    Both that and a hidden environment raise `NotFound` with the words of `missing`: neither tells what is there.
    """
    if environment_id is None:
        raise NotFound(missing)
    try:
        return locked_environment(actor, environment_id)
    except NotFound as hidden:
        raise NotFound(missing) from hidden


def locked_difference(actor: Actor, disagreement_id: int) -> Disagreement:
    """Lock a difference between catalogue and store, its environment before it. A hidden one is as missing as none."""
    missing = "There is no such difference."
    found = Disagreement.objects.filter(pk=disagreement_id).values_list("environment_id", flat=True)
    environment = locked_root(actor, found.first(), missing=missing)
    row = Disagreement.objects.select_for_update(of=("self",)).filter(pk=disagreement_id).first()
    if row is None:
        raise NotFound(missing)
    row.environment = environment
    return row


def policy_of(environment: Environment) -> BackupPolicy:
    """Return the policy in force. Raises `NotFound` where there is none."""
    policy = BackupPolicy.objects.active().filter(environment=environment).first()
    if policy is None:
        raise NotFound("This environment has no backup policy yet: write one first.")
    return policy
