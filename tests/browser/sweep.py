"""One page in the themes and widths that people have."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.browser.conftest import keep, overflow, violations

LOOKS = ((1440, "light"), (1440, "dark"), (390, "dark"), (360, "light"))


def faults(page: Page, name: str) -> dict[tuple[int, str], tuple[object, int]]:
    """Return what axe finds and by how much the page is too wide, for each look that is not clean."""
    found: dict[tuple[int, str], tuple[object, int]] = {}
    for width, theme in LOOKS:
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        keep(page, f"{name}-{width}-{theme}")
        found[width, theme] = (violations(page), overflow(page))
    return {look: one for look, one in found.items() if one != ([], 0)}
