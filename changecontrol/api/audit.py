"""The audit trail over REST, for those who may read it. What is read is recorded."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, audit, clock
from changecontrol.api.base import acting, scope_for
from changecontrol.api.serializers import EventSerializer
from changecontrol.errors import Forbidden
from changecontrol.events import Tag
from changecontrol.models import AuditEvent
from changecontrol.rules.roles import Ability


class EventFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    subject = django_filters.CharFilter()
    tag = django_filters.CharFilter()
    tenant = django_filters.CharFilter("tenant__slug")
    since = django_filters.IsoDateTimeFilter("at", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter("at", lookup_expr="lt")

    class Meta:
        model = AuditEvent
        fields: list[str] = []


class EventViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[AuditEvent]):
    """Audit events of the tenants whose trail you may read, newest first."""

    queryset = AuditEvent.objects.none()
    serializer_class = EventSerializer
    filterset_class = EventFilter

    def get_queryset(self) -> QuerySet[AuditEvent]:
        scope = scope_for(self.request)
        if scope.sees_everything:
            return AuditEvent.objects.all()
        tenants = [
            tenant for tenant in scope.tenants if Ability.AUDIT_VIEW in scope.abilities(scope.roles_on_tenant(tenant))
        ]
        if not tenants:
            raise Forbidden(access.why_not(scope, Ability.AUDIT_VIEW))
        return AuditEvent.objects.filter(tenant__in=tenants)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        answer = super().list(request, *args, **kwargs)
        actor = acting(request)
        with transaction.atomic():
            asked = {key: request.query_params.getlist(key) for key in sorted(request.query_params)}
            audit.record(Tag.EVIDENCE_READ, subject=actor.person, actor=actor, at=clock.now(), data={"asked": asked})
        return answer
