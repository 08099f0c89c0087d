"""What a reader sees counts as words, and nothing else does."""

from __future__ import annotations

import pytest

from changecontrol.rules.words import seen

UNSEEN = [
    "",
    " \n\t",
    "\u200b",
    "\u200b \u2060\ufeff",
    "\u00ad",
    "\u034f",
    "\u2800",
    "\u3164",
    "\ufe0f",
    "\u202e",
    "\x07",
]


@pytest.mark.parametrize("text", UNSEEN)
def test_what_nobody_sees_is_no_word(text: str) -> None:  # APR-5
    assert seen(text) == ""


@pytest.mark.parametrize("text", ["No.\0", "half a pair \ud83d"])
def test_what_cannot_be_kept_is_no_word(text: str) -> None:
    assert seen(text) == ""


@pytest.mark.parametrize("text", ["No.", "?", "7", "否", "👍", "e\u0301", "پی\u200cدی"])
def test_what_somebody_sees_is_kept_as_it_is(text: str) -> None:
    assert seen(f"  {text}\n") == text
