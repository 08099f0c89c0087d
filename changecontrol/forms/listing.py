"""The filter of the list of changes, kept in the address so that it can be shared."""

from __future__ import annotations

from typing import Any

from django import forms

from changecontrol.lifecycles.change import ChangeState
from changecontrol.models.estate import Stage
from changecontrol.queries.changes import ChangeFilter

OPEN_STATES = tuple(
    state for state in ChangeState if state not in {ChangeState.CLOSED, ChangeState.CANCELED, ChangeState.REJECTED}
)
STATES = [("", "Any state"), ("open", "Not ended"), *((one.value, one.label) for one in ChangeState)]
STAGES = [("", "Any stage"), *Stage.choices()]
TIERS = [("", "Any tier"), *((str(tier), f"Tier {tier}") for tier in range(4))]


class ChangeFilterForm(forms.Form):
    q = forms.CharField(label="Text or number", required=False, max_length=200)
    state = forms.ChoiceField(label="State", required=False, choices=STATES)
    stage = forms.ChoiceField(label="Stage", required=False, choices=STAGES)
    tier = forms.ChoiceField(label="Tier", required=False, choices=TIERS)
    tenant = forms.ChoiceField(label="Tenant", required=False)
    person = forms.CharField(label="Asked by", required=False, max_length=150)

    def __init__(self, *args: Any, tenants: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "auto_id": "f-%s"})
        field = self.fields["tenant"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "All tenants"), *tenants]

    def wanted(self) -> ChangeFilter:
        """Return the filter. What cannot be read does not narrow; the form beside it says so."""
        self.is_valid()
        given = self.cleaned_data
        state = given.get("state", "")
        return ChangeFilter(
            text=given.get("q", "").replace("\x00", ""),
            states=OPEN_STATES if state == "open" else (state,) if state else (),
            tenant=given.get("tenant", ""),
            requester=given.get("person", "").strip(),
            stage=given.get("stage", ""),
            tier=int(given["tier"]) if given.get("tier") else None,
        )
