"""A legal hold as somebody places it."""

from __future__ import annotations

from typing import Any

from django import forms

from changecontrol.forms.administration import RefusableForm


class HoldForm(RefusableForm):
    name = forms.CharField(label="Case", max_length=120, help_text="What the records must be kept for.")
    reason = forms.CharField(label="Why it must be kept", max_length=500, widget=forms.Textarea(attrs={"rows": 2}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "auto_id": "hold-%s"})
