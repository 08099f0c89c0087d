"""Times in filters: any moment that exists, and a sentence for one that does not."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import SmallEstate

LISTS = ["audit/events/?since={}", "audit/events/?until={}", "freezes/?holds_at={}"]


@pytest.mark.parametrize("url", LISTS)
@pytest.mark.parametrize(
    "time", ["2026-11-23T10:00:00+16:00", "2026-11-23T10:00:00-23:59", "9999-12-31T00:00:00+23:59"]
)
def test_an_offset_that_the_database_does_not_know_is_a_moment_all_the_same(
    estate: SmallEstate, url: str, time: str
) -> None:
    answer = client_for(estate.dee).get(f"/api/v1/{url.format(quote(time))}")

    assert answer.status_code == 200


@pytest.mark.parametrize("url", LISTS)
@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_moment_beyond_all_years_is_refused_by_name(estate: SmallEstate, url: str, time: str) -> None:
    answer = client_for(estate.dee).get(f"/api/v1/{url.format(quote(time))}")

    assert answer.status_code == 422
    assert sentence(answer).endswith(": There is no such time.")
