"""The list of changes, 100 of 100,000, by REST and as a page, against a bare DRF list of the same rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from unittest.mock import patch

from django.db import connection
from django.http import HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from changecontrol.models import ChangeRequest
from changecontrol.queries.changes import changes_page
from changecontrol.views import changes as page
from tests.bench.harness import Figure, in_turns
from tests.bench.population import CHANGES, HOST, Crowd
from tests.plugin import TestDatabase

ROWS = 100
REQUESTS = 8
Get = Callable[[str], HttpResponse]


def measure(database: TestDatabase) -> Iterator[Figure]:
    crowd = Crowd.of(database)
    ids = list(ChangeRequest.objects.filter(tenant=crowd.estate.tenant).order_by("pk").values_list("pk", flat=True))
    assert len(ids) >= CHANGES * 4 // 5
    first, last = ids[-ROWS:], ids[:ROWS]
    rest = Client(SERVER_NAME=HOST, headers={"Authorization": f"Bearer {crowd.token}"})
    person = Client(SERVER_NAME=HOST)
    person.force_login(crowd.estate.ada, backend="django.contrib.auth.backends.ModelBackend")
    api, changes = "/api/v1/changes/?page_size={size}{more}", "/changes/{more}"
    # The page shows fifty rows; here it is asked for a hundred, so that both are compared over the same rows.
    with override_settings(ROOT_URLCONF="tests.bench.urls"):
        yield from _compare("list_rest", rest, api, first, last, more="&cursor=last")
        with _rows_of_page(ROWS):
            yield from _compare("list_page", person, changes, first, last, more=f"?before={ids[ROWS]}")
        yield from _of_one_environment(crowd, ids)


def _compare(
    name: str, client: Client, address: str, first: list[int], last: list[int], *, more: str
) -> Iterator[Figure]:
    here, there = address.format(size=ROWS, more=""), address.format(size=ROWS, more=more)
    assert _numbers(client, here) == {_number(pk) for pk in first}
    assert _numbers(client, there) == {_number(pk) for pk in last}
    times = in_turns(
        lambda: _get(client, here),
        lambda: _get(Client(SERVER_NAME=HOST), _bare(first)),
        lambda: _get(client, there),
        lambda: _get(Client(SERVER_NAME=HOST), _bare(last)),
    )
    ours, floor, ours_last, floor_last = (1000 * one / REQUESTS for one in times)
    yield Figure(f"{name}_first", ours, "ms", floor, aim="ratio <= 3")
    yield Figure(f"{name}_last", ours_last, "ms", floor_last, aim="ratio <= 3")
    yield Figure(f"{name}_last_to_first", ours_last, "ms", ours, aim="ratio <= 1.25")
    few = 10
    if name == "list_page":
        with _rows_of_page(few):
            of_few = _statements(client, here)
    else:
        of_few = _statements(client, address.format(size=few, more=""))
    yield Figure(
        f"{name}_statements", _statements(client, here), "statements", of_few, aim="value <= 6, and ratio 1 to ten rows"
    )


def _of_one_environment(crowd: Crowd, ids: list[int]) -> Iterator[Figure]:
    """The same for somebody who holds a role on one environment alone: what they may see is found by its changes."""
    client = Client(SERVER_NAME=HOST, headers={"Authorization": f"Bearer {crowd.narrow_token}"})
    here = f"/api/v1/changes/?page_size={ROWS}"
    seen = sorted(int(number.removeprefix("CHG-")) for number in _numbers(client, here))
    assert len(seen) == ROWS
    ours, floor = in_turns(lambda: _get(client, here), lambda: _get(Client(SERVER_NAME=HOST), _bare(seen)))
    yield Figure("list_rest_narrow", 1000 * ours / REQUESTS, "ms", 1000 * floor / REQUESTS, aim="ratio <= 3")


def _rows_of_page(rows: int) -> AbstractContextManager[object]:
    return patch.object(page, "changes_page", partial(changes_page, size=rows))


def _bare(keys: list[int]) -> str:
    return "/bare/?keys=" + ",".join(str(key) for key in keys)


def _get(client: Client, address: str) -> None:
    for _ in range(REQUESTS):
        assert client.get(address).status_code == 200


def _numbers(client: Client, address: str) -> set[str]:
    return set(re.findall(r"CHG-[0-9]{6}\b", client.get(address).content.decode()))


def _number(pk: int) -> str:
    return f"CHG-{pk:06d}"


def _statements(client: Client, address: str) -> int:
    client.get(address)
    with CaptureQueriesContext(connection) as seen:
        client.get(address)
    return len(seen)
