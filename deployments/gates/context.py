"""What a gate of a deployment is given, and what several of them share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from changecontrol.lifecycles.change import ChangeKind
from changecontrol.models import ChangeRequest
from changecontrol.rules.plan import digest_of
from deployments.resolution import Resolved

DEPLOYS = frozenset({str(ChangeKind.DEPLOY)})
KINDS = DEPLOYS | {str(ChangeKind.RESTORE)}
"""A restore is put in place by a rollout, which is judged like any other."""
MAX_SAID = 3


@dataclass(frozen=True, slots=True)
class DeployContext:
    """A change, what it resolves to, and when it is judged. `run_id` is that of the rollout that asks, or None."""

    change: ChangeRequest
    resolved: Resolved
    at: datetime
    run_id: int | None = None


def digest_of_manifests(context: DeployContext) -> str:
    """Return the digest of everything that would be applied."""
    return digest_of(
        [
            {"environment": one.environment.slug, "manifests": context.resolved.manifests_hash}
            for one in context.resolved.environments
        ]
    )


def digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_value(value: Any) -> str:
    return digest_of(value)


def said(sentences: Sequence[str]) -> str:
    """Join the first sentences, and count the rest."""
    more = len(sentences) - MAX_SAID
    return " ".join(sentences[:MAX_SAID]) + (f" And {more} more." if more > 0 else "")
