from __future__ import annotations

import pytest
from django.template import TemplateSyntaxError

from changecontrol.templatetags.icons import OUTLINES, icon


def test_icon_is_drawn_from_its_outline_and_hidden_from_screen_readers() -> None:
    assert (
        icon("check") == '<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12l5 5l10 -10"/></svg>'
    )


def test_icon_comes_in_three_sizes() -> None:
    assert 'class="icon icon-s"' in icon("check", "small")
    assert 'class="icon icon-l"' in icon("check", "large")


def test_unknown_icon_names_the_file_that_is_missing() -> None:
    with pytest.raises(TemplateSyntaxError, match=r"static/icons/nope\.svg"):
        icon("nope")


def test_every_icon_has_an_outline() -> None:
    assert [name for name, paths in OUTLINES.items() if not paths] == []
