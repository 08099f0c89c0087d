"""What an auditor asks of the trail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils import timezone

from changecontrol.models import Tenant
from changecontrol.queries.audit import AuditFilter
from changecontrol.rules.years import OUTSIDE, YEARS

KINDS = (
    ("", "All kinds"),
    ("change", "Changes"),
    ("change:approval", "Approvals"),
    ("run", "Rollouts"),
    ("run:safety_action", "Safety actions"),
    ("recovery", "Recovery"),
    ("recovery:restore", "Restores"),
    ("recovery:drill", "Drills"),
    ("rehearsal", "Rehearsals"),
    ("window", "Windows"),
    ("freeze", "Freezes"),
    ("policy", "Policies"),
    ("estate", "Estate"),
    ("access", "Access"),
    ("evidence", "Evidence"),
    ("refused", "Refused attempts"),
)
DAYS = (
    MinValueValidator(date(YEARS.start, 1, 1), OUTSIDE),
    MaxValueValidator(date(YEARS.stop - 1, 12, 31), OUTSIDE),
)
"""A day beyond has no midnight in every zone."""
_NUMBER = re.compile(r"CHG-(\d{6,18})", re.IGNORECASE)


class AuditForm(forms.Form):
    since = forms.DateField(
        label="From",
        required=False,
        validators=DAYS,
        widget=forms.DateInput(attrs={"size": 10, "placeholder": "2026-11-20"}),
    )
    until = forms.DateField(
        label="To, inclusive",
        required=False,
        validators=DAYS,
        widget=forms.DateInput(attrs={"size": 10, "placeholder": "2026-11-23"}),
    )
    tag = forms.ChoiceField(label="Event", required=False, choices=KINDS)
    tenant = forms.ChoiceField(label="Tenant", required=False)
    actor = forms.CharField(label="Actor", required=False, max_length=150, widget=forms.TextInput(attrs={"size": 10}))
    subject = forms.CharField(
        label="Subject", required=False, max_length=80, widget=forms.TextInput(attrs={"placeholder": "CHG-000142"})
    )

    def __init__(self, *args: Any, tenants: Sequence[Tenant], **kwargs: Any) -> None:
        kwargs["auto_id"] = "audit_%s"
        super().__init__(*args, **kwargs)
        field = self.fields["tenant"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "All you may read"), *((one.slug, one.name) for one in tenants)]

    @property
    def number(self) -> str:
        """Return the number of the change that the subject names, or nothing."""
        found = _NUMBER.fullmatch(self.cleaned_data["subject"].strip())
        return found.group(0).upper() if found else ""

    @property
    def wanted(self) -> AuditFilter:
        """Return the filter; days begin and end in the reader's zone. Call it on a valid form."""
        given = self.cleaned_data
        number = self.number
        return AuditFilter(
            tag=given["tag"],
            subject="" if number else given["subject"].strip(),
            actor=given["actor"].strip(),
            tenant=given["tenant"],
            change_id=int(number[4:]) if number else None,
            since=_midnight(given["since"]) if given["since"] else None,
            until=_midnight(given["until"] + timedelta(days=1)) if given["until"] else None,
        )


def _midnight(day: Any) -> datetime:
    return datetime.combine(day, time(), tzinfo=timezone.get_current_timezone()).astimezone(UTC)
