"""How far a drill can go (BCK-5)."""

from __future__ import annotations

import pytest

from recovery.rules.levels import levels_of_another_tool, offered_levels, refusal_of

NO_FILESTORE = "Its backup policy names no filestore to ask about."
NO_ODOO = "This installation has no Odoo to start: name one in ODOO_COMMAND."
NO_PLACE = "Its backup policy names no other cluster in which to bring it up."


@pytest.mark.parametrize(
    ("has_filestore", "has_odoo", "has_place", "refusals"),
    [
        (True, True, True, ["", "", "", "", ""]),
        (True, True, False, ["", "", "", "", NO_PLACE]),
        (True, False, True, ["", "", "", NO_ODOO, ""]),
        (False, True, False, ["", "", NO_FILESTORE, NO_FILESTORE, NO_PLACE]),
        (False, False, False, ["", "", NO_FILESTORE, NO_FILESTORE, NO_PLACE]),
    ],
    ids=["all", "no-place", "no-odoo", "no-filestore", "none"],
)
def test_a_level_is_refused_where_there_is_nothing_to_ask(
    has_filestore: bool, has_odoo: bool, has_place: bool, refusals: list[str]
) -> None:
    offers = offered_levels(has_filestore=has_filestore, has_odoo=has_odoo, has_place=has_place)

    assert [refusal_of(level, offers) for level in range(1, 6)] == refusals


def test_what_another_tool_made_is_asked_up_to_where_nothing_but_a_database_is_needed() -> None:
    offers = levels_of_another_tool()

    assert [bool(refusal_of(level, offers)) for level in range(1, 6)] == [False, False, True, True, True]


def test_every_offer_says_in_words_what_it_asks() -> None:
    offers = offered_levels(has_filestore=True, has_odoo=True, has_place=True)

    assert [one.label for one in offers] == [
        "L1, integrity",
        "L2, PostgreSQL",
        "L3, filestore",
        "L4, Odoo",
        "L5, another cluster",
    ]
    assert all(one.asks.endswith(".") for one in offers)
