"""The gallery in Chromium: every component, both themes, wide and narrow, under the content security policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.changecontrol.components.conftest import Complaints

pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium: Browser, origin: str, complaints: Complaints) -> Page:
    page = chromium.new_context(viewport={"width": 1440, "height": 900}, base_url=origin).new_page()
    complaints.listen(page)
    return page


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390, 360])
def test_gallery_is_accessible_and_fits(chromium: Browser, origin: str, complaints: Complaints, width, theme) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    complaints.listen(page)

    page.goto(origin)
    shown = page.evaluate("[document.documentElement.dataset.bsTheme, document.documentElement.scrollWidth]")
    heard = list(complaints)
    violations = Axe().run(page).response["violations"]

    assert shown == [theme, width]
    assert heard == []
    assert [(found["id"], [node["html"] for node in found["nodes"]]) for found in violations] == []
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_without_the_shell_is_accessible(chromium: Browser, origin: str, complaints: Complaints, theme) -> None:
    page = chromium.new_context(color_scheme=theme).new_page()
    complaints.listen(page)

    page.goto(f"{origin}/plain/")

    ignored = {"page-has-heading-one"}  # the layout's user brings the heading
    assert complaints == []
    assert [found["id"] for found in Axe().run(page).response["violations"] if found["id"] not in ignored] == []
    page.context.close()


def test_theme_chosen_is_kept_by_the_server(page: Page) -> None:
    page.goto("/")
    page.locator(".cc-side .cc-person > summary").click()

    page.locator(".cc-side").get_by_role("button", name="Dark").click()

    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    assert 'data-bs-theme="dark"' in page.request.get("/").text()
    page.locator(".cc-side").get_by_role("button", name="System").click()
    assert "data-bs-theme" not in page.request.get("/").text()


def test_error_summary_takes_the_focus_and_leads_to_the_answer(page: Page) -> None:
    page.goto("/")

    expect(page.locator("#errors")).to_be_focused()
    page.get_by_role("link", name="Title: This field is required.").press("Enter")
    expect(page.locator("#sample_title")).to_be_focused()


def test_dialog_opens_by_keyboard_asks_why_and_gives_the_focus_back(page: Page) -> None:
    page.goto("/")
    opener = page.get_by_role("button", name="Cancel this change")
    opener.press("Enter")

    dialog = page.get_by_role("dialog", name="Cancel CHG-000142?")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_label("Why")).to_be_focused()
    page.keyboard.press("Escape")

    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_skip_link_is_the_first_stop(page: Page) -> None:
    page.goto("/plain/")
    page.goto("/")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")

    expect(page.locator("#main").or_(page.get_by_text("Skip to content"))).to_have_count(2)
    page.get_by_text("Skip to content").press("Enter")
    expect(page.locator("#main")).to_be_focused()


def swap(page: Page, *, kind: str, verb: str = "get") -> None:
    """Put a button that htmx swaps in place of itself at the top of the page, and press it."""
    page.goto("/")
    page.evaluate(
        """([kind, verb]) => {
          const place = document.createElement("div");
          place.id = "part";
          place.innerHTML = `<button id="again" hx-${verb}="/part/${kind}/" hx-target="#part"
            hx-swap="outerHTML">Go</button>`;
          document.getElementById("main").prepend(place);
          htmx.process(place);
        }""",
        [kind, verb],
    )
    page.locator("#again").focus()
    page.keyboard.press("Enter")


@pytest.mark.parametrize("kind", ["fine", "refused", "stale"])
def test_answer_is_swapped_in_said_aloud_and_keeps_the_focus(page: Page, complaints: Complaints, kind: str) -> None:
    swap(page, kind=kind)

    expect(page.locator("#announcer")).to_have_text("Wave 2: 12 of 20 healthy")
    expect(page.get_by_role("button", name="Again")).to_be_focused()
    assert [line for line in complaints if "Content Security Policy" in line] == []


def test_failure_is_shown_and_nothing_is_swapped(page: Page) -> None:
    swap(page, kind="broken")

    expect(page.locator("#messages")).to_contain_text("The server could not do this (500).")
    expect(page.get_by_role("button", name="Go")).to_be_visible()


def test_post_by_htmx_carries_the_csrf_token(page: Page) -> None:
    swap(page, kind="token", verb="post")

    expect(page.locator("#part")).to_have_text(page.locator('meta[name="csrf-token"]').get_attribute("content") or "-")


def test_ages_and_clocks_count_on_from_what_the_server_wrote(page: Page) -> None:
    # Its time stands still but for what we let pass: a machine under load would else lose a minute on the way.
    # Its time stands still but for what we let pass: a machine under load would else lose a minute on the way.
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    page.goto("/")
    left, clock = page.locator("[data-left-until]"), page.locator("[data-clock]").first
    expect(left).to_have_text("48 min")
    expect(clock).to_have_text("10:12 WET")

    page.clock.run_for("05:05")

    expect(left).to_have_text("42 min")
    expect(clock).to_have_text("10:17 WET")
