"""The documentation of the API in Chromium: it works under the content security policy, which knows no exception."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Complaints, Visit, keep
from tests.browser.scene import Scene

pytestmark = pytest.mark.browser

"""Milliseconds for the page to read the schema, which the server writes anew each time."""


def test_a_call_is_found_and_tried_without_a_complaint(scene: Scene, visit: Visit, complaints: Complaints) -> None:
    page = visit("/api/docs/", scene.estate.ada)
    reports: list[str] = []
    page.on("request", lambda request: reports.append(request.url) if "csp" in request.url else None)

    expect(page.get_by_role("heading", name="ChangeControl")).to_be_visible()
    page.locator("#operations-me-me_list .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()

    answer = page.locator(".live-responses-table .highlight-code").first
    expect(answer).to_contain_text('"username": "ada"')
    keep(page, "api-docs")
    assert complaints == []
    assert reports == []


def test_a_command_is_sent_with_the_sessions_csrf_token(scene: Scene, visit: Visit, complaints: Complaints) -> None:
    page = visit("/api/docs/", scene.estate.ada)

    page.locator("#operations-changes-changes_create .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.locator("textarea.body-param__text").fill('{"tenant": "northwind", "title": "Filed from the documentation"}')
    page.get_by_role("button", name="Execute").click()

    expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("201")
    assert complaints == []


def test_a_stranger_is_asked_to_sign_in_first(scene: Scene, visit: Visit) -> None:
    page = visit("/api/docs/")

    assert page.url.endswith("/accounts/login/?next=/api/docs/")
