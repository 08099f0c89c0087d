"""The design system on one page, where the installation is a demo or in development."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from changecontrol.errors import NotFound
from changecontrol.views.pages import page


@page
@require_GET
def gallery(request: HttpRequest) -> HttpResponse:
    if not (settings.DEMO or settings.DEBUG):
        raise NotFound("There is no such page.")
    return render(request, "components/gallery.html")
