"""The product's addresses and the floor beside them: a bare DRF list, through the same middleware."""

from __future__ import annotations

from django.db.models import QuerySet
from django.urls import path
from rest_framework.generics import ListAPIView
from rest_framework.permissions import AllowAny
from rest_framework.serializers import ModelSerializer

from changecontrol.models import ChangeRequest
from changecontrol.project import urls


class BareSerializer(ModelSerializer[ChangeRequest]):
    class Meta:
        model = ChangeRequest
        fields = "__all__"


class BareList(ListAPIView[ChangeRequest]):
    """The rows whose keys are asked for, with nobody signed in, nothing narrowed and no page."""

    serializer_class = BareSerializer
    authentication_classes = []
    permission_classes = [AllowAny]
    pagination_class = None
    filter_backends = []

    def get_queryset(self) -> QuerySet[ChangeRequest]:
        keys = [int(key) for key in self.request.GET["keys"].split(",")]
        return ChangeRequest.objects.filter(pk__in=keys).order_by("-pk").prefetch_related("environments")


urlpatterns = [path("bare/", BareList.as_view()), *urls.urlpatterns]
