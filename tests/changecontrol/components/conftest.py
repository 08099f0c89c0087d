"""Django's own static-serving server on a free loopback port, and one Chromium for the module."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.test import override_settings
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Widgets come from Django's own templates here: components hold whichever renderer the project chose.
RENDERER = "django.forms.renderers.DjangoTemplates"


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Keep the test's output free of requests."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Serve the gallery and the static files; yield the address."""
    plain_files = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    middleware = ["django.middleware.csrf.CsrfViewMiddleware"]
    with override_settings(
        ROOT_URLCONF="tests.changecontrol.components.urls",
        MIDDLEWARE=middleware,
        STORAGES=plain_files,
        ALLOWED_HOSTS=["127.0.0.1"],
        FORM_RENDERER=RENDERER,
        DEBUG=False,
    ):
        server = ThreadedWSGIServer(("127.0.0.1", 0), _SilentHandler)
        server.daemon_threads = True
        server.set_app(StaticFilesHandler(WSGIHandler()))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        yield browser
        browser.close()


class Complaints(list[str]):
    """What the console and the content security policy complained about."""

    def listen(self, page: Page) -> None:
        page.on("console", lambda message: self.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("requestfailed", lambda request: self.append(f"failed: {request.url}"))


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()
