"""What a component promises beyond its looks: refusals with reasons, tokens in forms, nothing unescaped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.template import engines
from django.template.loader import render_to_string

from changecontrol.templatetags.gallery import DIGEST, gallery_samples
from tests.changecontrol.components.conftest import RENDERER


def render(component: str, **inputs: object) -> str:
    return render_to_string(f"components/{component}.html", inputs)


def control(verb: str) -> dict[str, object]:
    return next(item for item in gallery_samples()["run"]["controls"] if item["verb"] == verb)


# APR-15
def test_refusal_stands_where_the_vote_would_be() -> None:
    text = render("decision", may=False, why={"title": "You asked for this change.", "text": "Ben can decide."})

    assert "You asked for this change." in text
    assert "<form" not in text
    assert "<button" not in text


def test_vote_names_the_digest_that_was_seen() -> None:
    text = render("decision", may=True, digest=DIGEST, url="/vote/", left=timedelta(minutes=48), csrf_token="t0ken")

    assert text.count(f'name="seen_digest" value="{DIGEST}"') == 2
    assert 'name="verdict" value="approve"' in text
    assert 'name="verdict" value="reject"' in text
    assert text.count("btn-primary") == 1


@pytest.mark.parametrize(
    ("component", "inputs", "forms"),
    [
        ("decision", {"may": True, "digest": DIGEST, "url": "/vote/"}, 2),
        ("confirm", {"id": "cancel", "label": "Cancel", "title": "Cancel?", "url": "/cancel/"}, 1),
        ("run_control", {"control": control("pause")}, 1),
        ("run_control", {"control": control("roll_back")}, 1),
        ("person", {"shell": {"person": {"name": "Ben", "roles": "", "initials": "B"}}}, 1),
    ],
)
def test_every_form_that_posts_carries_the_token(component, inputs, forms) -> None:
    text = render(component, csrf_token="t0ken", **inputs)

    assert text.count('method="post"') == forms
    assert text.count('name="csrfmiddlewaretoken" value="t0ken"') == forms


def test_abort_and_roll_back_never_look_alike() -> None:
    abort, undo = render("run_control", control=control("abort")), render("run_control", control=control("roll_back"))

    assert ("is-undo" in undo, "btn-danger-line" in undo) == (True, True)
    assert ("is-undo" in abort, "btn-danger-line" in abort) == (False, False)
    assert "Puts nothing back." in abort
    assert all('name="reason"' in text and "required" in text for text in (abort, undo))


def test_disabled_control_says_why() -> None:
    text = render("run_control", control=control("resume"))

    assert 'aria-disabled="true" aria-describedby="refusal-resume"' in text
    assert '<p id="refusal-resume">The run is not paused.</p>' in text


def test_gate_that_did_not_run_says_so() -> None:
    text = render("gate_table", gates=[{"title": "Secret scan", "verdict": "no_data", "age": None, "judged": ""}])

    assert "not run" in text
    assert "nothing yet" in text


def test_acting_for_somebody_shows_both() -> None:
    vote = {"person": "Ben", "acting_for": "Ada", "verdict": "approve", "digest": DIGEST, "at": datetime.now(UTC)}

    assert "<strong>Ben</strong> for Ada" in render("vote", vote=vote, zone="UTC")


def test_messages_can_be_swapped_in_beside_another_answer() -> None:
    assert 'hx-swap-oob="true"' in render("messages", messages=[], oob=True)
    assert "hx-swap-oob" not in render("messages", messages=[])


def test_pager_offers_only_what_there_is() -> None:
    text = render("pager", older_url="?before=12")

    assert 'href="?before=12"' in text
    assert "Newer" not in text


NASTY = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("component", "inputs"),
    [
        ("note", {"title": NASTY, "text": NASTY}),
        ("facts", {"facts": [{"label": NASTY, "value": NASTY, "note": NASTY}]}),
        ("key_values", {"pairs": [{"label": NASTY, "value": NASTY}, {"label": "", "digest": NASTY}]}),
        ("manifest_diff", {"path": NASTY, "rows": [{"kind": "ins", "text": NASTY}]}),
        ("field_diff", {"rows": [{"field": NASTY, "before": NASTY, "after": NASTY}]}),
        ("log", {"entries": [{"at": datetime.now(UTC), "text": NASTY, "note": NASTY}]}),
        ("state", {"state": NASTY}),
        ("digest", {"value": NASTY}),
        ("section_head", {"title": NASTY, "aside": NASTY}),
    ],
)
def test_what_people_typed_stays_text(component, inputs) -> None:
    assert "<img" not in render(component, **inputs)


def test_gallery_renders_without_a_request(settings) -> None:
    settings.FORM_RENDERER = RENDERER
    page = engines["django"].get_template("components/gallery.html")

    assert "Components · ChangeControl" in page.render({})
