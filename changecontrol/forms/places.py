"""Where something holds: the fields that windows and freezes share, offering what the person may decide on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django import forms

from changecontrol.actions.places import PlaceIds
from changecontrol.errors import Invalid
from changecontrol.models import Cluster, Cohort, Environment, Tenant
from changecontrol.models.estate import Stage

PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Places:
    """What may be chosen. `with_platform` offers the whole platform, which only its administrators may decide on."""

    tenants: tuple[Tenant, ...]
    environments: tuple[Environment, ...]
    clusters: tuple[Cluster, ...]
    cohorts: tuple[Cohort, ...]
    with_platform: bool = False


class PlaceForm(forms.Form):
    """`tenant_id` and `place` of a valid form are what the actions take."""

    tenant = forms.ChoiceField(label="Whose")
    stage = forms.ChoiceField(
        label="Stage", required=False, choices=[("", "Any stage"), *((one.value, one.label) for one in Stage)]
    )
    environment = forms.ChoiceField(label="Environment", required=False)
    cluster = forms.ChoiceField(label="Cluster", required=False)
    cohort = forms.ChoiceField(label="Cohort", required=False)

    place_fields = ("tenant", "stage", "environment", "cluster", "cohort")

    def __init__(self, *args: Any, places: Places, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        several = len(places.tenants) > 1
        tenants = [(str(one.pk), one.name) for one in places.tenants]
        platform = [(PLATFORM, "The whole platform")] if places.with_platform else []
        self._offer("tenant", [*tenants, *platform])
        self._offer("environment", [("", "Any environment"), *_owned(places.environments, several)])
        self._offer("cluster", [("", "Any cluster"), *((str(one.pk), one.name) for one in places.clusters)])
        self._offer("cohort", [("", "Any cohort"), *_owned(places.cohorts, several)])

    @property
    def tenant_id(self) -> int | None:
        chosen = self.cleaned_data["tenant"]
        return None if chosen == PLATFORM else int(chosen)

    @property
    def place(self) -> PlaceIds:
        given = self.cleaned_data
        return PlaceIds(
            stage=given["stage"],
            environment_id=int(given["environment"]) if given["environment"] else None,
            cluster_id=int(given["cluster"]) if given["cluster"] else None,
            cohort_id=int(given["cohort"]) if given["cohort"] else None,
        )

    def refuse(self, refusal: Invalid, *, fields: dict[str, str] | None = None) -> None:
        """Put the sentences of an action's refusal beside the fields they are about."""
        named = fields or {}
        for name, sentences in refusal.fields.items():
            target = named.get(name, name)
            for sentence in sentences:
                self.add_error(target if target in self.fields else None, sentence)
        if not refusal.fields:
            self.add_error(None, refusal.sentence)

    def _offer(self, name: str, choices: Iterable[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(choices)


def _owned(rows: Iterable[Environment | Cohort], several: bool) -> list[tuple[str, str]]:
    return [(str(one.pk), f"{one.name}, {one.tenant.name}" if several else one.name) for one in rows]
