"""A person's own settings and tokens."""

from __future__ import annotations

import zoneinfo

from django import forms

from changecontrol.rules.roles import Ability

LIFETIMES = ((7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "1 year"))


def zones() -> list[tuple[str, str]]:
    """Return the zones people live in: places, and UTC."""
    names = sorted(
        name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith(("Etc/", "posix"))
    )
    return [("UTC", "UTC"), *((name, name.replace("_", " ")) for name in names)]


class ZoneForm(forms.Form):
    zone = forms.ChoiceField(label="Time zone", choices=zones, help_text="Every page shows times in it, with its name.")


class TokenForm(forms.Form):
    name = forms.CharField(label="What it is for", max_length=120)
    days = forms.TypedChoiceField(
        label="Expires after", coerce=int, choices=[(str(days), label) for days, label in LIFETIMES], initial="30"
    )
    scopes = forms.MultipleChoiceField(
        label="Limited to",
        required=False,
        choices=[(one.value, one.value) for one in Ability],
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: all that you may do.",
    )
