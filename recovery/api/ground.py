"""What every resource of recovery shares: it is of an environment, and found only in the sight of who calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

import django_filters
from django.db.models import Model, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from changecontrol import clock
from changecontrol.api.base import Words, sight_for
from changecontrol.api.problems import NOTHING_HERE
from changecontrol.errors import NotFound
from changecontrol.models import Environment
from recovery.models import BackupRun, Drill, Restore
from recovery.queries.overview import environments_in
from recovery.queries.progress import Progress, progress_of

M = TypeVar("M", bound=Model)

SECONDS_LIMIT = 2**31 - 1


class PlaceWords(Words):
    tenant = serializers.CharField(max_length=63, help_text="A slug.")
    environment = serializers.CharField(max_length=63, help_text="A slug, of the tenant's.")


class ReasonWords(Words):
    reason = serializers.CharField(max_length=500, help_text="It stays in the record.")


class OfEnvironmentSerializer(serializers.ModelSerializer[Any]):
    tenant = serializers.CharField(source="environment.tenant.slug", read_only=True)
    environment = serializers.CharField(source="environment.slug", read_only=True)


class OfEnvironmentFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter("environment__tenant__slug", max_length=63, help_text="A slug.")
    environment = django_filters.CharFilter("environment__slug", max_length=63, help_text="A slug.")


class ProgressSerializer(serializers.Serializer[Any]):
    """How far the work is. `share` is from 0 to 1; it and `left_seconds` are null while nobody can tell.

    What is left is of the step; where its bytes are not counted, of the phase, going by how long that took last.
    """

    phase = serializers.CharField()
    sentence = serializers.CharField()
    done_bytes = serializers.IntegerField()
    total_bytes = serializers.IntegerField(allow_null=True)
    share = serializers.FloatField(allow_null=True)
    left_seconds = serializers.SerializerMethodField()

    def get_left_seconds(self, found: Progress) -> float | None:
        return seconds(found.left)


class WithProgress(serializers.Serializer[Any]):
    """Tells of one thing, and so not in a list, how far its work is."""

    progress = serializers.SerializerMethodField(help_text="Null where no work is under way.")

    @extend_schema_field(ProgressSerializer(allow_null=True))
    def get_progress(self, row: BackupRun | Restore | Drill) -> Any:
        found = progress_of(row, at=clock.now())
        return None if found is None else ProgressSerializer(found).data


def named(source: str) -> Any:
    """Return the field of a person's username, null where nobody is named."""
    return serializers.CharField(source=f"{source}.username", read_only=True, allow_null=True, default=None)


def seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def first_of(rows: QuerySet[M], **conditions: Any) -> M:
    """Return one of the rows in sight. What is hidden is exactly as missing as what is not there."""
    found = rows.filter(**conditions).first()
    if found is None:
        raise NotFound(NOTHING_HERE)
    return found


def place_of(request: Request, words: dict[str, Any]) -> Environment:
    """Take the environment out of the words of a command."""
    conditions = {"tenant__slug": words.pop("tenant"), "slug": words.pop("environment")}
    return first_of(environments_in(sight_for(request)), **conditions)
