"""Backup policies over REST. Publishing writes the next version; what is left out stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.api.base import ApiViewSet, acting, command, listing, read, reading, scope_for, sight_for
from changecontrol.api.idempotency import idempotent
from changecontrol.api.times import LocalTime
from changecontrol.errors import Invalid
from changecontrol.rules.roles import Ability
from recovery.actions.policies import publish_backup_policy
from recovery.api.ground import (
    SECONDS_LIMIT,
    OfEnvironmentFilters,
    OfEnvironmentSerializer,
    PlaceWords,
    first_of,
    named,
    place_of,
)
from recovery.models import BackupPolicy
from recovery.models.policy import Engine
from recovery.queries.history import policy_versions_of
from recovery.queries.points import policies_of
from recovery.rules.policies import REFERENCES, PolicyContent

REFERENCE = "Where the secret is, such as file:/run/secrets/name, env:NAME or vault:path#key; never the secret."
NEEDED = ("engine", "rrule", "starts_local", "zone", "store")
"""What a first version cannot do without."""
RECIPIENTS_LIMIT = 50
COLUMNS = tuple(one.name for one in fields(PolicyContent))


def _text(limit: int, help_text: str = "", **options: Any) -> Any:
    return serializers.CharField(max_length=limit, required=False, allow_blank=True, help_text=help_text, **options)


def _number(help_text: str = "", **options: Any) -> Any:
    return serializers.IntegerField(
        min_value=0, max_value=SECONDS_LIMIT, required=False, help_text=help_text, **options
    )


class NewBackupPolicyVersion(PlaceWords):
    """What is left out stays as it was in the version read; in a first version it is not done."""

    seen_version = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, help_text="The newest version you read; 0 for a first one."
    )
    reason = _text(500, "Why the policy changes; a first version needs none.", default="")
    engine = serializers.ChoiceField(Engine.choices(), required=False)
    source = _text(300, REFERENCE)
    filestore = _text(500, "The address of the attachments.")
    filestore_credential = _text(300, REFERENCE)
    rrule = _text(500, "Such as FREQ=DAILY.")
    starts_local = LocalTime(required=False, help_text="Wall-clock start, such as 2026-11-24T02:00:00.")
    zone = _text(64, "An IANA time zone.")
    grace_seconds = _number("How late a success may be before it alarms.")
    incrementals = _number("How many follow each full base backup.")
    wal_seconds = _number(
        "How often WAL is shipped; null, which postgres refuses and pg_dump wants: it is not.", allow_null=True
    )
    filestore_seconds = _number("How often new attachments are copied; null: not between backups.", allow_null=True)
    store = _text(500, "The address of the primary destination.")
    store_credential = _text(300, REFERENCE)
    copy_store = _text(500, "The address of the copy, elsewhere.")
    copy_credential = _text(300, REFERENCE)
    restore_credential = _text(300, f"Of the store, to read alone. {REFERENCE}")
    identity = _text(300, f"The age identity that restores and drills open it with. {REFERENCE}")
    index_identity = _text(300, f"The age identity that opens lists of attachments alone. {REFERENCE}")
    restore_target = _text(300, f"The server where restored databases are made. {REFERENCE}")
    restore_filestore = _text(500, "The folder below which restored attachments go, such as file:///srv/restored.")
    rehearsal_cluster = _text(63, "The short name of the cluster in which drills of level 5 bring the environment up.")
    rehearsal_path = _text(300, "The Git path of what runs there; empty: the environment's own.")
    rehearsal_target = _text(300, f"The server of databases that workloads there use. {REFERENCE}")
    rehearsal_database = _text(63, "The name of the database there; empty: the environment's own.")
    rehearsal_filestore = _text(500, "The folder in which workloads there find attachments; empty: none are brought.")
    has_sentinel = serializers.BooleanField(
        required=False, help_text="A row each minute in the source, or before each dump, tells what was lost."
    )
    recipients = serializers.ListField(
        child=serializers.CharField(max_length=100),
        max_length=RECIPIENTS_LIMIT,
        required=False,
        help_text="age recipients: who may read what is written.",
    )
    lock_days = _number("For how many days points count as locked: as the bucket is set, which each backup asks of S3.")
    version_days = _number(
        "For how many days what was removed stays as an old version: as the bucket's lifecycle says; it is not asked."
    )
    keep_last = _number()
    keep_daily = _number()
    keep_weekly = _number()
    keep_monthly = _number()
    is_pci = serializers.BooleanField(required=False, help_text="Keep one point of each of twelve months.")
    verify_days = _number("How often a point is restored, started and questioned.")
    drill_days = _number("How often a drill must pass.")


class BackupPolicySerializer(OfEnvironmentSerializer):
    """A version of a policy. References to secrets are null for whoever may not write them."""

    starts_local = LocalTime(read_only=True)
    recipients = serializers.ListField(child=serializers.CharField(), read_only=True)
    created_by = named("created_by")

    class Meta:
        model = BackupPolicy
        fields = [
            "id",
            "tenant",
            "environment",
            "version",
            "is_active",
            *COLUMNS,
            "reason",
            "created_at",
            "created_by",
        ]
        read_only_fields = fields
        extra_kwargs = {name: {"allow_null": True} for name in REFERENCES}

    def to_representation(self, instance: BackupPolicy) -> dict[str, Any]:
        told = super().to_representation(instance)
        if not self.context["may_edit"]:
            told.update(dict.fromkeys(REFERENCES))
        return told


class BackupPolicyFilters(OfEnvironmentFilters):
    engine = django_filters.ChoiceFilter(choices=Engine.choices())


@listing(BackupPolicySerializer)
class BackupPolicyViewSet(mixins.ListModelMixin, ApiViewSet[BackupPolicy]):
    """The policies in force, newest first."""

    queryset = BackupPolicy.objects.none()
    serializer_class = BackupPolicySerializer
    filterset_class = BackupPolicyFilters
    seen_with = Ability.RECOVERY_VIEW

    def get_queryset(self) -> QuerySet[BackupPolicy]:
        return policies_of(scope_for(self.request))

    @reading(BackupPolicySerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One version of a policy, in force or not."""
        return Response(self._told(first_of(policy_versions_of(scope_for(request)), pk=pk)))

    @reading(BackupPolicySerializer(many=True))
    @action(detail=True, filterset_class=None)
    def versions(self, request: Request, pk: str) -> Response:
        """Every version of the same environment's policy, newest first."""
        every = policy_versions_of(scope_for(request))
        return self.rows(every.filter(environment=first_of(every, pk=pk).environment), BackupPolicySerializer)

    @command(request=NewBackupPolicyVersion, responses={201: BackupPolicySerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Publish the next version of an environment's policy, or its first. Later backups follow it.

        Refused where it could not meet the RPO of what the environment supports. Where data and secrets are read from
        and sent to is a platform administrator's to say.
        """
        words = read(NewBackupPolicyVersion, request)
        environment = place_of(request, words)
        seen, reason = words.pop("seen_version"), words.pop("reason")
        # Where somebody was faster the newest stands in: the action says so, whatever the words are.
        every = policy_versions_of(sight_for(request)).filter(environment=environment)
        before = every.filter(version=seen).first() or every.first()
        policy = publish_backup_policy(
            actor=acting(request),
            environment_id=environment.pk,
            content=_content(words, before=before),
            seen_version=seen,
            reason=reason,
            at=clock.now(),
        )
        return Response(self._told(policy), status=201)

    def get_serializer_context(self) -> dict[str, Any]:
        # As the action asks it: what reaches a secret is the platform's to say, and so to read.
        may_edit = Ability.ESTATE_EDIT in access.abilities_for(scope_for(self.request), None)
        return {**super().get_serializer_context(), "may_edit": may_edit}

    def _told(self, policy: BackupPolicy) -> Any:
        return BackupPolicySerializer(policy, context=self.get_serializer_context()).data


def _content(words: Mapping[str, Any], *, before: BackupPolicy | None) -> PolicyContent:
    """Return the whole content: the words, and for what they leave out what the version before says."""
    said: dict[str, Any] = {name: tuple(value) if name == "recipients" else value for name, value in words.items()}
    if before is not None:
        return replace(_content_of(before), **said)
    if missing := [name for name in NEEDED if name not in said]:
        raise Invalid(
            f"A first version also says: {', '.join(missing)}.", fields={name: ["This is needed."] for name in missing}
        )
    return PolicyContent(**{"recipients": (), **said})


def _content_of(policy: BackupPolicy) -> PolicyContent:
    columns = {name: getattr(policy, name) for name in COLUMNS}
    return PolicyContent(
        **{
            **columns,
            "starts_local": policy.starts_local.replace(tzinfo=None),
            "recipients": tuple(policy.recipients),
        }
    )
