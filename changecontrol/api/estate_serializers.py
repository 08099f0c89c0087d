"""How the estate is written in JSON: things name each other by slug, code or username, as in the estate file."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from changecontrol.api.base import Words
from changecontrol.api.times import TimeOfDay
from changecontrol.models import (
    BusinessProcess,
    Cluster,
    Cohort,
    Environment,
    GitSource,
    Region,
    Store,
    Tenant,
)
from changecontrol.models.estate import Stage, Tenancy

SECONDS_LIMIT = 2**31 - 1
REFERENCE = "Where the secret is, such as file:/run/secrets/name, env:NAME or vault:path#key; never the secret."


def key(**options: Any) -> Any:
    return serializers.SlugField(max_length=63, **options)


def names(**options: Any) -> Any:
    return serializers.ListField(child=serializers.CharField(max_length=63), max_length=1000, **options)


def optional(*, limit: int, **options: Any) -> Any:
    return serializers.CharField(max_length=limit, required=False, allow_blank=True, **options)


class TenantChanges(Words):
    name = serializers.CharField(max_length=120)
    tenancy = serializers.ChoiceField(Tenancy.choices(), required=False)


class NewTenant(TenantChanges):
    slug = key()


class ClusterChanges(Words):
    name = serializers.CharField(max_length=120)
    credential = serializers.CharField(max_length=300, help_text=REFERENCE)
    metrics_url = serializers.URLField(max_length=200, required=False, allow_blank=True)
    metrics_credential = optional(limit=300, help_text=REFERENCE)
    metrics_authority = optional(limit=300, help_text=REFERENCE)


class NewCluster(ClusterChanges):
    slug = key()


class OfTenantWords(Words):
    tenant = serializers.CharField(max_length=63, help_text="The tenant's slug.")
    slug = key()


class RegionChanges(Words):
    name = serializers.CharField(max_length=120)


class NewRegion(OfTenantWords, RegionChanges):
    pass


class CohortChanges(Words):
    name = serializers.CharField(max_length=120)
    is_pilot = serializers.BooleanField(required=False)


class NewCohort(OfTenantWords, CohortChanges):
    pass


class StoreChanges(Words):
    name = serializers.CharField(max_length=120)
    region = key(help_text="A region's slug.")
    cohort = key(help_text="A cohort's slug.")
    zone = serializers.CharField(max_length=64, help_text="An IANA time zone, such as Europe/Lisbon.")
    opens_at = TimeOfDay(help_text="Local time.")
    closes_at = TimeOfDay(help_text="Local time.")
    sales_share = serializers.DecimalField(
        max_digits=7, decimal_places=4, min_value=0, max_value=100, help_text="Percent of the tenant's sales."
    )


class NewStore(StoreChanges):
    tenant = serializers.CharField(max_length=63, help_text="The tenant's slug.")
    code = serializers.CharField(max_length=32)


class SourceChanges(Words):
    name = serializers.CharField(max_length=120)
    url = serializers.CharField(max_length=500)
    credential = optional(limit=300, help_text=REFERENCE)
    default_branch = serializers.CharField(max_length=120, required=False)


class NewSource(OfTenantWords, SourceChanges):
    pass


class ProcessChanges(Words):
    name = serializers.CharField(max_length=120)
    tier = serializers.IntegerField(min_value=0, max_value=3, help_text="0 is the most critical.")
    rto_seconds = serializers.IntegerField(min_value=0, max_value=SECONDS_LIMIT)
    rpo_seconds = serializers.IntegerField(min_value=0, max_value=SECONDS_LIMIT)
    owner = serializers.CharField(max_length=150, required=False, allow_null=True, help_text="A username.")


class NewProcess(OfTenantWords, ProcessChanges):
    pass


class EnvironmentChanges(Words):
    name = serializers.CharField(max_length=120)
    stage = serializers.ChoiceField(Stage.choices())
    cluster = key(help_text="A cluster's slug.")
    namespace = key()
    source = key(help_text="A Git source's slug.")
    path = serializers.CharField(max_length=300, help_text="The folder in the Git source.")
    processes = names(required=False)
    cohorts = names(required=False)
    cluster_scoped_kinds = names(required=False)
    database = optional(limit=120)
    filestore = optional(limit=300)


class NewEnvironment(OfTenantWords, EnvironmentChanges):
    pass


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    class Meta:
        model = Tenant
        fields = ["id", "slug", "name", "tenancy"]
        read_only_fields = fields


class ClusterSerializer(serializers.ModelSerializer[Cluster]):
    """A cluster. The references are null for whoever may not edit it."""

    credential = serializers.CharField(read_only=True, allow_null=True)
    metrics_credential = serializers.CharField(read_only=True, allow_null=True)
    metrics_authority = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = Cluster
        fields = ["id", "slug", "name", "metrics_url", "credential", "metrics_credential", "metrics_authority"]
        read_only_fields = fields

    def to_representation(self, instance: Cluster) -> dict[str, Any]:
        return without(super().to_representation(instance), instance, self)


class OfTenantSerializer(serializers.ModelSerializer[Any]):
    tenant = serializers.CharField(source="tenant.slug", read_only=True)


class RegionSerializer(OfTenantSerializer):
    class Meta:
        model = Region
        fields = ["id", "tenant", "slug", "name"]
        read_only_fields = fields


class CohortSerializer(OfTenantSerializer):
    class Meta:
        model = Cohort
        fields = ["id", "tenant", "slug", "name", "is_pilot"]
        read_only_fields = fields


class StoreSerializer(OfTenantSerializer):
    region = serializers.CharField(source="region.slug", read_only=True)
    cohort = serializers.CharField(source="cohort.slug", read_only=True)
    opens_at = TimeOfDay(read_only=True)
    closes_at = TimeOfDay(read_only=True)

    class Meta:
        model = Store
        fields = [
            "id",
            "tenant",
            "code",
            "name",
            "region",
            "cohort",
            "zone",
            "opens_at",
            "closes_at",
            "sales_share",
        ]
        read_only_fields = fields


class SourceSerializer(OfTenantSerializer):
    """A Git source. The reference is null for whoever may not edit it."""

    credential = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = GitSource
        fields = ["id", "tenant", "slug", "name", "url", "default_branch", "credential"]
        read_only_fields = fields

    def to_representation(self, instance: GitSource) -> dict[str, Any]:
        return without(super().to_representation(instance), instance, self)


class ProcessSerializer(OfTenantSerializer):
    owner = serializers.CharField(source="owner.username", read_only=True, allow_null=True, default=None)

    class Meta:
        model = BusinessProcess
        fields = ["id", "tenant", "slug", "name", "tier", "rto_seconds", "rpo_seconds", "owner"]
        read_only_fields = fields


class EnvironmentSerializer(OfTenantSerializer):
    cluster = serializers.CharField(source="cluster.slug", read_only=True)
    source = serializers.CharField(source="source.slug", read_only=True)  # type: ignore[assignment]  # DRF's own name
    processes: Any = serializers.SlugRelatedField("slug", many=True, read_only=True)
    cohorts: Any = serializers.SlugRelatedField("slug", many=True, read_only=True)

    class Meta:
        model = Environment
        fields = [
            "id",
            "tenant",
            "slug",
            "name",
            "stage",
            "cluster",
            "namespace",
            "source",
            "path",
            "processes",
            "cohorts",
            "cluster_scoped_kinds",
            "database",
            "filestore",
        ]
        read_only_fields = fields


def without(told: dict[str, Any], thing: Any, shape: serializers.BaseSerializer[Any]) -> dict[str, Any]:
    """Take references to secrets out of what is told to those who may not edit the thing."""
    if not shape.context["may_edit"](thing):
        told.update({name: None for name in told if name.endswith(("credential", "authority"))})
    return told
