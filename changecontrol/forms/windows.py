"""Windows and freezes as people write them: days and hours on the wall, not recurrence rules."""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from changecontrol.actions.windows import WindowContent
from changecontrol.forms.places import PlaceForm
from changecontrol.models import Window
from changecontrol.models.window import Effect

DAYS = (
    ("MO", "Monday"),
    ("TU", "Tuesday"),
    ("WE", "Wednesday"),
    ("TH", "Thursday"),
    ("FR", "Friday"),
    ("SA", "Saturday"),
    ("SU", "Sunday"),
)
REPEATS = (("once", "Once"), ("daily", "Every day"), ("weekly", "Every week"), ("own", "By a rule"))
REPEAT_HINTS = {
    "once": "on the day it starts",
    "daily": "at the same time each day",
    "weekly": "on the days chosen below",
    "own": "written as in RFC 5545 below",
}
_WEEKLY = re.compile(r"FREQ=WEEKLY;BYDAY=((?:MO|TU|WE|TH|FR|SA|SU)(?:,(?:MO|TU|WE|TH|FR|SA|SU))*)")
LOCAL = "%Y-%m-%dT%H:%M"


class LocalInput(forms.DateTimeInput):
    """A moment on a clock's face, as browsers ask for it."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format=LOCAL)

    def format_value(self, value: Any) -> str | None:
        """Show seconds where there are some: a form that is sent back must not move what it shows."""
        if isinstance(value, datetime) and value.second:
            return f"{value:{LOCAL}:%S}"
        return super().format_value(value)


class LocalMoment(forms.DateTimeField):
    """Wall-clock time without a zone: read and shown as written."""

    widget = LocalInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(input_formats=[LOCAL, "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"], **kwargs)

    def to_python(self, value: Any) -> Any:
        with timezone.override(UTC):
            found = super().to_python(value)
        return found.replace(tzinfo=None) if found else None

    def prepare_value(self, value: Any) -> Any:
        return value.replace(tzinfo=None) if isinstance(value, datetime) else value


class WindowForm(PlaceForm):
    name = forms.CharField(label="Name", max_length=120)
    effect = forms.ChoiceField(
        label="What it does",
        choices=[("allow", "Change window"), ("deny", "Blackout")],
        widget=forms.RadioSelect,
        initial=Effect.ALLOW,
    )
    starts_local = LocalMoment(label="First opens", help_text="As clocks show it where it holds.")
    hours = forms.IntegerField(label="Hours", min_value=0, max_value=336, initial=3)
    minutes = forms.IntegerField(label="and minutes", min_value=0, max_value=59, initial=0, required=False)
    zone = forms.ChoiceField(label="On whose clocks", required=False)
    repeats = forms.ChoiceField(label="Repeats", choices=REPEATS, widget=forms.RadioSelect, initial="weekly")
    days = forms.MultipleChoiceField(
        label="Days of the week", required=False, choices=DAYS, widget=forms.CheckboxSelectMultiple
    )
    rrule = forms.CharField(
        label="Rule",
        max_length=300,
        required=False,
        help_text="Such as FREQ=MONTHLY;BYDAY=1SU. Used where it repeats by a rule.",
    )
    excluded = forms.CharField(
        label="Except on",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One local start a line, such as 2026-12-24 22:00.",
    )
    reason = forms.CharField(label="Why", max_length=500, required=False, widget=forms.Textarea(attrs={"rows": 2}))

    effect_hints = {"allow": "changes may run while it is open", "deny": "nothing may run while it holds"}
    action_fields = {"duration_seconds": "hours", "excluded_local": "excluded", "added_local": "excluded"}

    def __init__(self, *args: Any, zones: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._offer("zone", [("", "Each store's own"), *((name, name.replace("_", " ")) for name in zones)])

    def clean_zone(self) -> str:
        zone = str(self.cleaned_data["zone"])
        if zone and zone not in zoneinfo.available_timezones():
            raise forms.ValidationError("Choose a time zone of the list.")
        return zone

    def clean_excluded(self) -> tuple[datetime, ...]:
        found = []
        for line in str(self.cleaned_data["excluded"]).splitlines():
            if not line.strip():
                continue
            try:
                one = datetime.fromisoformat(line.strip())
            except ValueError:
                raise forms.ValidationError(
                    f"“{line.strip()[:40]}” is no day and time, such as 2026-12-24 22:00."
                ) from None
            if one.tzinfo is not None:
                raise forms.ValidationError("Exceptions are local times, without an offset.")
            found.append(one)
        return tuple(found)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("repeats") == "weekly" and not given.get("days"):
            self.add_error("days", "Choose at least one day.")
        if given.get("repeats") == "own" and not given.get("rrule"):
            self.add_error("rrule", "Write the rule, or choose another way to repeat.")
        return given

    @property
    def content(self) -> WindowContent:
        """Return what the action takes. Call it on a valid form."""
        given = self.cleaned_data
        rest = self.initial.get("seconds", 0)
        length = timedelta(hours=given["hours"], minutes=given["minutes"] or 0, seconds=rest)
        return WindowContent(
            name=given["name"],
            starts_local=given["starts_local"],
            duration_seconds=int(length.total_seconds()),
            effect=given["effect"],
            rrule=self._rule(),
            zone=given["zone"],
            excluded_local=given["excluded"],
            added_local=tuple(self.initial.get("added", ())),
            is_active=given.get("is_active", True),
            place=self.place,
        )

    def _rule(self) -> str:
        given = self.cleaned_data
        if given["repeats"] == "daily":
            return "FREQ=DAILY"
        if given["repeats"] == "weekly":
            return f"FREQ=WEEKLY;BYDAY={','.join(given['days'])}"
        return str(given["rrule"]) if given["repeats"] == "own" else ""


class WindowEditForm(WindowForm):
    """The same for a window that is there: whose it is stays, the reason is due, and it can be switched off."""

    version = forms.IntegerField(widget=forms.HiddenInput)
    is_active = forms.BooleanField(
        label="In force", required=False, help_text="Switched off, it neither opens nor closes."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["tenant"]
        self.fields["reason"].required = True
        self.fields["reason"].label = "Why it changes"


def initial_of(window: Window) -> dict[str, Any]:
    """Return the answers that make this window."""
    days = weekly_days(window.rrule)
    repeats = "weekly" if days else {"": "once", "FREQ=DAILY": "daily"}.get(window.rrule, "own")
    hours, rest = divmod(window.duration_seconds, 3600)
    return {
        "name": window.name,
        "effect": window.effect,
        "starts_local": window.starts_local.replace(tzinfo=None),
        "hours": hours,
        "minutes": rest // 60,
        "seconds": rest % 60,
        "zone": window.zone,
        "repeats": repeats,
        "days": days,
        "rrule": window.rrule if repeats == "own" else "",
        "excluded": "\n".join(one.removesuffix(":00").replace("T", " ") for one in window.excluded_local),
        "added": tuple(datetime.fromisoformat(one) for one in window.added_local),
        "stage": window.stage,
        "environment": window.environment_id or "",
        "cluster": window.cluster_id or "",
        "cohort": window.cohort_id or "",
        "is_active": window.is_active,
        "version": window.version,
    }


def weekly_days(rrule: str) -> list[str]:
    """Return the days of a rule that repeats on days of the week alone, else none."""
    weekly = _WEEKLY.fullmatch(rrule)
    return weekly.group(1).split(",") if weekly else []


def rule_words(rrule: str) -> str:
    """Say how something repeats."""
    if days := weekly_days(rrule):
        names = dict(DAYS)
        return "every " + ", ".join(names[one] for one in days)
    return {"": "once", "FREQ=DAILY": "every day"}.get(rrule, rrule)


class FreezeForm(PlaceForm):
    name = forms.CharField(label="Name", max_length=120)
    reason = forms.CharField(label="Why", max_length=500, widget=forms.Textarea(attrs={"rows": 2}))
    starts_at = forms.DateTimeField(
        label="From", widget=LocalInput, input_formats=[LOCAL, "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"]
    )
    ends_at = forms.DateTimeField(
        label="Up to", widget=LocalInput, input_formats=[LOCAL, "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"]
    )
