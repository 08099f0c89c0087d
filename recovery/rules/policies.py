"""Does a backup policy hold as it is written? Everything that is wrong, by field; RPO is judged in `objectives`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from recovery.rules.restores import check_target
from recovery.rules.schedule import Schedule, check_schedule

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "s3": ("endpoint", "region"),
    "gs": ("endpoint",),
    "az": ("endpoint",),
    "file": (),
}
"""The schemes of a store's address, and what each may say besides where it is."""
REFERENCE_SCHEMES = ("env:", "file:", "vault:")
ENGINES = ("postgres", "pg_dump", "cloudnativepg", "external")
REFERENCES = (
    *("source", "filestore_credential", "store_credential", "copy_credential", "restore_credential"),
    *("identity", "index_identity", "restore_target", "rehearsal_target"),
)
"""What names where a secret is, and never holds one."""
FOLDERS = ("restore_filestore", "rehearsal_filestore")
"""Where attachments are restored to: folders, never buckets."""
RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
MOST: Mapping[str, tuple[int, int, str]] = {
    "grace_seconds": (60, 86_400, "The grace is from one minute to one day."),
    "incrementals": (0, 30, "At most 30 incremental backups follow a full one."),
    "lock_days": (0, 3_650, "An object lock lasts at most ten years."),
    "version_days": (0, 3_650, "Old versions stay for at most ten years."),
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
    restore_credential: str = ""
    identity: str = ""
    index_identity: str = ""
    restore_target: str = ""
    restore_filestore: str = ""
    rehearsal_cluster: str = ""
    rehearsal_path: str = ""
    rehearsal_target: str = ""
    rehearsal_database: str = ""
    rehearsal_filestore: str = ""
    has_sentinel: bool = False
    lock_days: int = 0
    version_days: int = 0
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
    problems = {**_numbers(content), **_addresses(content), **_rehearsals(content)}
    if content.engine not in ENGINES:
        problems["engine"] = ["The engine is postgres, pg_dump, cloudnativepg or external."]
    if sentences := check_schedule(content.schedule):
        problems["rrule"] = list(sentences)
    # Another tool's backups are read by its own keys.
    if content.engine != "external" and not content.recipients:
        problems["recipients"] = ["Name at least one age recipient: nothing is stored that anybody can read."]
    elif not all(RECIPIENT.fullmatch(one) for one in content.recipients):
        problems["recipients"] = ["An age recipient is age1… with 58 letters and digits after it."]
    if content.engine in ("postgres", "pg_dump") and not content.source:
        problems["source"] = ["Say where the database is reached, such as file:/run/secrets/name."]
    if content.engine == "postgres" and content.wal_seconds is None:
        problems["wal_seconds"] = ["Say how often WAL is shipped: without it no backup by this engine can be restored."]
    if content.engine == "cloudnativepg" and content.has_sentinel and not content.source:
        problems["source"] = ["Say where the database is reached: sentinel rows are written into it."]
    if content.incrementals and content.engine != "postgres":
        problems["incrementals"] = ["Only the engine postgres takes incremental backups."]
    if content.engine == "pg_dump":
        problems.update(_of_dumps(content))
    return problems


def _of_dumps(content: PolicyContent) -> dict[str, list[str]]:
    """A dump stands alone: what would be copied between two of them leads nowhere."""
    problems: dict[str, list[str]] = {}
    if content.wal_seconds is not None:
        problems["wal_seconds"] = ["No WAL leads on from a dump: leave this empty."]
    if content.filestore_seconds is not None:
        problems["filestore_seconds"] = ["Attachments are copied with each dump: leave this empty."]
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
    if content.filestore and content.filestore_seconds is None and content.engine != "pg_dump":
        problems["filestore_seconds"] = ["Say how often new attachments are copied."]
    if content.filestore_seconds is not None and not content.filestore and content.engine != "pg_dump":
        problems["filestore"] = ["Say where the attachments lie."]
    if content.filestore and not content.index_identity:
        problems["index_identity"] = ["Say where the key is that opens the lists of attachments."]
    if content.incrementals and not content.index_identity:
        problems["index_identity"] = ["Say where the key is that opens the lists which incremental backups build upon."]
    return problems


def _addresses(content: PolicyContent) -> dict[str, list[str]]:
    problems: dict[str, list[str]] = {}
    for name in ("store", "copy_store", "filestore", *FOLDERS):
        address = getattr(content, name)
        if address and (sentence := _wrong_address(address)):
            problems[name] = [sentence]
    if not content.store:
        problems["store"] = ["Say where the points are kept."]
    elif content.copy_store.rstrip("/") == content.store.rstrip("/"):
        problems["copy_store"] = ["Keep the copy elsewhere: in another bucket or region."]
    stores = [one for one in (content.store, content.copy_store) if one]
    if content.lock_days and stores and all(one.startswith("file://") for one in stores):
        problems["lock_days"] = ["A folder locks nothing: keep points in a bucket with object lock, or promise none."]
    for name in FOLDERS:
        if getattr(content, name) and not getattr(content, name).startswith("file://"):
            problems[name] = ["Restored attachments go to a folder: file:///path."]
    for name in REFERENCES:
        reference = getattr(content, name)
        if reference and not reference.startswith(REFERENCE_SCHEMES):
            # Never quoted back: what was typed may be the secret itself.
            problems[name] = ["Write where the secret is, such as file:/run/secrets/name, env:NAME or vault:path#key."]
    return problems


def _rehearsals(content: PolicyContent) -> dict[str, list[str]]:
    """Judge where a drill of level 5 brings the environment up: a cluster, and the server its workloads use."""
    problems: dict[str, list[str]] = {}
    if content.rehearsal_cluster and not content.rehearsal_target:
        problems["rehearsal_target"] = ["Say where the server is that workloads there use: the copy goes to it."]
    if content.rehearsal_target and not content.rehearsal_cluster:
        problems["rehearsal_cluster"] = ["Say in which other cluster it is brought up."]
    if content.rehearsal_filestore and not content.rehearsal_cluster:
        problems["rehearsal_cluster"] = ["Say in which other cluster it is brought up."]
    if content.rehearsal_path.startswith("/") or ".." in content.rehearsal_path.split("/"):
        problems["rehearsal_path"] = ["A path begins at the top of the repository: rehearsals/production."]
    if content.rehearsal_database and (sentence := check_target(content.rehearsal_database, in_use=())):
        problems["rehearsal_database"] = [sentence]
    return problems


def _wrong_address(address: str) -> str:
    try:
        parts = urlsplit(address)
        options = set(parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        has_user = bool(parts.username or parts.password)
    except ValueError:
        return "This is not an address."
    known = OPTIONS.get(parts.scheme)
    if known is None or len(address) > 500:
        return "An address begins with s3://, gs://, az:// or file://."
    # Never quoted back: it may hold a secret.
    if has_user or parts.fragment or options - set(known):
        but = f"no option but {' and '.join(known)}" if known else "no option"
        return f"An address carries no user or password, and {but}."
    if parts.scheme == "az" and not parts.path.strip("/"):
        return "A container of Azure is named by az://account/container."
    return ""
