"""The addresses of the API."""

from __future__ import annotations

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from changecontrol.api.audit import EventViewSet
from changecontrol.api.changes import ChangeViewSet
from changecontrol.api.runs import RunViewSet

router = SimpleRouter()
router.register("changes", ChangeViewSet, basename="api-change")
router.register("runs", RunViewSet, basename="api-run")
router.register("audit/events", EventViewSet, basename="api-event")

urlpatterns = [
    path("v1/", include(router.urls)),
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="api-schema"), name="api-docs"),
]
