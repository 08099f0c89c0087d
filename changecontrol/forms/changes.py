"""The answers of a change, asked in steps. Forms read words and write `rules.content` JSON; the action judges them.

A step saves what is there: only what cannot be read is refused here, what is missing is said at submission.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django import forms

from changecontrol.lifecycles.change import ChangeKind
from changecontrol.models import Environment, Tenant
from changecontrol.rules.content import DEFAULT_KEEP_HOURS, OFFERED_TYPES, Content
from changecontrol.rules.content_problems import KEEP_HOURS, MAX_TITLE, problems
from changecontrol.rules.risk import QUESTIONS

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
TYPE_LABELS = {"normal": "Normal", "emergency": "Emergency"}
TYPE_HINTS = {
    "normal": "judged, approved, then carried out in its window",
    "emergency": "for an incident that cannot wait for a normal change",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the estate offers a change: its tenant's environments in sight, their stores, and what can be watched."""

    environments: Sequence[Environment] = ()
    store_counts: Mapping[int, int] = field(default_factory=dict)
    indicators: Sequence[Any] = ()


class StepForm(forms.Form):
    """One step. `content_fields` maps what the rules call a field to what this form calls it."""

    key: ClassVar[str]
    heading: ClassVar[str]
    lede: ClassVar[str] = ""
    content_fields: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *args: Any, content: Mapping[str, Any], around: Surroundings, **kwargs: Any) -> None:
        self.content = content
        self.around = around
        super().__init__(*args, **{**kwargs, "initial": self.initial_of(content), "auto_id": "%s"})

    def initial_of(self, content: Mapping[str, Any]) -> dict[str, Any]:
        return {name: content.get(name, "") for name in self.content_fields}

    def answers(self) -> dict[str, Any]:
        """Return what the content says after this step. Call it on a valid form."""
        return {name: self.cleaned_data[field] for name, field in self.content_fields.items()}

    def field_for(self, name: str, sentence: str) -> str | None:
        """Return the field of this form that a refusal of the rules is about, or None."""
        return self.content_fields.get(name)


def as_ruled(name: str, wrong: Any, *, kind: str = ChangeKind.DEPLOY) -> dict[str, str]:
    """Return the rules' own sentence about a wrong answer as a field's messages: pages and API say the same."""
    sentence = problems(Content.from_json({name: wrong}), kind=kind)[name][0]
    return dict.fromkeys(("required", "min_value", "max_value", "max_length"), sentence)


def lines(rows: int) -> forms.Textarea:
    return forms.Textarea(attrs={"rows": rows})


TITLE_SENTENCES = {
    "required": as_ruled("title", "")["required"],
    "max_length": as_ruled("title", "x" * (MAX_TITLE + 1))["max_length"],
}


class WhatForm(StepForm):
    key = "what"
    heading = "What and why"
    lede = "what it does and why it is needed"
    content_fields = {
        "title": "title",
        "reason": "reason",
        "description": "description",
        "security_impact": "security_impact",
        "links": "links",
    }

    title = forms.CharField(label="Title", max_length=MAX_TITLE, error_messages=TITLE_SENTENCES)
    reason = forms.CharField(label="Why", required=False, widget=lines(2))
    description = forms.CharField(label="What it does", required=False, widget=lines(3))
    security_impact = forms.CharField(
        label="What it means for security", required=False, widget=lines(2), help_text="Say “none” where it means none."
    )
    links = forms.CharField(
        label="Links",
        required=False,
        widget=lines(2),
        help_text="One a line: what it is, then its address. Such as: Incident 2291 https://tickets.example/2291",
    )

    def initial_of(self, content: Mapping[str, Any]) -> dict[str, Any]:
        found = super().initial_of(content)
        found["links"] = "\n".join(f"{one['label']} {one['url']}" for one in content.get("links") or ())
        return found

    def clean_links(self) -> list[dict[str, str]]:
        found = []
        for line in self.cleaned_data["links"].splitlines():
            if not line.strip():
                continue
            label, _, url = line.strip().rpartition(" ")
            if not label.strip() or not re.match(r"https?://\S+$", url):
                raise forms.ValidationError(
                    f"“{line.strip()[:80]}” needs a name, then an address that begins with https://."
                )
            found.append({"label": label.strip(), "url": url})
        return found


