"""Asking for a backup beside the schedule."""

from __future__ import annotations

from typing import Any

from django import forms

from changecontrol.forms.administration import RefusableForm


class BackUpForm(RefusableForm):
    reason = forms.CharField(
        label="Why now",
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="It stays in the record, and with the point.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "auto_id": "%s"})
