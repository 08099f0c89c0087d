"""What every metrics server must do, held against recorded answers and, where `prometheus` is installed, a real one."""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import requests

from changecontrol.errors import Permanent
from deployments.adapters.prometheus import open_indicators
from deployments.ports import Indicators, Sample
from tests.changecontrol.adapters.https_server import Reply, Request, serve
from tests.contracts.prometheus.answers import answer

AT = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
READY_SECONDS = 90


def answer_request(request: Request) -> Reply:
    form = parse_qs(request.body)
    return answer(form["query"][0], form["time"][0])


@contextmanager
def run_prometheus(folder: Path) -> Iterator[str]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("No `prometheus` on PATH, so the contract runs against recorded answers alone.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "prometheus.yml").write_text("global: {}\n")
    words = [
        binary,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + READY_SECONDS
            while not _is_ready(f"http://{address}/-/ready"):
                assert process.poll() is None, "Prometheus did not start."
                assert time.monotonic() < until, "Prometheus is not ready in time."
                time.sleep(0.1)
            yield f"http://{address}"
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


@pytest.fixture(scope="module", params=["recorded", "real"])
def indicators(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indicators]:
    folder = tmp_path_factory.mktemp("prometheus")
    if request.param == "recorded":
        with serve(answer_request, folder=folder, scheme="http") as server:
            yield open_indicators(url=server.url)
        return
    with run_prometheus(folder) as url:
        yield open_indicators(url=url)


def test_number_is_a_sample_at_the_moment_asked_for(indicators: Indicators) -> None:
    assert indicators.observe_query("vector(42.5)", at=AT) == (Sample(labels={}, at=AT, value=42.5),)
    assert indicators.observe_query("42", at=AT) == (Sample(labels={}, at=AT, value=42.0),)
    assert indicators.observe_query("vector(time())", at=AT)[0].value == AT.timestamp()
    assert indicators.observe_query("vector(1e21)", at=AT)[0].value == 1e21


def test_labels_are_kept(indicators: Indicators) -> None:
    (sample,) = indicators.observe_query('label_replace(vector(1), "store", "s1", "", "")', at=AT)

    assert sample == Sample(labels={"store": "s1"}, at=AT, value=1.0)


def test_no_series_is_no_error(indicators: Indicators) -> None:  # ANA-1
    assert indicators.observe_query("nosuch_metric", at=AT) == ()


def test_values_that_are_no_numbers_are_told_as_they_are(indicators: Indicators) -> None:  # ANA-1
    queries = ("vector(1) / 0", "vector(-1) / 0", "vector(0) / 0")

    plus, minus, nothing = (indicators.observe_query(query, at=AT)[0].value for query in queries)

    assert (plus, minus) == (math.inf, -math.inf)
    assert math.isnan(nothing)


def test_query_that_is_wrong_is_permanent(indicators: Indicators) -> None:
    with pytest.raises(Permanent, match=r"cannot evaluate this query: .*parse error"):
        indicators.observe_query("sum(", at=AT)


@pytest.mark.parametrize("query", ["vector(1)[2m:1m]", '"text"'])
def test_query_for_anything_but_numbers_is_permanent(indicators: Indicators, query: str) -> None:
    with pytest.raises(Permanent, match="needs a query for numbers"):
        indicators.observe_query(query, at=AT)
