"""Legal holds as pages list them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.urls import reverse

from recovery.models import LegalHold


def hold_rows(holds: Iterable[LegalHold]) -> list[dict[str, Any]]:
    return [
        {
            "hold": one,
            "where": "on this point" if one.point_id else "on everything of the environment",
            "dialog": f"lift-{one.pk}",
            "url": reverse("hold-lift", args=[one.pk]),
        }
        for one in holds
    ]
