"""Does a backup policy hold as it is written? Everything that is wrong, by field; RPO is judged in `objectives`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from recovery.rules.schedule import Schedule, check_schedule

SCHEMES = frozenset({"s3", "gs", "az", "file"})
REFERENCE_SCHEMES = ("env:", "file:", "vault:")
ENGINES = ("postgres", "cloudnativepg", "external")
RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
MOST: Mapping[str, tuple[int, int, str]] = {
    "grace_seconds": (60, 86_400, "The grace is from one minute to one day."),
    "incrementals": (0, 30, "At most 30 incremental backups follow a full one."),
    "lock_days": (0, 3_650, "An object lock lasts at most ten years."),
    "keep_last": (1, 1_000, "Keep at least the last point, and at most 1,000."),
    "keep_daily": (0, 366, "Keep at most 366 days."),
    "keep_weekly": (0, 260, "Keep at most 260 weeks."),
    "keep_monthly": (0, 120, "Keep at most 120 months."),
    "verify_days": (1, 366, "A point is verified at least once a year."),
    "drill_days": (1, 366, "A drill is held at least once a year."),
}
"""The least and the most of each number, and what to say."""


@dataclass(frozen=True, slots=True)
class PolicyContent:
    """What somebody says of how an environment is backed up; see the columns of `BackupPolicy`."""

    engine: str
    rrule: str
    starts_local: datetime
    zone: str
    store: str
    recipients: tuple[str, ...]
    source: str = ""
    filestore: str = ""
    filestore_credential: str = ""
    grace_seconds: int = 3_600
    incrementals: int = 0
    wal_seconds: int | None = None
    filestore_seconds: int | None = None
    store_credential: str = ""
    copy_store: str = ""
    copy_credential: str = ""
    lock_days: int = 0
    keep_last: int = 7
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    is_pci: bool = False
    verify_days: int = 7
    drill_days: int = 90

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.rrule.strip(), self.starts_local, self.zone)


def policy_problems(content: PolicyContent) -> dict[str, list[str]]:
    """Return what is wrong, by field; empty where nothing is."""
    problems = {**_numbers(content), **_addresses(content)}
    if content.engine not in ENGINES:
        problems["engine"] = ["The engine is postgres, cloudnativepg or external."]
    if sentences := check_schedule(content.schedule):
        problems["rrule"] = list(sentences)
    # Another tool's backups are read by its own keys.
    if content.engine != "external" and not content.recipients:
        problems["recipients"] = ["Name at least one age recipient: nothing is stored that anybody can read."]
    elif not all(RECIPIENT.fullmatch(one) for one in content.recipients):
        problems["recipients"] = ["An age recipient is age1… with 58 letters and digits after it."]
    if content.engine == "postgres" and not content.source:
        problems["source"] = ["Say where the database is reached, such as file:/run/secrets/name."]
    if content.incrementals and content.engine != "postgres":
        problems["incrementals"] = ["Only the engine postgres takes incremental backups."]
    return problems


def _numbers(content: PolicyContent) -> dict[str, list[str]]:
    problems = {
        name: [sentence]
        for name, (least, most, sentence) in MOST.items()
        if not least <= getattr(content, name) <= most
    }
    for name in ("wal_seconds", "filestore_seconds"):
        value = getattr(content, name)
        if value is not None and not 1 <= value <= 86_400:
            problems[name] = ["An interval is from one second to one day."]
    if content.filestore and content.filestore_seconds is None:
        problems["filestore_seconds"] = ["Say how often new attachments are copied."]
    if content.filestore_seconds is not None and not content.filestore:
        problems["filestore"] = ["Say where the attachments lie."]
    return problems


def _addresses(content: PolicyContent) -> dict[str, list[str]]:
    problems: dict[str, list[str]] = {}
    for name in ("store", "copy_store", "filestore"):
        address = getattr(content, name)
        if address and (sentence := _wrong_address(address)):
            problems[name] = [sentence]
    if not content.store:
        problems["store"] = ["Say where the points are kept."]
    elif content.copy_store.rstrip("/") == content.store.rstrip("/"):
        problems["copy_store"] = ["Keep the copy elsewhere: in another bucket or region."]
    for name in ("source", "filestore_credential", "store_credential", "copy_credential"):
        reference = getattr(content, name)
        if reference and not reference.startswith(REFERENCE_SCHEMES):
            # Never quoted back: what was typed may be the secret itself.
            problems[name] = ["Write where the secret is, such as file:/run/secrets/name, env:NAME or vault:path#key."]
    return problems


def _wrong_address(address: str) -> str:
    try:
        parts = urlsplit(address)
        is_plain = not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        return "This is not an address."
    if parts.scheme not in SCHEMES or len(address) > 500:
        return "An address begins with s3://, gs://, az:// or file://."
    # Never quoted back: it may hold a secret.
    return "" if is_plain else "An address carries no user, password or query: name a credential instead."
