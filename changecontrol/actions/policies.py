"""Publishing approval policies. A version never changes: an edit is the next one, and touches later submissions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.locking import sight_of
from changecontrol.actions.refusals import audited
from changecontrol.actions.windows import differences_of
from changecontrol.errors import Conflict, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.models import ApprovalPolicy, Tenant
from changecontrol.models.estate import slug as slug_validator
from changecontrol.rules.policy_json import policy_from_json, policy_problems, policy_to_json
from changecontrol.rules.roles import Ability


@audited
@transaction.atomic
def publish_policy(
    *,
    actor: Actor,
    tenant_id: int | None,
    slug: str,
    name: str,
    content: Mapping[str, Any],
    seen_version: int,
    at: datetime,
) -> ApprovalPolicy:
    """Write the next version of a policy, or with `seen_version` 0 the first of a new one.

    Without a tenant it is the platform's. Changes that are submitted already keep their copy (APR-4). Raises `Conflict`
    where somebody published another version meanwhile.
    """
    tenant = None
    if tenant_id is not None:
        tenant = access.visible(sight_of(actor), Tenant.objects.filter(pk=tenant_id)).first()
        if tenant is None:
            raise NotFound("There is no such tenant.")
    access.require(actor, Ability.POLICY_EDIT, tenant)
    _check(slug, name, content)
    latest = ApprovalPolicy.objects.select_for_update().filter(tenant=tenant, slug=slug).order_by("-version").first()
    version = latest.version if latest else 0
    if seen_version != version:
        raise Conflict(f"This policy is at version {version}, and you were editing version {seen_version}.")
    written = policy_to_json(policy_from_json(content, name=name, version=version + 1))
    if latest is not None and (latest.content, latest.name) == (written, name.strip()):
        return latest
    ApprovalPolicy.objects.filter(tenant=tenant, slug=slug, is_active=True).update(is_active=False)
    policy = ApprovalPolicy.objects.create(
        tenant=tenant,
        slug=slug,
        name=name.strip(),
        version=version + 1,
        content=written,
        created_at=at,
        created_by=actor.person,
    )
    old = {"name": latest.name, **latest.content} if latest else {}
    data = {
        "slug": slug,
        "version": policy.version,
        "differences": differences_of(old, {"name": policy.name, **written}),
    }
    audit.record(Tag.POLICY_PUBLISHED, subject=policy, actor=actor, at=at, data=data, tenant=tenant)
    return policy


def _check(slug: str, name: str, content: Mapping[str, Any]) -> None:
    problems = policy_problems(content)
    if not name.strip() or len(name.strip()) > 120:
        problems["name"] = ["Give the policy a name of at most 120 characters."]
    try:
        slug_validator(slug)
    except ValidationError as error:
        problems["slug"] = [str(one) for one in error.messages]
    if problems:
        raise Invalid("The policy does not hold as it is written.", fields=problems)
