"""The whole application on a free loopback port, Chromium before it, and people signed in by their session cookie.

The server shares this process and its real database; a module's scene is committed once and gone afterwards.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import connections
from django.test import Client, override_settings
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from changecontrol import clock
from changecontrol.models import User
from tests.browser.scene import Scene, build_scene
from tests.plugin import TestDatabase

# As long as an action waits: beside other tests a page may take many times as long as alone.
expect.set_options(timeout=30_000)

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Keep the test's output free of requests."""


class _Application(WSGIHandler):
    """Gives the connection of each request's thread back at its end, so that the database can be dropped."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        response = super().__call__(environ, start_response)
        original = response.close

        def close() -> None:
            original()
            connections.close_all()

        response.close = close  # type: ignore[method-assign]  # what the server calls last
        return response


@pytest.fixture(scope="module", autouse=True)
def beside_a_loop() -> Iterator[None]:
    """Playwright keeps an event loop in this thread; nothing of Django runs in it, so it may use the database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield


@pytest.fixture(scope="module")
def scene(
    beside_a_loop: None, django_db_setup: None, database: TestDatabase, django_db_blocker: Any
) -> Iterator[Scene]:
    """Commit a retailer with changes in every state; nothing of it is left after the module."""
    with django_db_blocker.unblock():
        yield build_scene()
        connections.close_all()
        database.drop()
        database.create()


@pytest.fixture(scope="module")
def origin(scene: Scene) -> Iterator[str]:
    """Serve the application; yield its address."""
    with override_settings(ALLOWED_HOSTS=["127.0.0.1"], STATIC_ROOT=settings.BASE_DIR / "static", DEMO=True):
        server = ThreadedWSGIServer(("127.0.0.1", 0), _SilentHandler)
        server.daemon_threads = True
        server.set_app(_Application())
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        yield browser
        browser.close()


class Complaints(list[str]):
    """What the console and the content security policy complained about. A refused form is no complaint."""

    def listen(self, page: Page) -> None:
        page.on("console", lambda message: self.append(message.text) if _is_complaint(message) else None)
        page.on("pageerror", lambda error: self.append(str(error)))


def _is_complaint(message: Any) -> bool:
    is_refusal = "the server responded with a status of 4" in message.text
    return message.type in {"error", "warning"} and not is_refusal


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


Visit = Callable[..., Page]
Theme = Literal["light", "dark"]


@pytest.fixture
def visit(chromium: Browser, origin: str, complaints: Complaints) -> Iterator[Visit]:
    """Return a function that opens an address as somebody, in a window of their own."""
    contexts: list[BrowserContext] = []

    def open_page(
        path: str, person: User | None = None, *, theme: Theme = "light", width: int = 1440, **options: Any
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, base_url=origin, **options
        )
        contexts.append(context)
        if person is not None:
            context.add_cookies([{"name": "sessionid", "value": session_of(person), "url": origin}])
        page = context.new_page()
        complaints.listen(page)
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


def session_of(person: User, *, proved_at: datetime | None = None) -> str:
    """Sign somebody in without the form; they proved who they are now, unless told otherwise."""
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    session = client.session
    at = (proved_at or clock.now()).timestamp()
    session["account_authentication_methods"] = [{"method": "password", "at": at, "username": person.username}]
    session.save()
    return str(session.session_key)


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe finds, by rule, with the markup it is about."""
    found = Axe().run(page).response["violations"]
    return [(one["id"], [node["html"][:300] for node in one["nodes"]]) for one in found]


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def keep(page: Page, name: str) -> None:
    """Keep a picture for people, where the variable SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
