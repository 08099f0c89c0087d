"""What is vendored is what its manifest says, and every page can live under the strict content security policy."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STATIC = ROOT / "static"
OWN_TEMPLATES = sorted([*(ROOT / "templates/components").glob("*.html"), *(ROOT / "templates/layouts").glob("*.html")])
MANIFEST = json.loads((STATIC / "vendor/manifest.json").read_text())


def test_every_vendored_file_is_the_one_the_manifest_names() -> None:
    digests = {item["file"]: hashlib.sha256((STATIC / item["file"]).read_bytes()).hexdigest() for item in MANIFEST}

    assert digests == {item["file"]: item["sha256"] for item in MANIFEST}
    assert all(item["package"] and item["version"] and item["licence"] for item in MANIFEST)


def test_no_vendored_file_is_missing_from_the_manifest() -> None:
    own = {"vendor/manifest.json", "vendor/README.md", "icons/mark.svg"}
    stored = {
        path.relative_to(STATIC).as_posix()
        for folder in ("vendor", "icons")
        for path in (STATIC / folder).rglob("*")
        if path.is_file()
    }

    assert stored - own == {item["file"] for item in MANIFEST}


def test_no_static_file_names_a_source_map() -> None:
    found = [path.name for path in STATIC.rglob("*.*s") if b"sourceMappingURL" in path.read_bytes()]

    assert found == []


def test_every_style_sheet_and_script_is_loaded_and_exists() -> None:
    templates = "".join(path.read_text() for path in (ROOT / "templates").rglob("*.html"))
    loaded = set(re.findall(r"{% static '((?:css|js)/[^']+)' %}", templates))

    assert loaded == {
        path.relative_to(STATIC).as_posix() for folder in ("css", "js") for path in (STATIC / folder).iterdir()
    }


def test_tokens_come_before_what_uses_them() -> None:
    head = (ROOT / "templates/layouts/head.html").read_text()
    sheets = re.findall(r"{% static '((?:css|vendor)/[^']+\.css)' %}", head)

    assert sheets[:4] == ["vendor/tabler.min.css", "css/tabler-a11y.css", "css/tokens.css", "css/base.css"]


@pytest.mark.parametrize("template", OWN_TEMPLATES, ids=lambda path: path.name)
def test_template_has_no_inline_script_style_or_unescaped_value(template: Path) -> None:
    text = re.sub(r"{% comment %}.*?{% endcomment %}", "", template.read_text(), flags=re.DOTALL)

    assert (
        re.findall(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:|\|safe\b|autoescape off", text)
        == []
    )


@pytest.mark.parametrize("template", OWN_TEMPLATES, ids=lambda path: path.name)
def test_template_says_its_inputs_first(template: Path) -> None:
    lines = template.read_text().lstrip().splitlines()

    assert lines[0] in {"{% comment %}", '{% extends "layouts/base.html" %}'}
    assert "{% endcomment %}" in lines[:12]


def test_no_tag_marks_text_as_safe() -> None:
    found = [
        path.name for path in (ROOT / "changecontrol/templatetags").glob("*.py") if "mark_safe" in path.read_text()
    ]

    assert found == []


def test_every_component_is_in_the_gallery_and_in_the_handbook() -> None:
    components = {path.name for path in (ROOT / "templates/components").glob("*.html")} - {"gallery.html"}
    named = set()
    for path in OWN_TEMPLATES:
        named |= set(re.findall(r'include "components/([a-z_]+\.html)"', path.read_text()))
    handbook = (ROOT / "docs/components.md").read_text()

    assert components - named - {"panel.html", "section.html", "crumbs.html"} == set()
    assert [name for name in sorted(components) if f"`{name.removesuffix('.html')}`" not in handbook] == []
