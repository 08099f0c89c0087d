from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from changecontrol.errors import Permanent
from recovery.adapters.odoo.api import OdooApi, OdooRefused, hash_of_key, temporary_key
from tests.recovery.adapters.odoo.scene import CRONS, MODULES, Made, every_value, run
from tests.recovery.adapters.odoo.test_commands import KEYS


@pytest.fixture
def far_side() -> Iterator[Any]:
    """A server that answers as told and notes what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            server.asked.append((self.path, self.headers["Authorization"], json.loads(content)))  # type: ignore[attr-defined]
            status, body = server.answer  # type: ignore[attr-defined]
            if status == 0:
                return
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []  # type: ignore[attr-defined]
        server.answer = (200, "[1]")  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def api_of(far_side: Any, *, seconds: float = 30) -> OdooApi:
    address = f"http://127.0.0.1:{far_side.server_port}"
    return OdooApi(address=address, database="shop", key="canary-key", ends_at=time.monotonic() + seconds)


def test_arguments_are_named_and_the_key_is_borne(far_side: Any):
    with api_of(far_side) as api:
        assert api.call("sale.order", "search", domain=[["id", "=", 1]], limit=1) == [1]

    assert far_side.asked == [
        ("/json/2/sale.order/search", "bearer canary-key", {"domain": [["id", "=", 1]], "limit": 1})
    ]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            (403, '{"name": "odoo.exceptions.AccessError", "message": "You may\\nnot.", "debug": "canary"}'),
            "sale.order/search was refused: HTTP 403, AccessError: You may not.",
        ),
        ((500, "[]"), "sale.order/search was refused: HTTP 500."),
        ((302, "{}"), "sale.order/search was refused: HTTP 302."),
        ((200, "<html>canary</html>"), "sale.order/search was not answered (JSONDecodeError)."),
        ((0, ""), "sale.order/search was not answered (ConnectionError)."),
    ],
    ids=["refused", "no-object", "redirect", "page", "cut"],
)
def test_every_other_answer_is_a_sentence(far_side: Any, answer: tuple[int, str], sentence: str):
    far_side.answer = answer

    with api_of(far_side) as api, pytest.raises(OdooRefused) as refused:
        api.call("sale.order", "search")

    assert refused.value.sentence == sentence


def test_nothing_is_asked_after_the_time_is_over(far_side: Any):
    with api_of(far_side, seconds=-1) as api, pytest.raises(OdooRefused, match="no time left"):
        api.call("sale.order", "search")

    assert far_side.asked == []


def test_key_is_kept_as_odoo_keeps_it():
    _, scheme, rounds, salt, digest = hash_of_key("a key").split("$")

    def opened(text: str) -> bytes:
        return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4))

    assert (scheme, rounds) == ("pbkdf2-sha512", "6000")
    assert hashlib.pbkdf2_hmac("sha512", b"a key", opened(salt), 6000) == opened(digest)


def test_administrator_acts_for_a_while_and_is_left_as_before(made: Made):
    url = made(MODULES, CRONS, KEYS)
    before = every_value(url)

    with temporary_key(url) as key:
        assert run(url, "SELECT index FROM res_users_apikeys WHERE user_id = 2") == [(key[:8],)]
        assert run(url, "SELECT active FROM res_users WHERE id = 2") == [(True,)]
        assert run(url, "SELECT gid FROM res_groups_users_rel WHERE uid = 2 ORDER BY gid") == [(10,), (11,)]
        assert key not in every_value(url)

    assert every_value(url) == before


@pytest.mark.parametrize(
    "change", ["DELETE FROM ir_model_data WHERE name = 'user_admin'", "DROP TABLE res_users_apikeys"]
)
def test_nobody_to_act_is_said(made: Made, change: str):
    with pytest.raises(Permanent, match="nobody can sign in"), temporary_key(made(MODULES, CRONS, KEYS, change)):
        pass
