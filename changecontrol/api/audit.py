"""The audit trail over REST, for those who may read it. What is read is recorded (AUD-8)."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db import transaction
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, audit, clock
from changecontrol.api.base import ApiViewSet, acting, reading, refused, scope_for, wanted
from changecontrol.api.paging import Cursor, page, size_of
from changecontrol.api.times import MomentFilter
from changecontrol.events import Tag
from changecontrol.models import AuditEvent
from changecontrol.queries.audit import AuditFilter, audit_page
from changecontrol.rules.roles import Ability


class EventSerializer(serializers.Serializer[Any]):
    """An audit event. `body` is the canonical JSON whose hash is chained; hashes are hexadecimal."""

    id = serializers.IntegerField()
    subject = serializers.CharField()
    sequence = serializers.IntegerField()
    previous_hash = serializers.SerializerMethodField()
    hash = serializers.SerializerMethodField()
    tag = serializers.CharField()
    at = serializers.DateTimeField()
    body = serializers.CharField()

    def get_previous_hash(self, event: Any) -> str:
        return bytes(event.previous_hash).hex()

    def get_hash(self, event: Any) -> str:
        return bytes(event.hash).hex()


class EventFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tag = django_filters.CharFilter(max_length=80, help_text="A tag or its beginning, such as change:approval.")
    actor = django_filters.CharFilter(max_length=150, help_text="A username.")
    tenant = django_filters.CharFilter(max_length=63, help_text="A slug.")
    change = django_filters.CharFilter(max_length=24, help_text="A number such as CHG-000123.")
    since = MomentFilter(help_text="ISO 8601; events at or after it.")
    until = MomentFilter(help_text="ISO 8601; events before it.")

    class Meta:
        model = AuditEvent
        fields: list[str] = []

    @staticmethod
    def of(request: Request) -> AuditFilter:
        """Return what the page's query calls the same."""
        asked = wanted(request, EventFilters)
        number = asked.pop("change")
        return AuditFilter(change_id=_change_id(number) if number else None, **asked)


class EventViewSet(ApiViewSet[AuditEvent]):
    """Audit events of the tenants whose trail you may read."""

    queryset = AuditEvent.objects.none()
    serializer_class = EventSerializer
    filterset_class = EventFilters
    seen_with = Ability.AUDIT_VIEW

    @reading(EventSerializer(many=True))
    def list(self, request: Request) -> Response:
        """List events, newest first. That you read them is recorded."""
        scope, cursor = scope_for(request), Cursor.read(request)
        if Ability.AUDIT_VIEW not in scope.abilities(scope.roles):
            raise refused(request, self, access.why_not(scope, Ability.AUDIT_VIEW))
        # The end of the list is what is newer than nothing.
        after = 0 if cursor.is_last else cursor.before
        asked = EventFilters.of(request)
        found = audit_page(scope, wanted=asked, before=cursor.after, after=after, size=size_of(request))
        rows = EventSerializer([row.event for row in found.rows], many=True).data
        _note_reading(request)
        following = None if cursor.is_last else found.older
        return Response(page(request, rows, previous=found.newer, following=following))


def _change_id(number: str) -> int:
    """Return the key a change number names; what is not one names nothing."""
    digits = number.upper().removeprefix("CHG-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else -1


@transaction.atomic
def _note_reading(request: Request) -> None:
    actor = acting(request)
    asked = {name: request.query_params.getlist(name) for name in sorted(request.query_params)}
    audit.record(Tag.EVIDENCE_READ, subject=actor.person, actor=actor, at=clock.now(), data={"asked": asked})
