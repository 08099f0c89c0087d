"""System checks: combinations that are unsafe with shops behind them are refused before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections


@register()
def check_safety(app_configs: Any = None, **_: Any) -> Sequence[CheckMessage]:
    found: list[CheckMessage] = []
    if len(settings.SECRET_KEY) < 40 or settings.SECRET_KEY.startswith("django-insecure"):
        found.append(
            Error("SECRET_KEY is too short.", hint="Give at least 40 random characters.", id="changecontrol.E001")
        )
    if settings.DEBUG and not settings.DEMO:
        found.append(Error("DEBUG shows settings to strangers.", hint="Unset DEBUG.", id="changecontrol.E002"))
    if "*" in settings.ALLOWED_HOSTS:
        found.append(Error("ALLOWED_HOSTS lets any host name in.", hint="Name the hosts.", id="changecontrol.E003"))
    if not settings.DEMO and not settings.IS_HTTPS and not settings.BASE_URL.startswith("http://127.0.0.1"):
        found.append(Error("BASE_URL is plain HTTP.", hint="Serve pages over https.", id="changecontrol.E004"))
    if settings.VAULT["address"].startswith("http://") and not _is_loopback(settings.VAULT["address"]):
        found.append(
            Error("VAULT_ADDR is plain HTTP.", hint="Secrets travel on it: use https.", id="changecontrol.E006")
        )
    if not settings.DATABASE_ROLES_ARE_SEPARATE:
        found.append(
            checks.Warning(
                "DATABASE_URL and MIGRATION_DATABASE_URL name one role.",
                hint="Give the application a role of its own, which can neither alter nor delete audit events.",
                id="changecontrol.W001",
            )
        )
    if not settings.EVIDENCE_SIGNING_KEY:
        found.append(
            checks.Warning(
                "EVIDENCE_SIGNING_KEY is not set: evidence packs cannot be signed and are refused.",
                hint="Point it at an Ed25519 private key, such as file:/run/secrets/evidence.pem.",
                id="changecontrol.W002",
            )
        )
    return found


@register()
def check_places_of_jobs(app_configs: Any = None, **_: Any) -> Sequence[CheckMessage]:
    """Refuse half a configuration of jobs in a cluster: it would show only once the first of them is due."""
    kinds = settings.JOBS_IN_KUBERNETES
    needed = ("JOBS_CLUSTER", "JOBS_NAMESPACE", "JOBS_IMAGE", "JOBS_SECRET", "JOBS_SERVICE_ACCOUNT", "JOBS_CPU")
    limits = ("JOB_MEMORY_MIB", "JOB_DISK_GIB")
    if min(settings.JOB_MEMORY_MIB, settings.JOB_DISK_GIB) < 0:
        return [Error("JOB_MEMORY_MIB or JOB_DISK_GIB is below 0.", hint="0: no limit.", id="changecontrol.E007")]
    if not kinds:
        given = [name for name in needed[:4] if getattr(settings, name)]
        hint = "Name the kinds that are done there, such as restore,drill, or unset the rest."
        words = f"JOBS_IN_KUBERNETES is not set, and these are: {', '.join(given)}."
        return [checks.Warning(words, hint=hint, id="changecontrol.W003")] if given else []
    found: list[CheckMessage] = []
    if missing := [name for name in (*needed, *limits) if not getattr(settings, name)]:
        words = f"JOBS_IN_KUBERNETES is set, and these are not: {', '.join(missing)}."
        found.append(Error(words, hint="docs/administrator.md says what each is for.", id="changecontrol.E008"))
    if unknown := sorted(set(kinds) - set(settings.JOBS)):
        hint = f"There are: {', '.join(sorted(settings.JOBS))}."
        found.append(
            Error(f"JOBS_IN_KUBERNETES names no kind: {', '.join(unknown)}.", hint=hint, id="changecontrol.E009")
        )
    return found


def _is_loopback(address: str) -> bool:
    return urlsplit(address).hostname in {"127.0.0.1", "::1", "localhost"}


@register(Tags.database)
def check_rights(app_configs: Any = None, databases: Sequence[str] | None = None, **_: Any) -> Sequence[CheckMessage]:
    """Ask the database whether the application could rewrite the trail: `manage.py check --database default`."""
    found: list[CheckMessage] = []
    for alias in databases or []:
        if settings.IS_OWNER:
            continue  # whoever migrates owns the tables
        if "changecontrol_auditevent" not in connections[alias].introspection.table_names():
            continue
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT has_table_privilege('changecontrol_auditevent', 'UPDATE, DELETE, TRUNCATE')")
            if cursor.fetchone()[0]:
                found.append(
                    Error(
                        "The role of DATABASE_URL may rewrite the audit trail.",
                        hint="Give the application a role of its own and migrate as another (MIGRATION_DATABASE_URL).",
                        id="changecontrol.E005",
                    )
                )
    return found
