"""The one address that a workflow's messages name."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path


def change(request: HttpRequest, number: str) -> HttpResponse:
    return HttpResponse(number)


urlpatterns = [path("changes/<str:number>/", change, name="change")]
