from __future__ import annotations

import pytest
from django.template import TemplateSyntaxError, engines


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
