from __future__ import annotations

from decimal import Decimal

import pytest

from changecontrol.templatetags import numbers


def plain(text: str) -> str:
    return text.replace(numbers.NBSP, " ")


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.68, "68 %"),
        (Decimal("0.024"), "2.4 %"),
        (0.02, "2 %"),
        (1, "100 %"),
        (0, "0 %"),
        (0.004, "0.4 %"),
        (None, ""),
    ],
)
def test_share_of_one_reads_as_percent(fraction, expected) -> None:
    assert plain(numbers.share(fraction)) == expected


def test_percent_takes_points_and_never_breaks_before_its_sign() -> None:
    assert numbers.percent(68) == f"68{numbers.NBSP}%"


@pytest.mark.parametrize(
    ("count", "expected"), [(999, "999 B"), (48_000, "48 kB"), (1_920_000, "1.9 MB"), (412_000_000_000, "412 GB")]
)
def test_sizes_are_decimal(count, expected) -> None:
    assert plain(numbers.size(count)) == expected


def test_thousands_are_set_apart() -> None:
    assert numbers.number(48_031) == "48,031"
    assert numbers.number(1.5) == "1.5"
    assert plain(numbers.money(Decimal("1204.5"), "EUR")) == "1,204.50 EUR"


def test_counted_noun_agrees_with_its_count() -> None:
    assert numbers.counted(1, "store,stores") == "1 store"
    assert numbers.counted(1_200, "store,stores") == "1,200 stores"
    assert numbers.counted(2, "vote") == "2 votes"
