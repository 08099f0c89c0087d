from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.errors import Permanent, Transient
from deployments.adapters import prometheus
from deployments.adapters.prometheus import open_indicators
from tests.changecontrol.adapters.https_server import HttpsServer, Reply, make_certificate, serve

AT = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    with serve(lambda request: vector([]), folder=tmp_path, scheme="http") as server:
        yield server


@pytest.fixture
def ask(server: HttpsServer) -> Callable[[Reply], Any]:
    def ask(reply: Reply) -> Any:
        server.answer = lambda request: reply
        return open_indicators(url=server.url).observe_query("up", at=AT)

    return ask


def vector(result: Any) -> Reply:
    return Reply(200, {"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (Reply(500, "oops"), Transient, "HTTP 500"),
        (Reply(503, {"status": "error", "errorType": "timeout", "error": "query timed out"}), Transient, "HTTP 503"),
        (Reply(429, ""), Transient, "HTTP 429"),
        (Reply(cut=True), Transient, "cannot be reached"),
        (Reply(401, ""), Permanent, "does not accept this credential"),
        (Reply(403, ""), Permanent, "does not accept this credential"),
        (Reply(404, "page not found"), Permanent, "Check its address"),
        (Reply(302, "", headers={"Location": "http://127.0.0.1:1/"}), Permanent, "HTTP 302"),
        (Reply(422, {"status": "error", "errorType": "execution", "error": "too many samples"}), Permanent, "samples"),
        (Reply(200, "<html>sign in</html>"), Transient, "cannot be read"),
        (Reply(200, {"status": "error"}), Transient, "cannot be read"),
        (Reply(200, {"status": "success"}), Transient, "cannot be read"),
        (vector(None), Transient, "cannot be read"),
        (vector([{"metric": {}}]), Transient, "cannot be read"),
        (vector([{"metric": {}, "value": [1, 2]}]), Transient, "cannot be read"),
        (vector([{"metric": {}, "value": [1, "0x10"]}]), Transient, "cannot be read"),
        (vector([{"metric": {}, "value": [1, "1_000"]}]), Transient, "cannot be read"),
        (vector([{"metric": {}, "value": [True, "1"]}]), Transient, "cannot be read"),
        (vector([{"metric": {"a": 1}, "value": [1, "1"]}]), Transient, "cannot be read"),
        (vector([{"metric": {}, "histogram": [1, {}]}]), Transient, "cannot be read"),
        (vector([{"metric": {}, "value": [1e300, "1"]}]), Transient, "cannot be read"),
    ],
)
def test_anything_but_a_promised_answer_is_an_error(
    ask: Callable[[Reply], Any], reply: Reply, error: type[Exception], says: str
) -> None:  # ANA-1
    with pytest.raises(error, match=says):
        ask(reply)


def test_retry_after_is_kept(ask: Callable[[Reply], Any]) -> None:
    with pytest.raises(Transient) as raised:
        ask(Reply(503, "", headers={"Retry-After": "9"}))

    assert raised.value.after == 9.0


def test_timeout_is_transient(ask: Callable[[Reply], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "READ_SECONDS", 0.2)

    with pytest.raises(Transient, match="did not answer in time"):
        ask(Reply(wait=0.5))


def test_server_that_is_down_is_transient() -> None:
    with pytest.raises(Transient, match="cannot be reached"):
        open_indicators(url="http://127.0.0.1:1").observe_query("up", at=AT)


def test_answers_have_limits(ask: Callable[[Reply], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    series = vector([{"metric": {"store": str(number)}, "value": [1, "1"]} for number in range(3)])
    monkeypatch.setattr(prometheus, "MAX_SERIES", 2)
    with pytest.raises(Permanent, match="3 series; 2 is the most"):
        ask(series)
    monkeypatch.setattr(prometheus, "MAX_ANSWER_BYTES", 50)
    with pytest.raises(Permanent, match="Aggregate it"):
        ask(series)


@pytest.mark.parametrize("query", ["", "  ", "x" * 20_001])
def test_query_without_words_or_without_end_is_refused(server: HttpsServer, query: str) -> None:
    with pytest.raises(Permanent, match="between 1 and"):
        open_indicators(url=server.url).observe_query(query, at=AT)

    assert server.requests == []


def test_token_is_read_for_each_query_and_sent_over_tls(tmp_path: Path) -> None:
    secrets = FakeSecrets({"env:METRICS": "first\n", "env:CA": make_certificate()[0]})
    with serve(lambda request: vector([]), folder=tmp_path) as server:
        indicators = open_indicators(url=server.url, credential="env:METRICS", authority="env:CA", secrets=secrets)
        indicators.observe_query("up", at=AT)
        secrets.values["env:METRICS"] = "second"
        indicators.observe_query("up", at=AT)

        sent = [request.headers["Authorization"] for request in server.requests]

    assert sent == ["Bearer first", "Bearer second"]


def test_authority_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(Permanent, match="not a PEM certificate"):
        open_indicators(url="https://127.0.0.1:1", authority="env:CA", secrets=FakeSecrets({"env:CA": "x"}))


def test_untrusted_certificate_is_permanent(tmp_path: Path) -> None:
    with (
        serve(lambda request: vector([]), folder=tmp_path) as server,
        pytest.raises(Permanent, match="is not trusted"),
    ):
        open_indicators(url=server.url).observe_query("up", at=AT)


def test_proxy_of_the_environment_is_not_asked(server: HttpsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert open_indicators(url=server.url).observe_query("up", at=AT) == ()


@pytest.mark.parametrize("url", ["", "ftp://x", "https://user:canary@x", "https://x?a=1", "http://metrics.example"])
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(Permanent) as refusal:
        open_indicators(url=url, credential="env:METRICS", secrets=FakeSecrets())

    assert "canary" not in refusal.value.reason
