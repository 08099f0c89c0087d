"""What a person says when they hold, cancel, schedule, close or hand over a change."""

from __future__ import annotations

from collections.abc import Iterable

from django import forms

from changecontrol.lifecycles.change import CloseCode
from changecontrol.models import User


class ReasonForm(forms.Form):
    reason = forms.CharField(required=False, max_length=4000)


class ScheduleForm(forms.Form):
    planned_start_at = forms.DateTimeField(
        label="Start",
        required=False,
        help_text="In your own zone. Left empty: as soon as the window allows.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )


class CloseForm(forms.Form):
    close_code = forms.ChoiceField(label="How it ended", choices=CloseCode.choices())
    note = forms.CharField(
        label="What happened",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Needed for anything but successful.",
    )


class HandOverForm(forms.Form):
    assignee = forms.TypedChoiceField(label="New owner", coerce=int)

    def __init__(self, *args: object, people: Iterable[User] = (), **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        field = self.fields["assignee"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = [(str(one.pk), str(one)) for one in people]
