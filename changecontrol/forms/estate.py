"""One form for every kind of the estate, made from the table of kinds; the action judges what it says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.db import models
from django.forms.models import fields_for_model

from changecontrol.actions.estate import KINDS, EstateKind
from changecontrol.errors import Invalid
from changecontrol.models import Tenant

Choices = Mapping[str, Sequence[tuple[str, str]]]
"""By field: the keys that may be named and what people call them."""

NOUNS = {
    "tenant": "tenant",
    "cluster": "cluster",
    "region": "region",
    "cohort": "cohort",
    "store": "store",
    "source": "Git source",
    "process": "business process",
    "environment": "environment",
}
LABELS = {
    "slug": "Short name",
    "code": "Code",
    "is_pilot": "Pilot: updated before the others",
    "sales_share": "Share of sales, in percent",
    "opens_at": "Opens at",
    "closes_at": "Closes at",
    "zone": "Time zone",
    "rto_seconds": "Back within, in seconds",
    "rpo_seconds": "Data lost at most, in seconds",
    "url": "Address",
    "metrics_url": "Metrics address",
    "metrics_credential": "Metrics credential",
    "metrics_authority": "Metrics certificate authority",
    "path": "Path in Git",
    "source": "Git source",
    "processes": "Business processes",
    "cluster_scoped_kinds": "Cluster-scoped kinds allowed",
}
HINTS = {
    "slug": "Lower-case letters, digits and hyphens. It names the thing for machines and never changes.",
    "code": "It names the store for machines and never changes.",
    "credential": "Where the secret is, never the secret: file:/run/secrets/name, env:NAME or vault:path#field.",
    "zone": "Such as Europe/Lisbon.",
    "tier": "0 is the most critical, 3 the least.",
    "cluster_scoped_kinds": "One a line, such as StorageClass. Empty: none.",
    "namespace": "Its own: no other environment of the cluster has it.",
}


class EstateForm(forms.Form):
    def __init__(
        self,
        *args: Any,
        kind: str,
        choices: Choices,
        tenants: Sequence[Tenant] = (),
        thing: Any = None,
        locked: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        self.kind: EstateKind = KINDS[kind]
        self.thing = thing
        kwargs |= {"initial": _initial(self.kind, thing), "auto_id": "%s"}
        super().__init__(*args, **kwargs)
        if thing is None and self.kind.is_of_tenant:
            self.fields["tenant"] = forms.ChoiceField(
                label="Tenant", choices=[(str(one.pk), one.name) for one in tenants]
            )
        if thing is None:
            self.fields[self.kind.key] = forms.CharField(
                label=LABELS[self.kind.key], max_length=63, help_text=HINTS[self.kind.key]
            )
        made = fields_for_model(self.kind.model, fields=self.kind.plain, formfield_callback=_made)
        for name in self.kind.plain:
            self.fields[name] = _field(name, made[name])
            if name in locked:
                self.fields[name].disabled = True
                self.fields[name].help_text = "Said by a platform administrator."
        for name in self.kind.one:
            required = name != "owner"
            empty = [] if required else [("", "Nobody")]
            self.fields[name] = forms.ChoiceField(
                label=LABELS.get(name, name.capitalize()),
                choices=[*empty, *choices.get(name, ())],
                required=required,
            )
        for name in self.kind.many:
            self.fields[name] = forms.MultipleChoiceField(
                label=LABELS.get(name, name.capitalize()),
                choices=list(choices.get(name, ())),
                required=False,
                widget=forms.CheckboxSelectMultiple,
            )

    @property
    def tenant_id(self) -> int | None:
        if not self.kind.is_of_tenant:
            return None
        return int(self.thing.tenant_id if self.thing is not None else self.cleaned_data["tenant"])

    def answers(self) -> dict[str, Any]:
        """Return what the action takes. Call it on a valid form."""
        given = {name: value for name, value in self.cleaned_data.items() if name != "tenant"}
        if self.thing is not None:
            given[self.kind.key] = getattr(self.thing, self.kind.key)
        if "cluster_scoped_kinds" in given:
            given["cluster_scoped_kinds"] = [
                one.strip() for one in given["cluster_scoped_kinds"].splitlines() if one.strip()
            ]
        return given

    def refuse(self, refusal: Invalid) -> None:
        for name, sentences in refusal.fields.items():
            for sentence in sentences:
                self.add_error(name if name in self.fields else None, sentence)
        if not refusal.fields:
            self.add_error(None, refusal.sentence)


def _made(column: Any, **words: Any) -> Any:
    """Return a column's form field. An address without a scheme is taken for https."""
    return column.formfield(**words, **({"assume_scheme": "https"} if isinstance(column, models.URLField) else {}))


def _field(name: str, made: forms.Field) -> forms.Field:
    if name == "cluster_scoped_kinds":
        made = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))
    if name in {"opens_at", "closes_at"}:
        made.widget.input_type = "time"
    made.label = LABELS.get(name, name.replace("_", " ").capitalize())
    made.help_text = HINTS.get(name, made.help_text)
    return made


def _initial(kind: EstateKind, thing: Any) -> dict[str, Any]:
    if thing is None:
        return {"default_branch": "main"} if "default_branch" in kind.plain else {}
    found: dict[str, Any] = {name: getattr(thing, name) for name in kind.plain}
    if "cluster_scoped_kinds" in found:
        found["cluster_scoped_kinds"] = "\n".join(found["cluster_scoped_kinds"])
    if isinstance(found.get("sales_share"), Decimal):
        found["sales_share"] = f"{found['sales_share']:f}"
    for name, other in kind.one.items():
        one = getattr(thing, name)
        found[name] = getattr(one, KINDS[other].key if other in KINDS else "username") if one else ""
    for name, other in kind.many.items():
        found[name] = [getattr(one, KINDS[other].key) for one in getattr(thing, name).all()]
    return found
