"""What answers at an address of the API where there is nothing: a problem document, as everywhere in it."""

from __future__ import annotations

from typing import Any

from django.urls import Resolver404, resolve
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from changecontrol.api.parsing import BoundedJSONParser
from changecontrol.api.problems import NOTHING_HERE
from changecontrol.errors import NotFound


@extend_schema(exclude=True)
class Nowhere(APIView):
    parser_classes = [BoundedJSONParser]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(self._sentence(request.path))

    def get(self, request: Request) -> Response:
        raise NotFound(NOTHING_HERE)  # every call ends in `initial`; a method must exist for 404 to go before 405

    post = put = patch = delete = get

    def _sentence(self, path: str) -> str:
        """Name the address that was meant where only the slash at its end is missing."""
        if path.endswith("/"):
            return NOTHING_HERE
        try:
            found = resolve(f"{path}/")
        except Resolver404:
            return NOTHING_HERE
        is_here = getattr(found.func, "view_class", None) is Nowhere
        return NOTHING_HERE if is_here else f"Addresses end with a slash: {path}/"
