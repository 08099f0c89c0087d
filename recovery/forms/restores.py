"""What a person says of a restore: to which time, for what, under which name, why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django import forms

from changecontrol.errors import Invalid
from changecontrol.forms.audit import DAYS
from changecontrol.models import Environment
from changecontrol.rules.years import OUTSIDE, is_within_years
from recovery.forms.moments import WallTime, moment_in, zone_choices
from recovery.models.restore import RestorePurpose

TIME, LATEST = "time", "latest"
PURPOSES = {
    RestorePurpose.COPY: ("A copy to look into", "neutralised: it sends no mail, takes no payment, runs no job"),
    RestorePurpose.INCIDENT: ("Bring it back in an incident", "not neutralised: a safety action, told to its owners"),
    RestorePurpose.PRODUCTION: ("Put it in place, as a change", "approved first; the old one is kept for a while"),
}
PURPOSE_HINTS = {str(key): hint for key, (_, hint) in PURPOSES.items()}
WHEN_HINTS = {
    TIME: "date, time and zone below",
    LATEST: "the newest moment in the store, whatever it is",
}


class EnvironmentForm(forms.Form):
    """Which environment: one of those on which the person may do it."""

    environment = forms.TypedChoiceField(
        label="Environment", coerce=int, error_messages={"invalid_choice": "Choose an environment of the list."}
    )

    def __init__(self, *args: Any, environments: Iterable[Environment], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = list(environments)
        several = len({one.tenant_id for one in rows}) > 1
        names = [(str(one.pk), f"{one.name}, {one.tenant.name}" if several else one.name) for one in rows]
        offer(self, "environment", [("", "Choose the environment"), *names])


class TimeForm(forms.Form):
    """To which time. The latest is to be had, but only by its name. `target_at` of a valid form is None for it."""

    when = forms.ChoiceField(
        label="To which time",
        choices=[(TIME, "A time I give"), (LATEST, "The latest there is")],
        widget=forms.RadioSelect,
        initial=TIME,
    )
    date = forms.DateField(
        label="Date", required=False, validators=DAYS, widget=forms.DateInput(attrs={"type": "date"})
    )
    time = WallTime(label="Time", required=False)
    zone = forms.ChoiceField(
        label="Zone", required=False, error_messages={"invalid_choice": "Choose a time zone of the list."}
    )

    def __init__(self, *args: Any, zones: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "zone", zone_choices(zones))

    target_at: datetime | None = None

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("when") == TIME:
            self.target_at = asked_moment(self, "date", "time", "zone")
        return given


class RestoreTimeForm(TimeForm):
    """For what, and to which time."""

    purpose = forms.ChoiceField(
        label="For what", choices=[(str(key), label) for key, (label, _) in PURPOSES.items()], widget=forms.RadioSelect
    )

    def __init__(self, *args: Any, purposes: Sequence[RestorePurpose], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "purpose", [(str(one), PURPOSES[one][0]) for one in purposes])
        self.fields["purpose"].initial = str(purposes[0])


class RestoreForm(forms.Form):
    """The last answers before a copy is asked for. The time is the one that was shown, to the microsecond."""

    target_at = forms.CharField(widget=forms.HiddenInput, max_length=40)
    target_database = forms.CharField(
        label="Name of the new database",
        required=False,
        max_length=200,
        help_text="A new name beside what is there: letters in lower case, digits and underscores.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    reason = forms.CharField(
        label="Why",
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="It stays in the record.",
    )

    def clean_target_at(self) -> datetime:
        try:
            found = datetime.fromisoformat(self.cleaned_data["target_at"])
        except ValueError as refusal:
            raise forms.ValidationError("Choose the time again.") from refusal
        if found.tzinfo is None:
            raise forms.ValidationError("Choose the time again, with its zone.")
        if not is_within_years(found):
            raise forms.ValidationError(OUTSIDE)
        return found

    def refuse(self, refusal: Invalid) -> None:
        """Put the sentences of an action's refusal beside the fields they are about."""
        for name, sentences in refusal.fields.items():
            for sentence in sentences:
                self.add_error(self._field_of(name), sentence)
        if not refusal.fields:
            self.add_error(None, refusal.sentence)

    def _field_of(self, name: str) -> str | None:
        return name if name in self.fields else None


class IncidentForm(RestoreForm):
    """The same for an incident, whose clock began when it was declared (BCK-6)."""

    declared_date = forms.DateField(
        label="Declared on", validators=DAYS, widget=forms.DateInput(attrs={"type": "date"})
    )
    declared_time = WallTime(label="Declared at")
    declared_zone = forms.ChoiceField(
        label="Zone", error_messages={"invalid_choice": "Choose a time zone of the list."}
    )

    def __init__(self, *args: Any, zones: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "declared_zone", zone_choices(zones))

    declared_at: datetime | None = None

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        self.declared_at = asked_moment(self, "declared_date", "declared_time", "declared_zone")
        return given

    def _field_of(self, name: str) -> str | None:
        return super()._field_of("declared_time" if name == "declared_at" else name)


def asked_moment(form: forms.Form, date: str, time: str, zone: str) -> datetime | None:
    """Return the moment that three fields give, or put beside each what is missing or never was."""
    missing = {date: "Give the date.", time: "Give the time.", zone: "Give the zone: a time without one is a guess."}
    for name, sentence in missing.items():
        # Not by its truth: midnight is an answer.
        if form.cleaned_data.get(name, name) in (None, ""):
            form.add_error(name, sentence)
    given = form.cleaned_data
    if any(name not in given for name in missing):
        return None
    try:
        return moment_in(given[date], given[time], given[zone])
    except forms.ValidationError as refusal:
        form.add_error(time, refusal)
    return None


def offer(form: forms.Form, name: str, choices: list[tuple[str, str]]) -> None:
    """Set what a field may be answered with."""
    field = form.fields[name]
    assert isinstance(field, forms.ChoiceField)
    field.choices = choices
