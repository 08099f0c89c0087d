"""The backup policy of an environment: what holds, every version with what it changed, and the form of the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from changecontrol import access, clock
from changecontrol.actions.windows import differences_of
from changecontrol.errors import Conflict, Forbidden, Invalid
from changecontrol.forms.windows import rule_words
from changecontrol.models import Environment
from changecontrol.queries.windows import zones_of
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import counted, span
from recovery.actions.policies import publish_backup_policy
from recovery.forms.policies import ENGINE_HINTS, ENGINES, BackupPolicyForm, locked_for
from recovery.models import BackupPolicy
from recovery.models.policy import Engine
from recovery.queries.points import objectives_of, schedule_of
from recovery.queries.policies import fitness_of, policy_versions
from recovery.rules.policies import PolicyContent
from recovery.rules.schedule import next_due
from recovery.views.lookup import environment_or_404, key_of, why_not

WORDS = {
    "rrule": "repeats",
    "lock_days": "object lock",
    "version_days": "old versions",
    "is_pci": "PCI DSS",
    "has_sentinel": "sentinel rows",
}
PLATFORM_FIRST = (
    "Only a platform administrator says where backups are read from and sent to, so the first version is theirs to "
    "write."
)


@page
@require_GET
def backup_policy(request: HttpRequest, tenant: str, slug: str) -> HttpResponse:
    """Show the version in force; `?version=` shows an older one."""
    found = environment_or_404(request, tenant=tenant, slug=slug)
    versions = policy_versions(found)
    wanted = key_of(request, "version")
    shown = next((one for one in versions if one.version == wanted), versions[0] if versions else None)
    at = clock.now()
    context = {
        "environment": found,
        "policy": shown,
        "refusal": why_not(request, Ability.RECOVERY_EDIT, found) or _not_first(request, shown),
        "objectives": objectives_of(found),
        "versions": _versions(versions),
        **(_facts(found, shown, at=at) if shown else {}),
    }
    return render(request, "recovery/policy.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def backup_policy_edit(request: HttpRequest, tenant: str, slug: str) -> HttpResponseBase:
    """Write the next version, or the first."""
    found = environment_or_404(request, tenant=tenant, slug=slug)
    latest = next(iter(policy_versions(found)), None)
    if refusal := why_not(request, Ability.RECOVERY_EDIT, found) or _not_first(request, latest):
        raise Forbidden(refusal)
    form = _form(request, latest)
    status = 422 if form.is_bound else 200
    if form.is_bound and form.is_valid():
        try:
            published = publish_backup_policy(
                actor=actor_of(request),
                environment_id=found.pk,
                content=form.content,
                seen_version=form.cleaned_data["seen_version"],
                reason=form.cleaned_data["reason"],
                at=clock.now(),
            )
        except Invalid as refused:
            form.refuse(refused)
        except Conflict as refused:
            form.add_error(None, refused.sentence)
            status = 409
        else:
            messages.success(request, f"Version {published.version} holds from now on.")
            return redirect("backup-policy", tenant, slug)
    context = {
        "environment": found,
        "form": form,
        "latest": latest,
        "objectives": objectives_of(found),
        "is_locked": not _is_platform(request),
    }
    return render(request, "recovery/policy_form.html", context, status=status)


def _form(request: HttpRequest, latest: BackupPolicy | None) -> BackupPolicyForm:
    zone = str(timezone.get_current_timezone())
    tomorrow = clock.now().astimezone(timezone.get_current_timezone()) + timedelta(days=1)
    return BackupPolicyForm(
        request.POST if request.method == "POST" else None,
        policy=latest,
        starts=tomorrow.replace(hour=2, minute=0, second=0, microsecond=0, tzinfo=None),
        zones=(zone, "UTC", *zones_of(scope_for(request))),
        locked=locked_for(is_platform=_is_platform(request)),
    )


def _is_platform(request: HttpRequest) -> bool:
    return Ability.ESTATE_EDIT in access.abilities_for(scope_for(request), None)


def _not_first(request: HttpRequest, latest: BackupPolicy | None) -> str:
    return PLATFORM_FIRST if latest is None and not _is_platform(request) else ""


def _facts(environment: Environment, policy: BackupPolicy, *, at: datetime) -> dict[str, Any]:
    fitness = fitness_of(
        environment,
        schedule=schedule_of(policy),
        wal_seconds=policy.wal_seconds,
        filestore_seconds=policy.filestore_seconds,
        at=at,
    )
    due = next_due(schedule_of(policy), after=at)
    return {
        "fitness": fitness,
        "next_due": due if policy.is_active else None,
        "groups": [
            {"title": "What is backed up", "anchor": "source", "pairs": _shown(_source(policy))},
            {"title": "When", "anchor": "schedule", "pairs": _shown(_schedule(policy))},
            {"title": "Where it goes", "anchor": "stores", "pairs": _shown(_stores(policy))},
            {"title": "How long it stays", "anchor": "retention", "pairs": _shown(_retention(policy))},
            {"title": "How it is restored and proved", "anchor": "restores", "pairs": _shown(_restores(policy))},
            *_rehearsals(policy),
        ],
    }


def _source(policy: BackupPolicy) -> list[dict[str, Any]]:
    return [
        {"label": "Engine", "value": dict(ENGINES)[policy.engine], "note": ENGINE_HINTS[policy.engine]},
        _code("Database", policy.source),
        _code("Attachments", policy.filestore, "" if policy.filestore else "none are copied"),
        _code("Their credential", policy.filestore_credential),
        {"label": "Sentinel rows", "value": _sentinels(policy)},
    ]


def _sentinels(policy: BackupPolicy) -> str:
    if not policy.has_sentinel:
        return "none"
    return "one before each dump" if policy.engine == Engine.PG_DUMP else "one each minute"


def _attachments(policy: BackupPolicy) -> str:
    """Say what is done for attachments between backups that do not copy them at an interval."""
    return "with each dump" if policy.engine == Engine.PG_DUMP and policy.filestore else "not copied"


def _schedule(policy: BackupPolicy) -> list[dict[str, Any]]:
    starts = f"from {policy.starts_local:%Y-%m-%d %H:%M}, on the clocks of {policy.zone.replace('_', ' ')}"
    return [
        {"label": "Full backup", "value": rule_words(policy.rrule), "note": starts},
        {"label": "Grace", "value": span(policy.grace_seconds), "note": "later than that, it alarms"},
        {
            "label": "Incremental backups",
            "value": f"{policy.incrementals} after each full one" if policy.incrementals else "none",
        },
        {"label": "WAL", "value": _every(policy.wal_seconds, "not archived")},
        {"label": "Attachments", "value": _every(policy.filestore_seconds, _attachments(policy))},
    ]


def _stores(policy: BackupPolicy) -> list[dict[str, Any]]:
    return [
        _code("Destination", policy.store),
        _code("Its credential", policy.store_credential),
        _code("Copy", policy.copy_store),
        _code("Credential of the copy", policy.copy_credential),
        *(_code("age recipient", one) for one in policy.recipients),
        _of_the_bucket("Object lock", policy.lock_days, _asked_by(policy)),
        _of_the_bucket("Old versions of what was removed", policy.version_days, "which is not asked"),
    ]


def _of_the_bucket(label: str, days: int, asked: str) -> dict[str, Any]:
    value = counted(days, "day") if days else "none"
    return {"label": label, "value": value, "note": f"as the bucket is set, {asked}" if days else ""}


def _asked_by(policy: BackupPolicy) -> str:
    return "which is not asked" if policy.engine == Engine.EXTERNAL else "which each backup asks of S3"


def _retention(policy: BackupPolicy) -> list[dict[str, Any]]:
    kept = [
        counted(count, name)
        for count, name in (
            (policy.keep_daily, "day"),
            (policy.keep_weekly, "week"),
            (policy.keep_monthly, "month"),
        )
        if count
    ]
    return [
        {"label": "Last", "value": counted(policy.keep_last, "point")},
        {"label": "Newest of each", "value": ", ".join(kept) or "nothing more"},
        {"label": "PCI DSS", "value": "one of each of twelve months" if policy.is_pci else ""},
    ]


def _restores(policy: BackupPolicy) -> list[dict[str, Any]]:
    return [
        _code("Credential that can only read", policy.restore_credential),
        _code("age identity", policy.identity),
        _code("Index identity", policy.index_identity),
        _code("Server of restored databases", policy.restore_target),
        _code("Folder of restored attachments", policy.restore_filestore),
        {"label": "Verified", "value": f"every {counted(policy.verify_days, 'day')}"},
        {"label": "Drill", "value": f"every {counted(policy.drill_days, 'day')}"},
    ]


def _rehearsals(policy: BackupPolicy) -> list[dict[str, Any]]:
    """Return where a drill of level 5 brings it up, as a group of its own; nothing where it does not."""
    if not policy.rehearsal_cluster:
        return []
    pairs = [
        {"label": "Cluster", "value": policy.rehearsal_cluster},
        _code("Git path", policy.rehearsal_path or policy.environment.path),
        _code("Server of databases", policy.rehearsal_target),
        _code("Database", policy.rehearsal_database or policy.environment.database),
        _code("Folder of attachments", policy.rehearsal_filestore),
    ]
    title = "Where it is brought up for a drill of level 5"
    return [{"title": title, "anchor": "rehearsals", "pairs": _shown(pairs)}]


def _code(label: str, value: str, note: str = "") -> dict[str, Any]:
    return {"label": label, "value": value, "is_code": bool(value), "note": note}


def _shown(pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in pairs if one["value"] or one.get("note")]


def _every(seconds: int | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"every {span(seconds)}"


def _versions(versions: Sequence[BackupPolicy]) -> list[dict[str, Any]]:
    """Return the versions with what each changed. The oldest shown has nothing beside it to be compared with."""
    pairs = zip_longest(versions, versions[1:])
    return [{"policy": one, "changed": _changed(before, one) if before else []} for one, before in pairs]


def _changed(before: BackupPolicy, after: BackupPolicy) -> list[dict[str, str]]:
    columns = [one.name for one in dataclasses.fields(PolicyContent)]
    told = [{name: getattr(one, name) for name in columns} for one in (before, after)]
    return [
        {"name": WORDS.get(name, name.replace("_", " ")), "old": _told(old), "new": _told(new)}
        for name, (old, new) in differences_of(*told).items()
    ]


def _told(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return "nothing" if value in ("", None) else str(value)
