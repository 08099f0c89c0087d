"""The part of a page that lives: what goes on is asked for again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def live_answer(request: HttpRequest, facts: Mapping[str, Any], *, template: str) -> HttpResponse:
    """Answer a page that asks again, with nothing where it shows all of it already.

    Once it is over the page is told to load itself anew, and stops asking.
    """
    if not facts["is_active"]:
        response = HttpResponse(status=204)
        response["HX-Refresh"] = "true"
        return response
    if request.GET.get("seen") == facts["version"]:
        return HttpResponse(status=204)
    return render(request, f"{template}#live", dict(facts))
