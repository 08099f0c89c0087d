"""One page in the themes and widths that people have."""

from __future__ import annotations

from typing import Literal

from playwright.sync_api import Page

from tests.browser.conftest import keep, overflow, violations

Look = tuple[int, Literal["light", "dark"]]
LOOKS: tuple[Look, ...] = ((1280, "light"), (1280, "dark"), (768, "light"), (360, "dark"))
ASKED_BY_AXE = frozenset(LOOKS) - {(768, "light")}
"""Between the widest and the narrowest nothing is shown that neither of them shows."""


def faults(page: Page, name: str) -> dict[Look, tuple[object, int]]:
    """Return what axe finds and by how much the page is too wide, for each look that is not clean."""
    found: dict[Look, tuple[object, int]] = {}
    for width, theme in LOOKS:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        keep(page, f"{name}-{width}-{theme}")
        found[width, theme] = (violations(page) if (width, theme) in ASKED_BY_AXE else [], overflow(page))
    return {look: one for look, one in found.items() if one != ([], 0)}
