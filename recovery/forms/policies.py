"""A backup policy as somebody writes it: days on the wall and lines of text, not recurrence rules and lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.forms import BoundField

from changecontrol.forms.administration import RefusableForm
from changecontrol.forms.windows import DAYS, LocalMoment, weekly_days
from recovery.actions.policies import REACHES
from recovery.models import BackupPolicy
from recovery.models.policy import Engine
from recovery.rules.policies import PolicyContent

REPEATS = (("daily", "Every day"), ("weekly", "Every week"), ("own", "By a rule"))
REPEAT_HINTS = {
    "daily": "at the same time each day",
    "weekly": "on the days chosen below",
    "own": "written as in RFC 5545 below",
}
ENGINES: tuple[tuple[str, str], ...] = (
    (Engine.POSTGRES, "PostgreSQL"),
    (Engine.PG_DUMP, "pg_dump"),
    (Engine.CLOUDNATIVEPG, "CloudNativePG"),
    (Engine.EXTERNAL, "Another tool"),
)
ENGINE_HINTS = {
    "postgres": "its own tools, over the replication protocol",
    "pg_dump": "one database, back to the moment of each dump alone",
    "cloudnativepg": "the operator in the cluster takes them",
    "external": "it registers its points here",
}
HINTS: Mapping[str, Mapping[str, str]] = {"repeats": REPEAT_HINTS, "engine": ENGINE_HINTS}
WIDE = frozenset({"engine", "repeats", "days", "recipients"})
REFERENCE = "secrets are named, never written: file:/run/secrets/name, env:NAME or vault:path#key"
STORE = "Such as s3://bucket/folder, gs://bucket, az://account/container or file:///folder."


def _line(label: str, hint: str = "", *, length: int = 300) -> forms.CharField:
    return forms.CharField(label=label, help_text=hint, max_length=length, required=False)


def _count(label: str, hint: str = "", *, required: bool = True) -> forms.IntegerField:
    return forms.IntegerField(label=label, help_text=hint, min_value=0, max_value=100_000, required=required)


@dataclass(frozen=True, slots=True)
class Place:
    """A field and how much of the width it takes."""

    field: BoundField
    hints: Mapping[str, str]
    is_wide: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that belong together, side by side."""

    title: str
    anchor: str
    aside: str
    names: tuple[str, ...]


GROUPS = (
    Group(
        "What is backed up",
        "source",
        REFERENCE,
        ("engine", "source", "filestore", "filestore_credential", "has_sentinel"),
    ),
    Group(
        "When",
        "schedule",
        "a full backup at each start",
        (
            *("repeats", "days", "rrule", "starts_local", "zone", "grace_seconds"),
            *("incrementals", "wal_seconds", "filestore_seconds"),
        ),
    ),
    Group(
        "Where it goes",
        "stores",
        "whoever writes it cannot read it",
        ("store", "store_credential", "copy_store", "copy_credential", "recipients", "lock_days", "version_days"),
    ),
    Group(
        "How long it stays",
        "retention",
        "never goes: what a later point needs, a legal hold names, or the last verified point",
        ("keep_last", "keep_daily", "keep_weekly", "keep_monthly", "is_pci"),
    ),
    Group(
        "How it is restored and proved",
        "restores",
        REFERENCE,
        (
            *("restore_credential", "identity", "index_identity", "restore_target", "restore_filestore"),
            *("verify_days", "drill_days"),
        ),
    ),
    Group(
        "Where it is brought up for a drill of level 5",
        "rehearsals",
        "in another cluster; without it there is no level 5",
        ("rehearsal_cluster", "rehearsal_path", "rehearsal_target", "rehearsal_database", "rehearsal_filestore"),
    ),
)
"""Every column of a policy in the order of the page: a new one is a line here and a field below."""


