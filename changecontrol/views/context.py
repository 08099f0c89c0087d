"""What every page's frame shows: navigation, clocks, the person, the inbox."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def shell(request: HttpRequest) -> dict[str, Any]:
    return {"shell": {"theme": request.COOKIES.get("theme", "")}}
