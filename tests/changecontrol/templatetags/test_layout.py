from __future__ import annotations

import pytest
from django.template import TemplateSyntaxError, engines
from django.template.loader import render_to_string


def render(source: str, **context: object) -> str:
    page = engines["django"].from_string("{% load ui %}" + source)
    return page.render(context)


def test_panel_names_its_landmark_and_puts_slots_in_their_places() -> None:
    text = render(
        '{% panel title=name anchor="chain" %}{% slot aside %}19 {{ what }}{% endslot %}<p>{{ what }}</p>'
        "{% slot footer %}the end{% endslot %}{% endpanel %}",
        name="Chain <1>",
        what="events & more",
    )

    assert '<section class="cc-panel" id="chain" aria-labelledby="h-chain">' in text
    assert '<h2 id="h-chain">Chain &lt;1&gt;</h2>' in text
    assert '<span class="cc-aside">19 events &amp; more</span>' in text
    assert '<div class="cc-body"><p>events &amp; more</p></div>' in text
    assert "<footer>the end</footer>" in text


def test_section_wraps_panels() -> None:
    panel = "{% panel flush=True mine=True %}<table></table>{% endpanel %}"

    text = render('{% section title="Gates" anchor="gates" %}' + panel + "{% endsection %}")

    assert '<section id="gates" aria-labelledby="h-gates">' in text
    assert '<section class="cc-panel is-mine">' in text
    assert "cc-body" not in text


def test_a_panels_inside_does_not_leak_its_inputs() -> None:
    text = render('{% panel title="Inner" %}{% endpanel %}[{{ title }}]', title="outer")

    assert text.endswith("[outer]")


@pytest.mark.parametrize(
    "source",
    ['{% panel "Chain" %}{% endpanel %}', "{% panel %}{% slot %}{% endslot %}{% endpanel %}", "{% panel %}"],
)
def test_a_panel_written_wrongly_is_refused(source: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        render(source)


def test_a_slot_outside_a_panel_is_refused() -> None:
    page = engines["django"].from_string("{% load ui %}{% slot aside %}{% endslot %}")

    with pytest.raises(TemplateSyntaxError, match="outside"):
        page.render({})


def test_a_fragment_can_stand_inside_a_panel_and_a_block_inside_a_slot(tmp_path, settings) -> None:
    (tmp_path / "frame.html").write_text(
        "{% load ui %}{% panel title='P' %}{% slot aside %}{% block count %}none{% endblock %}{% endslot %}"
        "{% block content %}{% endblock %}{% endpanel %}"
    )
    (tmp_path / "page.html").write_text(
        "{% extends 'frame.html' %}{% load ui partials %}{% block count %}8 pass{% endblock %}"
        "{% block content %}{% section title='Gates' anchor='gates' %}{% partialdef rows inline %}<b>rows</b>"
        "{% endpartialdef %}{% endsection %}{% endblock %}"
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [*settings.TEMPLATES[0]["DIRS"], tmp_path]}]

    page, fragment = render_to_string("page.html"), render_to_string("page.html#rows")

    assert '<span class="cc-aside">8 pass</span>' in page
    assert "<b>rows</b>" in page
    assert fragment == "<b>rows</b>"
