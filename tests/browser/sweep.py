"""One page in the themes and widths that people have."""

from __future__ import annotations

from itertools import product
from typing import Literal

from playwright.sync_api import Page

from tests.browser.conftest import keep, overflow, violations

WIDTHS = (1280, 768, 360)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def faults(page: Page, name: str) -> dict[tuple[int, str], tuple[object, int]]:
    """Return what axe finds and by how much the page is too wide, for each look that is not clean."""
    found: dict[tuple[int, str], tuple[object, int]] = {}
    for width, theme in product(WIDTHS, THEMES):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        keep(page, f"{name}-{width}-{theme}")
        found[width, theme] = (violations(page), overflow(page))
    return {look: one for look, one in found.items() if one != ([], 0)}
