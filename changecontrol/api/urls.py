"""The addresses of the API."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from changecontrol.api.audit import EventViewSet
from changecontrol.api.calendar import FreezeViewSet, WindowViewSet
from changecontrol.api.changes import ChangeViewSet
from changecontrol.api.estate import (
    ClusterViewSet,
    CohortViewSet,
    EnvironmentViewSet,
    ProcessViewSet,
    RegionViewSet,
    SourceViewSet,
    StoreViewSet,
    TenantViewSet,
)
from changecontrol.api.nowhere import Nowhere
from changecontrol.api.people import GrantViewSet, MessageViewSet, MeViewSet, TokenViewSet
from changecontrol.api.policies import PolicyViewSet
from changecontrol.api.runs import RunViewSet

router = SimpleRouter()
router.register("changes", ChangeViewSet, basename="api-change")
router.register("runs", RunViewSet, basename="api-run")
router.register("windows", WindowViewSet, basename="api-window")
router.register("freezes", FreezeViewSet, basename="api-freeze")
router.register("policies", PolicyViewSet, basename="api-policy")
router.register("tenants", TenantViewSet, basename="api-tenant")
router.register("regions", RegionViewSet, basename="api-region")
router.register("stores", StoreViewSet, basename="api-store")
router.register("cohorts", CohortViewSet, basename="api-cohort")
router.register("environments", EnvironmentViewSet, basename="api-environment")
router.register("clusters", ClusterViewSet, basename="api-cluster")
router.register("processes", ProcessViewSet, basename="api-process")
router.register("sources", SourceViewSet, basename="api-source")
router.register("role-grants", GrantViewSet, basename="api-grant")
router.register("audit/events", EventViewSet, basename="api-event")
router.register("me", MeViewSet, basename="api-me")
router.register("tokens", TokenViewSet, basename="api-token")
router.register("messages", MessageViewSet, basename="api-message")

urlpatterns = [
    path("v1/", include(router.urls)),
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path(
        "docs/",
        login_required(
            SpectacularSwaggerSplitView.as_view(url_name="api-schema", template_name="changecontrol/api_docs.html")
        ),
        name="api-docs",
    ),
    re_path(r"^v1/", Nowhere.as_view()),
]
