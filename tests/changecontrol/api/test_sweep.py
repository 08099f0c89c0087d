"""Every operation of the schema, called by nobody, by a stranger and with nonsense: each answers with a problem."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import SmallEstate, add_person, authorized_change

METHODS = ("get", "post", "patch", "put", "delete")
NONSENSE: dict[str, tuple[Any, str]] = {
    "broken": (b'{"title": ', "application/json"),
    "not an object": (b"[]", "application/json"),
    "null": (b"null", "application/json"),
    "a word": (b'"x"', "application/json"),
    "not a number": (b'{"title": NaN}', "application/json"),
    "half a character": (b'{"title": "\xff"}', "application/json"),
    "a NUL": (b'{"title": "\\u0000"}', "application/json"),
    "a NUL in a name": (b'{"content": {"risk_answers": {"\\u0000": "x"}}}', "application/json"),
    "half a surrogate pair": (b'{"title": "\\ud800"}', "application/json"),
    "too deep": (b"[" * 200_000, "application/json"),
    "an unknown word": (b'{"nonsense": 1}', "application/json"),
    "a form": (b"title=x", "application/x-www-form-urlencoded"),
    "XML": (b"<title/>", "application/xml"),
}


def operations() -> Iterator[tuple[str, str]]:
    """Yield the method and path of every operation."""
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    for path, methods in schema["paths"].items():
        yield from ((method, path) for method in methods if method in METHODS)


def address(path: str, *, number: str, key: str = "1") -> str:
    return path.format(number=number, id=key, verb="pause", artefact=key)


def call(client: APIClient, method: str, url: str, body: Any = None, media_type: str = "application/json") -> Any:
    if method == "get":
        return client.get(url)
    return getattr(client, method)(url, data=body if body is not None else b"{}", content_type=media_type)


def test_the_schema_lists_what_the_slice_needs() -> None:
    found = set(operations())

    for part in ("submit", "vote", "withdraw-vote", "schedule", "hold", "release", "cancel", "close", "hand-over"):
        assert ("post", f"/api/v1/changes/{{number}}/{part}/") in found
    for part in ("plan", "gates", "approvals", "run", "timeline", "evidence", "evidence-pack", "revisions"):
        assert ("get", f"/api/v1/changes/{{number}}/{part}/") in found
    kinds = ("tenants", "regions", "stores", "cohorts", "environments", "clusters", "processes", "sources")
    for kind in kinds:
        assert {("get", f"/api/v1/{kind}/"), ("post", f"/api/v1/{kind}/")} <= found
        assert {("get", f"/api/v1/{kind}/{{id}}/"), ("patch", f"/api/v1/{kind}/{{id}}/")} <= found
    for kind in ("policies", "points", "backups", "restores", "drills", "holds"):
        assert {("get", f"/api/v1/recovery/{kind}/"), ("post", f"/api/v1/recovery/{kind}/")} <= found
        assert ("get", f"/api/v1/recovery/{kind}/{{id}}/") in found
    assert {("get", "/api/v1/recovery/alarms/"), ("get", "/api/v1/recovery/corrective-actions/")} <= found
    for part in ("freshness", "coverage", "usage", "retention", "comparison"):
        assert ("get", f"/api/v1/recovery/environments/{{id}}/{part}/") in found
    # Later slices.
    later = ("waivers", "delegations", "emergency")
    assert [path for _, path in found if any(word in path for word in later)] == []


def test_nobody_is_asked_to_sign_in_everywhere(db: None) -> None:
    client = APIClient()
    wrong = []

    for method, path in operations():
        answer = call(client, method, address(path, number="CHG-000001"))
        if answer.status_code != 401 or not answer["WWW-Authenticate"].startswith("Bearer"):
            wrong.append((method, path, answer.status_code))
        sentence(answer)

    assert wrong == []


def test_a_stranger_finds_nothing_anywhere(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    client = client_for(add_person("eve"))
    wrong = []

    for method, path in operations():
        if path.startswith(("/api/v1/me/", "/api/v1/tokens/")):
            continue
        answer = call(client, method, address(path, number=change.number, key=str(estate.tenant.pk)))
        is_empty_list = method == "get" and answer.status_code == 200 and answer.json()["results"] == []
        if not is_empty_list and answer.status_code not in {403, 404, 422}:
            wrong.append((method, path, answer.status_code))
        if not is_empty_list:
            sentence(answer)
        if b"northwind" in answer.content.lower():
            wrong.append((method, path, "leaks"))

    assert wrong == []


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_a_problem_of_the_caller_everywhere(estate: SmallEstate, name: str) -> None:
    body, media_type = NONSENSE[name]
    change = authorized_change(estate)
    client = client_for(estate.ada)
    wrong = []

    for method, path in operations():
        if method == "get":
            continue
        url = address(path, number=change.number, key=str(estate.tenant.pk))
        answer = call(client, method, url, body, media_type)
        if not 400 <= answer.status_code < 500:
            wrong.append((method, path, answer.status_code))
        sentence(answer)

    assert wrong == []


def test_a_body_beyond_all_measure_is_not_even_read(estate: SmallEstate) -> None:
    client = client_for(estate.ada)
    body = b'{"tenant": "northwind", "title": "' + b"x" * 1_100_000 + b'"}'

    plain = client.post("/api/v1/changes/", data=body, content_type="application/json")
    keyed = client.post(
        "/api/v1/changes/", data=body, content_type="application/json", headers={"Idempotency-Key": "k"}
    )

    assert (plain.status_code, keyed.status_code) == (413, 413)
    assert sentence(plain) == sentence(keyed)


def test_a_wrong_method_says_which_are_right(estate: SmallEstate) -> None:
    answer = client_for(estate.ada).put("/api/v1/changes/", {})

    assert answer.status_code == 405
    assert set(answer["Allow"].split(", ")) == {"GET", "POST", "HEAD", "OPTIONS"}
    assert sentence(answer)


def test_an_answer_in_another_format_is_not_offered(estate: SmallEstate) -> None:
    answer = client_for(estate.ada).get("/api/v1/changes/", headers={"Accept": "text/html"})

    assert answer.status_code == 406
    assert sentence(answer)


@pytest.mark.parametrize(
    "path",
    [
        "changes/CHG-%00/",
        "changes/CHG-1/",
        "changes/CHG-0000000000000000000000000000001/",
        "changes/CHG-999999999999999999/",
        "runs/0/",
        "runs/99999999999999999999/",
        "runs/-1/",
        "runs/x/",
        "tenants/999999999999999999/",
        "windows/٣/",
        "regions/%0A/",
        "runs/1%0A/log/",
        "waivers/",
        "recovery/",
        "recovery/points/0/",
        "recovery/points/99999999999999999999/",
        "recovery/drills/x/",
        "recovery/restores/999999999999999999/",
        "recovery/environments/1%0A/coverage/",
        "",
        "nowhere/at/all/",
    ],
)
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_an_address_of_nothing_is_a_problem_too(estate: SmallEstate, path: str, method: str) -> None:
    answer = call(client_for(estate.ada), method, f"/api/v1/{path}")

    assert answer.status_code in {404, 405}
    assert sentence(answer)


def test_asking_what_is_possible_or_how_long_it_is_breaks_nothing(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    client = client_for(estate.ada)
    wrong = []

    for path in sorted({path for _, path in operations()}):
        url = address(path, number=change.number, key=str(estate.tenant.pk))
        wrong += [(url, one.status_code) for one in (client.options(url), client.head(url)) if one.status_code >= 500]

    assert wrong == []


def test_a_missing_slash_is_named(estate: SmallEstate) -> None:
    answer = client_for(estate.ada).post("/api/v1/changes", {})

    assert answer.status_code == 404
    assert sentence(answer) == "Addresses end with a slash: /api/v1/changes/"
