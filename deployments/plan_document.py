"""The plan as a document: what people approve, what its digest names, and what drift is told from.

Nothing is resolved or written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from changecontrol.models import ChangeRequest
from changecontrol.rules.counting import counted
from changecontrol.rules.plan import digest_of
from deployments.rendering import name_of, safe
from deployments.resolution import Resolved
from deployments.rules.indicators import CATALOGUE
from deployments.rules.manifests import images_of

FORMAT = 1
NOT_IN_DIGEST = (
    "title",
    "description",
    "links",
    "planned_start_at",
    "commit",
    "revision_name",
    "environments",
    "waves",
)
"""What may change without a vote becoming stale, and what the document says elsewhere in resolved form (APR-8)."""


def document_of(
    change: ChangeRequest, resolved: Resolved, *, gates: Sequence[Mapping[str, str]], policy: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the plan as JSON values; `rules.plan.canonical` writes it and `digest_of` names it."""
    content = resolved.content
    asked = {key: value for key, value in content.to_json().items() if key not in NOT_IN_DIGEST}
    starts = {one.commit_from or "" for one in resolved.environments}
    return {
        "format": FORMAT,
        "change": change.number,
        "content": asked,
        "source": resolved.source.url,
        "commit_from": starts.pop() if len(starts) == 1 else "",
        "commit": resolved.commit.sha,
        "manifests_sha256": resolved.manifests_hash,
        "environments": [
            {
                "name": one.environment.slug,
                "stage": one.environment.stage,
                "cluster": one.environment.cluster.slug,
                "namespace": one.environment.namespace,
                "path": one.environment.path,
                "ref": one.environment.ref,
                "commit_from": one.commit_from or "",
            }
            for one in resolved.environments
        ],
        "objects": [
            {"environment": env.environment.slug, "ref": str(one.ref), "sha256": digest_of(safe(one.manifest))}
            for env in resolved.environments
            for one in env.manifests.objects
        ],
        "images": _images(resolved),
        "targets": [
            {
                "environment": one.environment.slug,
                "cohort": one.cohort.slug if one.cohort else "",
                "wave": one.wave,
                "workload": one.workload,
                "stores": one.store_count,
                "sales_share": one.sales_share,
            }
            for one in resolved.targets
        ],
        "waves": [
            {
                "name": wave.name,
                "environments": list(wave.environments),
                "cohorts": list(wave.cohorts),
                "bake_seconds": wave.bake_seconds,
                "promotion": str(wave.promotion),
            }
            for wave in resolved.waves
        ],
        "window": {"on_close": str(content.on_window_close)},
        "thresholds": [
            {
                "name": rule.indicator,
                "metric": CATALOGUE[rule.indicator].metric,
                "comparison": CATALOGUE[rule.indicator].comparison.value,
                "threshold": rule.threshold,
                "minimum_samples": rule.minimum_samples,
                "consecutive_breaches": rule.consecutive_breaches,
            }
            for rule in content.indicators
        ],
        "rollback": {
            "class": resolved.classification.rollback_class.value,
            "reasons": list(resolved.classification.reasons),
            "plan": content.rollback_plan,
            "how": rollback_words(resolved),
        },
        "gates": [dict(gate) for gate in gates],
        "waivers": [],
        "policy": dict(policy),
        **({"restore": resolved.restore.to_json()} if resolved.restore else {}),
    }


def rollback_words(resolved: Resolved) -> str:
    """Say what going back will do."""
    if resolved.restore is not None:
        return (
            f"Going back applies the commit that names “{resolved.restore.from_database}”, which is kept for "
            f"{counted(resolved.restore.keep_hours, 'hour')}; what was written to the new database by then is lost."
        )
    if resolved.is_first:
        return (
            "Nothing was deployed here before by this path, so going back deletes what the run created and leaves "
            "everything else alone."
        )
    return "Going back applies the commit that runs there now, waits for its health, and writes that to Git."


def drifted(approved: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the parts of the approved document that no longer resolve to the same, judging verdicts apart."""
    judged_elsewhere = {"gates", "waivers", "policy"}
    return tuple(
        key.replace("_", " ")
        for key in sorted(approved.keys() | now.keys())
        if key not in judged_elsewhere and approved.get(key) != now.get(key)
    )


def _images(resolved: Resolved) -> list[dict[str, str]]:
    return [
        {"environment": env.environment.slug, "workload": name_of(use.ref), "image": use.image, "digest": use.digest}
        for env in resolved.environments
        for one in env.manifests.objects
        for use in images_of(one.manifest)
    ]
