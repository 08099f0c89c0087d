"""Approval policies over REST. Publishing writes the next version; changes already submitted keep their copy."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.actions.policies import publish_policy
from changecontrol.api.base import (
    ApiViewSet,
    Words,
    acting,
    command,
    listing,
    one_of,
    read,
    reading,
    scope_for,
    sight_for,
    yes_or_no,
)
from changecontrol.api.idempotency import idempotent
from changecontrol.models import ApprovalPolicy, Tenant
from changecontrol.rules.roles import Ability


class NewPolicyVersion(Words):
    tenant = serializers.CharField(max_length=63, allow_null=True, help_text="A slug; null: the platform's.")
    slug = serializers.SlugField(max_length=63)
    name = serializers.CharField(max_length=120)
    content = serializers.DictField(help_text="`match` and `stages`, as a list of policies shows them.")
    seen_version = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, help_text="The newest version you read; 0 for a new policy."
    )


class PolicySerializer(serializers.ModelSerializer[ApprovalPolicy]):
    tenant = serializers.CharField(source="tenant.slug", read_only=True, allow_null=True, default=None)
    created_by = serializers.CharField(source="created_by.username", read_only=True, allow_null=True, default=None)
    content = serializers.DictField(read_only=True)

    class Meta:
        model = ApprovalPolicy
        fields = ["id", "tenant", "slug", "name", "version", "is_active", "content", "created_at", "created_by"]
        read_only_fields = fields


class PolicyFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter("tenant__slug", max_length=63, help_text="A slug.")
    slug = django_filters.CharFilter(max_length=63)
    is_active = yes_or_no()


@listing(PolicySerializer)
class PolicyViewSet(mixins.ListModelMixin, ApiViewSet[ApprovalPolicy]):
    """Every version of the policies you may see, newest first."""

    queryset = ApprovalPolicy.objects.none()
    serializer_class = PolicySerializer
    filterset_class = PolicyFilters
    seen_with = Ability.POLICY_VIEW

    def get_queryset(self) -> QuerySet[ApprovalPolicy]:
        return access.visible(scope_for(self.request), ApprovalPolicy.objects.select_related("tenant", "created_by"))

    @reading(PolicySerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One version of a policy."""
        return Response(PolicySerializer(one_of(scope_for(request), self.get_queryset(), pk=pk)).data)

    @command(request=NewPolicyVersion, responses={201: PolicySerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Publish the next version of a policy, or the first of a new one. It counts for later submissions alone."""
        words = read(NewPolicyVersion, request)
        slug = words.pop("tenant")
        tenant_id = None if slug is None else one_of(sight_for(request), Tenant.objects.all(), slug=slug).pk
        policy = publish_policy(actor=acting(request), tenant_id=tenant_id, at=clock.now(), **words)
        return Response(PolicySerializer(policy).data, status=201)
