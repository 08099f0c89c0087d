"""Where every page and API call of the project begins."""

from __future__ import annotations

urlpatterns: list[object] = []
