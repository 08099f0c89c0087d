"""`{% icon "check" %}`: the outlines of `static/icons` as inline SVG.

Read once at import; only the `d` of each path is kept and written back through `format_html`: nothing is marked safe.
Inline, because browsers differ in which content security directive an external `<use>` falls under.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()

FOLDER = Path(__file__).resolve().parents[2] / "static" / "icons"
_PATH = "{http://www.w3.org/2000/svg}path"
_SIZES = {"": "icon", "small": "icon icon-s", "large": "icon icon-l"}


def _outline(file: Path) -> tuple[str, ...]:
    """Return the paths of one icon, without Tabler's invisible frame."""
    root = ElementTree.parse(file).getroot()  # noqa: S314 - our own files
    return tuple(path.attrib["d"] for path in root.iter(_PATH) if path.attrib.get("stroke") != "none")


OUTLINES = {file.stem: _outline(file) for file in sorted(FOLDER.glob("*.svg"))}


@register.simple_tag
@cache
def icon(name: str, size: str = "") -> SafeString:
    """Draw one icon beside words: it is hidden from screen readers. `size` is empty, `small` or `large`."""
    if name not in OUTLINES:
        raise template.TemplateSyntaxError(f"There is no static/icons/{name}.svg.")
    paths = format_html_join("", '<path d="{}"/>', ((d,) for d in OUTLINES[name]))
    return format_html('<svg class="{}" viewBox="0 0 24 24" aria-hidden="true">{}</svg>', _SIZES[size], paths)