class BackupPolicyForm(RefusableForm):
    """One version of a policy. `content` of a valid form is what the action takes."""

    engine = forms.ChoiceField(label="Engine", choices=ENGINES, widget=forms.RadioSelect)
    source = _line("Database", "The secret that says how it is reached.")
    filestore = _line("Attachments", f"Where they lie. {STORE}", length=500)
    filestore_credential = _line("Credential of the attachments", "Empty: they are read without one.")
    has_sentinel = forms.BooleanField(
        label="Sentinel rows",
        required=False,
        help_text="A row each minute in the source, in a table of its own, tells to the minute what a restore lost. "
        "With pg_dump a row before each dump.",
    )
    repeats = forms.ChoiceField(label="Repeats", choices=REPEATS, widget=forms.RadioSelect)
    days = forms.MultipleChoiceField(
        label="Days of the week", required=False, choices=DAYS, widget=forms.CheckboxSelectMultiple
    )
    rrule = _line("Rule", "Such as FREQ=DAILY;INTERVAL=2. Used where it repeats by a rule.", length=500)
    starts_local = LocalMoment(label="First starts", help_text="As clocks show it in the zone beside.")
    zone = forms.ChoiceField(label="On whose clocks")
    grace_seconds = _count("Grace, in seconds", "How late a success may be before it alarms.")
    incrementals = _count("Incremental backups", "How many follow each full one. PostgreSQL 17 or later.")
    wal_seconds = _count("WAL every, in seconds", "PostgreSQL needs it; pg_dump has none.", required=False)
    filestore_seconds = _count(
        "Attachments every, in seconds",
        "Empty with pg_dump: they go with each.",
        required=False,
    )
    store = _line("Primary destination", STORE, length=500)
    store_credential = _line("Credential of the destination", "With it, points are written.")
    copy_store = _line("Copy, elsewhere", "Another bucket or region. Empty: none.", length=500)
    copy_credential = _line("Credential of the copy", "With it, copies are written.")
    recipients = forms.CharField(
        label="age recipients",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Who may read what is written. One a line: age1…",
    )
    lock_days = _count("Object lock, in days", "As the bucket itself is set, which each backup asks of S3. 0: none.")
    version_days = _count(
        "Old versions, in days",
        "How long the bucket's lifecycle rule keeps what was removed; it is not asked. 0: nothing is kept.",
    )
    keep_last = _count("Last points", "At least one.")
    keep_daily = _count("Days", "The newest of each is kept.")
    keep_weekly = _count("Weeks", "The newest of each is kept.")
    keep_monthly = _count("Months", "The newest of each is kept.")
    is_pci = forms.BooleanField(
        label="PCI DSS", required=False, help_text="Keep one point of each of the last twelve months (10.5.1)."
    )
    restore_credential = _line("Credential that can only read", "Of the destination, for restores and drills.")
    identity = _line("age identity", "Opens what was written, for restores and drills.")
    index_identity = _line("Index identity", "Opens the lists of attachments alone.")
    restore_target = _line("Server of restored databases", "The secret that holds its address.")
    restore_filestore = _line("Folder of restored attachments", "Such as file:///var/lib/restored.", length=500)
    rehearsal_cluster = _line("Another cluster", "Its short name, such as de-2. Not the one it runs in.", length=63)
    rehearsal_path = _line("Git path there", "Such as rehearsals/production. Empty: the environment's own.")
    rehearsal_target = _line("Server of databases there", "The secret that holds the address workloads there use.")
    rehearsal_database = _line("Name of the database there", "Empty: the environment's own.", length=63)
    rehearsal_filestore = _line("Folder of attachments there", "Such as file:///srv/de-2/filestore.", length=500)
    verify_days = _count("Verified every, in days", "How often a point is restored, started and questioned.")
    drill_days = _count("Drill every, in days", "How often a drill must pass before it is overdue.")
    reason = forms.CharField(
        label="Why it changes", max_length=500, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    seen_version = forms.IntegerField(widget=forms.HiddenInput, min_value=0)

    def __init__(
        self,
        *args: Any,
        policy: BackupPolicy | None,
        starts: datetime,
        zones: Sequence[str],
        locked: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        kwargs |= {"initial": initial_of(policy, starts=starts, zone=zones[0]), "auto_id": "%s"}
        super().__init__(*args, **kwargs)
        known = sorted({*zones, kwargs["initial"]["zone"]})
        self.fields["zone"].choices = [(one, one.replace("_", " ")) for one in known]  # type: ignore[attr-defined]
        self.fields["reason"].required = policy is not None
        for name in locked:
            # Shown and not asked: where data and secrets go is said by platform administrators.
            self.fields[name].disabled = True

    @property
    def groups(self) -> Iterator[tuple[Group, list[Place]]]:
        for group in GROUPS:
            yield group, [Place(self[name], HINTS.get(name, {}), name in WIDE) for name in group.names]

    def clean_recipients(self) -> tuple[str, ...]:
        return tuple(line.strip() for line in str(self.cleaned_data["recipients"]).splitlines() if line.strip())

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("repeats") == "weekly" and not given.get("days"):
            self.add_error("days", "Choose at least one day.")
        if given.get("repeats") == "own" and not given.get("rrule"):
            self.add_error("rrule", "Write the rule, or choose another way to repeat.")
        return given

    @property
    def content(self) -> PolicyContent:
        given = {one.name: self.cleaned_data[one.name] for one in dataclasses.fields(PolicyContent)}
        return PolicyContent(**{**given, "rrule": self._rule()})

    def _rule(self) -> str:
        given = self.cleaned_data
        if given["repeats"] == "daily":
            return "FREQ=DAILY"
        return f"FREQ=WEEKLY;BYDAY={','.join(given['days'])}" if given["repeats"] == "weekly" else str(given["rrule"])


def locked_for(*, is_platform: bool) -> tuple[str, ...]:
    """Return the fields that somebody only reads."""
    return () if is_platform else REACHES


def initial_of(policy: BackupPolicy | None, *, starts: datetime, zone: str) -> dict[str, Any]:
    """Return the answers that make this version, or a sensible first one."""
    if policy is None:
        found = {one.name: one.default for one in dataclasses.fields(PolicyContent)}
        known = {name: value for name, value in found.items() if value is not dataclasses.MISSING}
        first = {"engine": Engine.POSTGRES, "repeats": "daily", "starts_local": starts, "zone": zone}
        return {**known, **first, "seen_version": 0}
    columns = {one.name: getattr(policy, one.name) for one in dataclasses.fields(PolicyContent)}
    days = weekly_days(policy.rrule)
    repeats = "weekly" if days else "daily" if policy.rrule == "FREQ=DAILY" else "own"
    return {
        **columns,
        "starts_local": policy.starts_local.replace(tzinfo=None),
        "recipients": "\n".join(policy.recipients),
        "repeats": repeats,
        "days": days,
        "rrule": policy.rrule if repeats == "own" else "",
        "seen_version": policy.version,
    }
