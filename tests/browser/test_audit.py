"""The audit trail in Chromium."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Complaints, Visit
from tests.browser.scene import Scene
from tests.browser.sweep import faults

pytestmark = pytest.mark.browser

PAGES = {
    "audit": "/audit/",
    "audit-change": "/audit/?subject={closed}",
    "audit-nothing": "/audit/?actor=nobody",
    "audit-refused": "/audit/?since=yesterday",
}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_fits_and_is_silent(scene: Scene, visit: Visit, complaints: Complaints, name: str) -> None:
    page = visit(PAGES[name].format(closed=scene.closed), scene.estate.dee)

    assert faults(page, name) == {}
    assert complaints == []
