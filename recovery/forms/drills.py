"""What a person says of a drill: how far, to which time, what it covers, and whether a copy is broken on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from changecontrol.errors import Invalid
from changecontrol.forms.audit import DAYS
from recovery.forms.restores import TimeForm, offer
from recovery.models.drill import Sabotage
from recovery.rules.levels import LevelOffer

SABOTAGE = {
    "": ("None", "a drill as it is"),
    str(Sabotage.TRUNCATE): ("Cut a part short", "as an upload that broke off"),
    str(Sabotage.FLIP): ("Flip a bit", "as a disk that forgets"),
    str(Sabotage.REMOVE): ("Leave a part out", "as something deleted"),
    str(Sabotage.SWAP): ("Swap a part", "for the one of another point"),
}
SABOTAGE_HINTS = {key: hint for key, (_, hint) in SABOTAGE.items()}


class LevelSelect(forms.RadioSelect):
    """Levels as cards; those that cannot be asked here are shown, and cannot be chosen."""

    refused: frozenset[str] = frozenset()

    def create_option(self, name: str, value: Any, *args: Any, **words: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **words)
        if str(value) in self.refused:
            option["attrs"]["disabled"] = True
        return option


class DrillForm(TimeForm):
    """A drill to begin now."""

    level = forms.TypedChoiceField(label="How far", coerce=int, widget=LevelSelect)
    scope = forms.CharField(
        label="What it covers",
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="In words, for whoever reads the report.",
    )
    sabotage = forms.ChoiceField(
        label="Break a copy on purpose",
        required=False,
        choices=[(key, label) for key, (label, _) in SABOTAGE.items()],
        widget=forms.RadioSelect,
        help_text="What is in the store stays whole. Such a drill passes where one of its checks notices.",
        initial="",
    )

    def __init__(self, *args: Any, levels: Sequence[LevelOffer], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["when"].label = "Back to which time"
        offer(self, "level", [(str(one.level), one.label) for one in levels])
        widget = self.fields["level"].widget
        assert isinstance(widget, LevelSelect)
        widget.refused = frozenset(str(one.level) for one in levels if one.refusal)
        possible = [one.level for one in levels if not one.refusal]
        self.fields["level"].initial = min(2, max(possible))
        self.level_hints = {str(one.level): one.refusal or one.asks for one in levels}

    def refuse(self, refusal: Invalid) -> None:
        """Put the sentences of an action's refusal beside the fields they are about."""
        for name, sentences in refusal.fields.items():
            for sentence in sentences:
                self.add_error(name if name in self.fields else None, sentence)
        if not refusal.fields:
            self.add_error(None, refusal.sentence)


class PeriodForm(forms.Form):
    """Which drills' reports: those declared from one day to another, both included, in the person's own zone."""

    since = forms.DateField(
        label="From", required=False, validators=DAYS, widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        label="Up to and with", required=False, validators=DAYS, widget=forms.DateInput(attrs={"type": "date"})
    )

    @property
    def period(self) -> tuple[datetime | None, datetime | None]:
        """Return the moments at which the period begins and ends."""
        since, until = self.cleaned_data["since"], self.cleaned_data["until"]
        return _midnight(since) if since else None, _midnight(until + timedelta(days=1)) if until else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=timezone.get_current_timezone())


class NoteForm(forms.Form):
    """What somebody says as they sign off a drill or close a finding."""

    note = forms.CharField(required=False, max_length=500)
