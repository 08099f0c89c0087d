"""People, the roles they hold, and tokens. Roles are guardian permissions with direct foreign keys."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase

from changecontrol.models.estate import Environment, Tenant, validate_zone


class User(AbstractUser):
    """A person, or a system actor (`is_system`), which works for the platform and never votes."""

    display_name = models.CharField(max_length=120, blank=True)
    zone = models.CharField(max_length=64, default="UTC", validators=[validate_zone])
    is_system = models.BooleanField(default=False)

    class Meta:
        constraints = [
            # Nobody may be taken for somebody else in a trail; `createsuperuser` asks no action.
            models.UniqueConstraint(Lower("username"), name="one_person_per_username_in_any_case"),
            # A commit is matched to a person by address; two people with one address would make that a guess.
            models.UniqueConstraint(Lower("email"), condition=~models.Q(email=""), name="one_person_per_email_address"),
        ]

    def __str__(self) -> str:
        return self.display_name or self.username


class Grant(models.Model):
    """What every grant of a role carries besides whom, what and where."""

    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class TenantUserObjectPermission(UserObjectPermissionBase, Grant):
    content_object = models.ForeignKey(Tenant, on_delete=models.CASCADE)

    class Meta:
        unique_together = ["user", "permission", "content_object"]


class TenantGroupObjectPermission(GroupObjectPermissionBase, Grant):
    content_object = models.ForeignKey(Tenant, on_delete=models.CASCADE)

    class Meta:
        unique_together = ["group", "permission", "content_object"]


class EnvironmentUserObjectPermission(UserObjectPermissionBase, Grant):
    content_object = models.ForeignKey(Environment, on_delete=models.CASCADE)

    class Meta:
        unique_together = ["user", "permission", "content_object"]


class EnvironmentGroupObjectPermission(GroupObjectPermissionBase, Grant):
    content_object = models.ForeignKey(Environment, on_delete=models.CASCADE)

    class Meta:
        unique_together = ["group", "permission", "content_object"]


class ApiToken(models.Model):
    """A bearer token. Only its SHA-256 is kept; `scopes` are abilities it is limited to (empty: all its owner has)."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=12)
    secret_sha256 = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_usable(self, at: datetime) -> bool:
        return self.revoked_at is None and at < self.expires_at
