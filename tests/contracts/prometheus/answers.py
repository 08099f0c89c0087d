"""What a Prometheus 2.x and 3.x answers to the queries of the contract, so that the suite runs without one."""

from __future__ import annotations

from typing import Any

from tests.changecontrol.adapters.https_server import Reply


def _success(kind: str, result: Any) -> Reply:
    return Reply(200, {"status": "success", "data": {"resultType": kind, "result": result}})


def answer(query: str, at: str) -> Reply:
    """Return the answer to one of the contract's queries at a moment (seconds, as text)."""
    moment = float(at)
    vectors: dict[str, list[tuple[dict[str, str], str]]] = {
        "vector(42.5)": [({}, "42.5")],
        "vector(1) / 0": [({}, "+Inf")],
        "vector(-1) / 0": [({}, "-Inf")],
        "vector(0) / 0": [({}, "NaN")],
        "vector(1e21)": [({}, "1000000000000000000000")],
        'label_replace(vector(1), "store", "s1", "", "")': [({"store": "s1"}, "1")],
        "nosuch_metric": [],
        "vector(time())": [({}, f"{moment:g}" if moment < 1e6 else str(moment).removesuffix(".0"))],
    }
    if query in vectors:
        return _success("vector", [{"metric": labels, "value": [moment, text]} for labels, text in vectors[query]])
    if query == "42":
        return _success("scalar", [moment, "42"])
    if query == '"text"':
        return _success("string", [moment, "text"])
    if query == "vector(1)[2m:1m]":
        return _success("matrix", [{"metric": {}, "values": [[moment - 60, "1"], [moment, "1"]]}])
    error = 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis'
    return Reply(400, {"status": "error", "errorType": "bad_data", "error": error})
