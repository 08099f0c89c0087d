"""Form controls with the classes and ARIA attributes of the design system."""

from __future__ import annotations

from typing import Any

from django import forms, template
from django.forms import BoundField
from django.utils.safestring import SafeString

register = template.Library()

_CLASSES: tuple[tuple[type[forms.Widget], str], ...] = (
    (forms.CheckboxInput, "form-check-input"),
    (forms.RadioSelect, ""),
    (forms.CheckboxSelectMultiple, ""),
    (forms.Select, "form-select"),
    (forms.Widget, "form-control"),
)


@register.filter
def control_kind(field: BoundField) -> str:
    """Return `hidden`, `check`, `choices` or `line`: how `components/field.html` lays the field out."""
    widget = field.field.widget
    if field.is_hidden:
        return "hidden"
    if isinstance(widget, forms.CheckboxInput):
        return "check"
    return "choices" if isinstance(widget, forms.RadioSelect | forms.CheckboxSelectMultiple) else "line"


@register.simple_tag
def control(field: BoundField) -> SafeString:
    """Render the widget. Hint and error are named by `aria-describedby`, error last; an invalid control says so."""
    widget = field.field.widget
    added = next(name for kind, name in _CLASSES if isinstance(widget, kind))
    attributes: dict[str, Any] = {"class": " ".join(filter(None, (widget.attrs.get("class"), added)))}
    if described := describing(field):
        attributes["aria-describedby"] = described
    return field.as_widget(attrs=attributes)


@register.filter
def describing(field: BoundField) -> str:
    """Return the ids of hint and error that are shown."""
    base = field.auto_id
    shown = (("_helptext", bool(field.help_text)), ("_error", bool(field.errors)))
    return " ".join(f"{base}{suffix}" for suffix, is_shown in shown if is_shown)


@register.filter
def first_control_id(field: BoundField) -> str:
    """Return the id a link of the error summary goes to: the first choice where the field is a group."""
    if control_kind(field) == "choices":
        return next((str(option.id_for_label) for option in field), field.auto_id)
    return field.id_for_label or field.auto_id
