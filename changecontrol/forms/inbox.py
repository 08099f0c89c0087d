"""Which messages somebody has read."""

from __future__ import annotations

from django import forms


class ReadForm(forms.Form):
    """Without a message, all of them."""

    message = forms.IntegerField(required=False, min_value=1)
