"""Who looks after the recovery of an environment, and is told."""

from __future__ import annotations

from datetime import datetime

from django.urls import reverse

from changecontrol import access, outbox
from changecontrol.events import Tag
from changecontrol.models import Environment, User
from changecontrol.rules.roles import Role


def tell_owners(environment: Environment, *, tag: Tag, subject: str, text: str, at: datetime) -> None:
    """Tell whoever looks after an environment's recovery, and lead them to its page."""
    outbox.post(
        to=owners_of(environment, at=at),
        tag=str(tag),
        subject=f"{environment}: {subject}",
        text=text,
        at=at,
        path=reverse("recovery-environment", args=[environment.tenant.slug, environment.slug]),
    )


def owners_of(environment: Environment, *, at: datetime) -> list[User]:
    ids = [environment.pk]
    return access.holders(Role.RECOVERY_OWNER, tenant_id=environment.tenant_id, environment_ids=ids, at=at)
