from __future__ import annotations

import pytest

from recovery.rules.restores import check_target

IN_USE = ("northwind", "Northwind_Staging", "")


@pytest.mark.parametrize("name", ["a_look", "northwind_2", "x", "x" * 63])
def test_a_new_name_is_free(name: str) -> None:
    assert check_target(name, in_use=IN_USE) == ""


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("northwind", "“northwind” is a database in use: a restore goes beside it, under another name."),
        (
            "northwind_staging",
            "“northwind_staging” is a database in use: a restore goes beside it, under another name.",
        ),
        ("template0", "“template0” belongs to the server itself: choose another name."),
        *(
            (
                name,
                "Name the new database with a letter, then letters, digits and underscores, 63 at most, in lower case.",
            )
            for name in ("", "1st", "a-look", "A", "x" * 64, 'x"; DROP DATABASE odoo', "a\n", "ä")
        ),
    ],
)
def test_a_name_that_will_not_do_is_told_why(name: str, sentence: str) -> None:
    assert check_target(name, in_use=IN_USE) == sentence
