from __future__ import annotations

import pytest
from django import forms
from django.template.loader import render_to_string

from changecontrol.templatetags.controls import control, first_control_id


@pytest.fixture(autouse=True)
def renderer(settings) -> None:
    """Take widgets from Django's own templates: the tags hold whichever renderer the project chose."""
    settings.FORM_RENDERER = "django.forms.renderers.DjangoTemplates"


class Sample(forms.Form):
    title = forms.CharField(label="Title <b>", help_text="A few words.")
    note = forms.CharField(required=False, widget=forms.Textarea(attrs={"class": "wide"}))
    source = forms.ChoiceField(choices=[("a", "A")])
    kind = forms.ChoiceField(label="Kind", choices=[("a", "First"), ("b", "Second")], widget=forms.RadioSelect)
    token = forms.CharField(widget=forms.HiddenInput, required=False)


def field(form: forms.Form, name: str, **more: object) -> str:
    return render_to_string("components/field.html", {"field": form[name], **more})


def test_control_has_the_class_of_its_kind() -> None:
    form = Sample()

    assert 'class="form-control"' in control(form["title"])
    assert 'class="wide form-control"' in control(form["note"])
    assert 'class="form-select"' in control(form["source"])


def test_refused_answer_is_marked_and_described_by_hint_and_error() -> None:
    text = field(Sample({}), "title")

    assert 'aria-invalid="true"' in text
    assert 'aria-describedby="id_title_helptext id_title_error"' in text
    assert 'id="id_title_helptext"' in text
    assert 'id="id_title_error"' in text
    assert "Title &lt;b&gt;" in text


def test_accepted_answer_names_only_what_is_shown() -> None:
    text = field(Sample({"title": "x", "source": "a", "kind": "a"}), "title")

    assert 'aria-describedby="id_title_helptext"' in text
    assert "_error" not in text


def test_choices_are_a_group_with_a_legend_and_second_lines() -> None:
    text = field(Sample({"kind": "b"}), "kind", hints={"a": "the default"})

    assert "<legend>Kind</legend>" in text
    assert text.count('type="radio"') == 2
    assert '<input type="radio" name="kind" value="b" id="id_kind_1" checked>' in text
    assert "<span>the default</span>" in text


def test_error_summary_links_each_sentence_to_its_control() -> None:
    form = Sample({})

    text = render_to_string("components/error_summary.html", {"form": form})

    assert 'href="#id_title"' in text
    assert 'href="#id_kind_0"' in text
    assert "3 answers need another look" in text
    assert first_control_id(form["kind"]) == "id_kind_0"


def test_no_error_no_summary() -> None:
    assert render_to_string("components/error_summary.html", {"form": Sample()}).strip() == ""


def test_hidden_field_has_no_label() -> None:
    assert field(Sample(), "token").strip() == '<input type="hidden" name="token" id="id_token">'
