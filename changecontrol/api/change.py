"""What every part of a change's resource shares: how the change is found, in whose sight, and how it is told."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework.response import Response

from changecontrol.api.base import ApiViewSet, sight_for
from changecontrol.api.serializers import ChangeDetailSerializer
from changecontrol.models import ChangeRequest
from changecontrol.queries.changes import change_by_number


class OfChange(ApiViewSet[ChangeRequest]):
    """A change by its number. Its parts are mixins of one resource: `api.changes.ChangeViewSet`."""

    queryset = ChangeRequest.objects.none()
    lookup_field = "number"
    lookup_value_regex = "CHG-[0-9]{6,18}"

    def get_queryset(self) -> QuerySet[ChangeRequest]:
        """Nothing of its own: every read goes by a named query."""
        return ChangeRequest.objects.none()

    def _change(self, number: str) -> ChangeRequest:
        """Return a change in the person's sight; whether the token allows what is asked is checked elsewhere."""
        return change_by_number(sight_for(self.request), number)

    def _detail(self, change: ChangeRequest) -> Any:
        return ChangeDetailSerializer(change).data

    def _done(self, change: ChangeRequest, *, status: int = 200) -> Response:
        return Response(self._detail(change), status=status)