class NewChangeForm(WhatForm):
    """The first step of a change that has no number yet: whose it is, of which type, and what it is about."""

    def __init__(self, *args: Any, tenants: Sequence[Tenant], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        first: dict[str, forms.Field] = {
            "tenant": forms.ChoiceField(
                label="Whose systems it changes", choices=[(str(one.pk), one.name) for one in tenants]
            ),
            "type": forms.ChoiceField(
                label="Type",
                choices=[(name, TYPE_LABELS[name]) for name in ("normal", "emergency") if name in OFFERED_TYPES],
                widget=forms.RadioSelect,
                initial="normal",
            ),
        }
        self.fields = {**first, **self.fields}


class WhereForm(StepForm):
    key = "where"
    heading = "Where"
    lede = "environments and the cohorts they serve"
    content_fields = {"environments": "environments"}

    environments = forms.MultipleChoiceField(label="Environments", required=False, widget=forms.CheckboxSelectMultiple)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["environments"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(one.slug, f"{one.name}, {one.stage}") for one in self.around.environments]
        field.error_messages["invalid_choice"] = "There is no environment called “%(value)s” here."

    @property
    def hints(self) -> dict[str, str]:
        """What each environment serves, under its name."""
        return {one.slug: environment_words(one, self.around.store_counts) for one in self.around.environments}


class RestoreForm(StepForm):
    key = "restore"
    heading = "What is brought back"
    lede = "to which time, under which name"
    content_fields = {"restore_to": "restore_to", "restore_database": "restore_database", "keep_hours": "keep_hours"}

    restore_to = forms.CharField(
        label="Time to go back to",
        required=False,
        max_length=40,
        help_text="ISO 8601 with its offset, such as 2026-12-01T02:00:00+01:00. What was written later is not in it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    restore_database = forms.CharField(
        label="Name of the new database",
        required=False,
        max_length=63,
        help_text="It is made beside the one in use; the commit of this change names it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    keep_hours = forms.IntegerField(
        label="Keep the old database, hours",
        min_value=KEEP_HOURS[0],
        max_value=KEEP_HOURS[1],
        initial=DEFAULT_KEEP_HOURS,
        error_messages=as_ruled("keep_hours", 0, kind=ChangeKind.RESTORE),
    )


class CommitForm(StepForm):
    key = "commit"
    heading = "Commit"
    lede = "pinned when the change is submitted"
    content_fields = {"revision_name": "revision_name", "commit": "revision_name"}

    revision_name = forms.CharField(
        label="Commit, branch or tag",
        required=False,
        max_length=200,
        help_text="A branch or tag is pinned to the commit it names at submission; what is approved is that commit.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def answers(self) -> dict[str, Any]:
        name = self.cleaned_data["revision_name"].strip()
        return {"revision_name": name, "commit": name if COMMIT.fullmatch(name) else ""}

    def initial_of(self, content: Mapping[str, Any]) -> dict[str, Any]:
        return {"revision_name": content.get("revision_name") or content.get("commit") or ""}


class RiskForm(StepForm):
    key = "risk"
    heading = "Risk and rollback"
    lede = "what could go wrong, and the way back"
    content_fields = {"rollback_plan": "rollback_plan", "test_evidence": "test_evidence"}

    rollback_plan = forms.CharField(label="How it is undone", required=False, widget=lines(2))
    test_evidence = forms.CharField(label="How it was tested", required=False, widget=lines(2))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        questions: dict[str, forms.Field] = {
            f"risk_{one.key}": forms.ChoiceField(
                label=one.text,
                required=False,
                choices=[(answer, answer.replace("_", " ").capitalize()) for answer in one.points],
                widget=forms.RadioSelect,
            )
            for one in QUESTIONS
        }
        self.fields = {**questions, **self.fields}

    def initial_of(self, content: Mapping[str, Any]) -> dict[str, Any]:
        given = content.get("risk_answers") or {}
        return super().initial_of(content) | {f"risk_{one.key}": given.get(one.key, "") for one in QUESTIONS}

    def answers(self) -> dict[str, Any]:
        given = {one.key: self.cleaned_data[f"risk_{one.key}"] for one in QUESTIONS}
        return super().answers() | {"risk_answers": {key: answer for key, answer in given.items() if answer}}

    def field_for(self, name: str, sentence: str) -> str | None:
        if name == "risk_answers":
            return next((f"risk_{one.key}" for one in QUESTIONS if one.text in sentence), "rollback_plan")
        return super().field_for(name, sentence)

    @property
    def questions(self) -> list[forms.BoundField]:
        return [self[f"risk_{one.key}"] for one in QUESTIONS]


def environment_words(environment: Environment, store_counts: Mapping[int, int]) -> str:
    """Say which stores depend on an environment: “nw-pilot, nw-hel-a · 24 stores”."""
    cohorts = list(environment.cohorts.all())
    count = sum(store_counts.get(one.pk, 0) for one in cohorts)
    names = ", ".join(one.name for one in cohorts[:4]) + (f" and {len(cohorts) - 4} more" if len(cohorts) > 4 else "")
    stores = f"{count} store" if count == 1 else f"{count} stores"
    return f"{names} · {stores}" if cohorts else "no store depends on it"
