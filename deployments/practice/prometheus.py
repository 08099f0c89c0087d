"""Prometheus' HTTP API over the estate's metrics: `query`, `query_range`, and its error shape."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from deployments.practice.http import Request, Response
from deployments.practice.metrics import Metrics
from deployments.practice.promql import QueryError, Vector, parsed

MAXIMUM_POINTS = 11_000


def answer_query(metrics: Metrics, request: Request, parts: list[str], *, now: float) -> Response:
    """Answer GET or POST below `/prometheus/api/v1`."""
    if request.method not in ("GET", "POST"):
        return _failed(405, "bad_data", "method not allowed")
    wanted = dict(request.query)
    if request.method == "POST":
        wanted |= dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))

    def read(name: str, at: float) -> list[tuple[Any, float]]:
        return [({"__name__": name, **labels}, value) for labels, value in metrics.series(name, at)]

    try:
        if parts == ["query"]:
            at = _time(wanted.get("time"), now)
            value = parsed(wanted.get("query", ""))(read, at)
            if isinstance(value, float):
                return _succeeded("scalar", [at, _shown(value)])
            return _succeeded("vector", [{"metric": labels, "value": [at, _shown(number)]} for labels, number in value])
        if parts == ["query_range"]:
            return _succeeded("matrix", _matrix(read, wanted, now))
        if parts == ["label", "__name__", "values"]:
            return _succeeded("", metrics.names())
    except QueryError as error:
        return _failed(400, "bad_data", f'invalid parameter "query": {error}')
    except ValueError as error:
        return _failed(400, "bad_data", f"invalid parameter: {error}")
    return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")


def _matrix(read: Any, wanted: dict[str, str], now: float) -> list[dict[str, Any]]:
    start, end = _time(wanted.get("start"), now), _time(wanted.get("end"), now)
    step = _seconds(wanted.get("step", ""))
    if step <= 0:
        raise ValueError(
            '"step": zero or negative query resolution step widths are not accepted. Try a positive integer'
        )
    if end < start:
        raise ValueError('"end": end timestamp must not be before start time')
    if (end - start) / step > MAXIMUM_POINTS:
        raise ValueError("exceeded maximum resolution of 11,000 points per timeseries")
    evaluate = parsed(wanted.get("query", ""))
    series: dict[str, dict[str, Any]] = {}
    for index in range(math.floor((end - start) / step) + 1):
        at = start + index * step
        found = evaluate(read, at)
        vector: Vector = [({}, found)] if isinstance(found, float) else found
        for labels, number in vector:
            entry = series.setdefault(json.dumps(labels, sort_keys=True), {"metric": labels, "values": []})
            entry["values"].append([at, _shown(number)])
    return list(series.values())


def _time(text: str | None, now: float) -> float:
    if not text:
        return now
    try:
        at = float(text)
    except ValueError:
        at = datetime.fromisoformat(text).timestamp()
    if not math.isfinite(at):
        raise ValueError(f"cannot parse {text!r} to a valid timestamp")
    return at


def _seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if text and text[-1] in units:
        return float(text[:-1]) * units[text[-1]]
    return float(text)


def _shown(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def _succeeded(kind: str, result: Any) -> Response:
    data = {"resultType": kind, "result": result} if kind else result
    return Response(200, json.dumps({"status": "success", "data": data}).encode())


def _failed(code: int, kind: str, why: str) -> Response:
    return Response(code, json.dumps({"status": "error", "errorType": kind, "error": why}).encode())
