"""The estate: whose shops there are, what runs for them, and where."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.rules.roles import Role


class Tenancy(Word):
    DEDICATED = "dedicated"
    SHARED = "shared"


class Stage(Word):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


def role_codename(role: str) -> str:
    """Return the codename under which guardian keeps the role."""
    return f"role_{role}"


ROLE_PERMISSIONS: list[tuple[str, Any]] = [(role_codename(role), f"Holds the role: {role.label}") for role in Role]

slug = RegexValidator(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "Use lower-case letters, digits and hyphens.")


def validate_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name} is not an IANA time zone, such as Europe/Lisbon.")


def slug_field(*, unique: bool = False) -> Any:
    """Return the field of a name for machines: a DNS label, so that it can name a namespace."""
    return models.CharField(max_length=63, unique=unique, validators=[slug])


class Tenant(models.Model):
    """A retailer, brand, franchise or subsidiary."""

    slug = slug_field(unique=True)
    name = models.CharField(max_length=120)
    tenancy = models.CharField(max_length=16, choices=Tenancy.choices(), default=Tenancy.DEDICATED)

    class Meta:
        ordering = ["name"]
        permissions = ROLE_PERMISSIONS

    def __str__(self) -> str:
        return self.name


class OfTenant(models.Model):
    """Something a tenant owns, named uniquely within it."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    slug = slug_field()
    name = models.CharField(max_length=120)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Region(OfTenant):
    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="one_region_slug_per_tenant")]


class Cohort(OfTenant):
    """A store cluster updated together."""

    is_pilot = models.BooleanField(default=False)

    class Meta:
        ordering = ["-is_pilot", "name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="one_cohort_slug_per_tenant")]


class Store(models.Model):
    """A shop. `sales_share` is its share of the tenant's sales in percent; trading hours are in its own zone."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="stores")
    cohort = models.ForeignKey(Cohort, on_delete=models.PROTECT, related_name="stores")
    code = models.CharField(max_length=32)
    name = models.CharField(max_length=120)
    zone = models.CharField(max_length=64, validators=[validate_zone])
    opens_at = models.TimeField()
    closes_at = models.TimeField()
    sales_share = models.DecimalField(
        max_digits=7, decimal_places=4, validators=[MinValueValidator(0), MaxValueValidator(100)]
    )

    class Meta:
        ordering = ["code"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "code"], name="one_store_code_per_tenant"),
            models.CheckConstraint(
                condition=models.Q(sales_share__gte=0, sales_share__lte=100), name="sales_share_is_a_percentage"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


class Cluster(models.Model):
    """A Kubernetes API endpoint. Its credential is a reference to a kubeconfig (`file:…`, `env:…`), never a secret."""

    slug = slug_field(unique=True)
    name = models.CharField(max_length=120)
    credential = models.CharField(max_length=300, help_text="file:/path or env:NAME of a kubeconfig.")
    metrics_url = models.URLField(blank=True, help_text="Base address of the Prometheus query API.")
    metrics_credential = models.CharField(max_length=300, blank=True, help_text="Reference to a bearer token.")
    metrics_authority = models.CharField(max_length=300, blank=True, help_text="Reference to a CA certificate in PEM.")

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name


class GitSource(OfTenant):
    """A Git repository of manifests. `credential` is a reference to a token or key."""

    url = models.CharField(max_length=500)
    credential = models.CharField(max_length=300, blank=True)
    default_branch = models.CharField(max_length=120, default="main")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="one_source_slug_per_tenant")]


class BusinessProcess(OfTenant):
    """What shops do with Odoo. Tier 0 is the most critical; objectives are in seconds."""

    tier = models.PositiveSmallIntegerField(validators=[MaxValueValidator(3)])
    rto_seconds = models.PositiveIntegerField()
    rpo_seconds = models.PositiveIntegerField()
    owner = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, blank=True)

    class Meta:
        ordering = ["tier", "name"]
        verbose_name_plural = "business processes"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="one_process_slug_per_tenant"),
            models.CheckConstraint(condition=models.Q(tier__lte=3), name="tier_is_0_to_3"),
        ]


class Environment(OfTenant):
    """One Odoo installation of a tenant: a namespace in a cluster, brought up from a path in Git."""

    stage = models.CharField(max_length=16, choices=Stage.choices())
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="environments")
    namespace = slug_field()
    source = models.ForeignKey(GitSource, on_delete=models.PROTECT, related_name="environments")
    path = models.CharField(max_length=300)
    processes = models.ManyToManyField(BusinessProcess, related_name="environments", blank=True)
    cohorts = models.ManyToManyField(Cohort, related_name="environments", blank=True)
    cluster_scoped_kinds = models.JSONField(
        default=list, blank=True, help_text="Cluster-scoped kinds a change may bring here, such as StorageClass."
    )
    database = models.CharField(max_length=120, blank=True)
    filestore = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["tenant", "slug"]
        permissions = ROLE_PERMISSIONS
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="one_environment_slug_per_tenant"),
            models.UniqueConstraint(fields=["cluster", "namespace"], name="one_environment_per_namespace"),
        ]

    @property
    def ref(self) -> str:
        """The Git ref that names what runs here."""
        return f"refs/heads/environments/{self.slug}"

    @property
    def inventory(self) -> str:
        """The value of the inventory label on every object this environment owns (at most 63 characters)."""
        return str(self.namespace)
