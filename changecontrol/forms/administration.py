"""Policies, people and roles as administrators write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.forms import BoundField

from changecontrol.errors import Invalid
from changecontrol.forms.windows import LOCAL, LocalInput
from changecontrol.models import Tenant, User
from changecontrol.rules.policy_json import ENVIRONMENT_STAGES, MAX_QUORUM, MAX_STAGES, TYPES
from changecontrol.rules.risk import RiskLevel
from changecontrol.rules.roles import Ability, Role, roles_with

LEAST_STAGES = 2
LEAST_REQUIREMENTS = 2
VOTERS = [(role.value, role.label) for role in roles_with(Ability.CHANGE_VOTE)]
GRANTABLE = [(role.value, role.label) for role in Role if role is not Role.PLATFORM_ADMINISTRATOR]
PLATFORM = "platform"
MATCHES = ("environment_stages", "tiers", "types", "risks")


@dataclass(frozen=True, slots=True)
class RequirementRow:
    number: int
    role: BoundField
    quorum: BoundField
    title: BoundField


@dataclass(frozen=True, slots=True)
class StageRow:
    number: int
    name: BoundField
    requirements: list[RequirementRow]


class RefusableForm(forms.Form):
    def refuse(self, refusal: Invalid) -> None:
        """Put the sentences of an action's refusal beside the fields they are about."""
        for name, sentences in refusal.fields.items():
            for sentence in sentences:
                self.add_error(name if name in self.fields else None, sentence)
        if not refusal.fields:
            self.add_error(None, refusal.sentence)


class PolicyForm(RefusableForm):
    """One version of a policy. It offers a stage and a requirement more than there are; empty ones do not count."""

    name = forms.CharField(label="Name", max_length=120)
    environment_stages = forms.MultipleChoiceField(
        label="Environment stages",
        required=False,
        choices=[(one, one.capitalize()) for one in ENVIRONMENT_STAGES],
        widget=forms.CheckboxSelectMultiple,
    )
    tiers = forms.TypedMultipleChoiceField(
        label="Tiers",
        required=False,
        coerce=int,
        choices=[(str(one), f"Tier {one}") for one in range(4)],
        widget=forms.CheckboxSelectMultiple,
    )
    types = forms.MultipleChoiceField(
        label="Types of change",
        required=False,
        choices=[(one, one.capitalize()) for one in TYPES],
        widget=forms.CheckboxSelectMultiple,
    )
    risks = forms.MultipleChoiceField(
        label="Risk",
        required=False,
        choices=[(one.value, one.value.replace("_", " ").capitalize()) for one in RiskLevel],
        widget=forms.CheckboxSelectMultiple,
    )
    one_person_one_place = forms.BooleanField(
        label="One person fills one place",
        required=False,
        help_text="Somebody in two groups counts once.",
    )
    version = forms.IntegerField(widget=forms.HiddenInput, min_value=0)

    def __init__(self, *args: Any, content: Mapping[str, Any], name: str, version: int, **kwargs: Any) -> None:
        self.content = content
        stages = list(content.get("stages", ()))
        match = content.get("match", {})
        initial: dict[str, Any] = {
            "name": name,
            "version": version,
            "one_person_one_place": content.get("one_person_one_place", True),
            **{key: [str(one) for one in match.get(key, ())] for key in MATCHES},
        }
        for number, stage in enumerate(stages, start=1):
            initial[f"stage_{number}"] = stage["name"]
            for place, one in enumerate(stage["requirements"], start=1):
                initial[f"role_{number}_{place}"] = one["role"]
                initial[f"quorum_{number}_{place}"] = one["quorum"]
                initial[f"title_{number}_{place}"] = one["name"]
        kwargs |= {"initial": initial, "auto_id": "%s"}
        super().__init__(*args, **kwargs)
        self.sizes = [
            max(LEAST_REQUIREMENTS, len(stages[number]["requirements"]) + 1 if number < len(stages) else 0)
            for number in range(min(max(LEAST_STAGES, len(stages) + 1), MAX_STAGES))
        ]
        for number, size in enumerate(self.sizes, start=1):
            self.fields[f"stage_{number}"] = forms.CharField(label="Name of the stage", max_length=120, required=False)
            for place in range(1, size + 1):
                self.fields[f"role_{number}_{place}"] = forms.ChoiceField(
                    label="Role", choices=[("", "Nobody"), *VOTERS], required=False
                )
                self.fields[f"quorum_{number}_{place}"] = forms.IntegerField(
                    label="How many", min_value=1, max_value=MAX_QUORUM, required=False
                )
                self.fields[f"title_{number}_{place}"] = forms.CharField(label="Called", max_length=120, required=False)

    @property
    def stage_rows(self) -> list[StageRow]:
        return [
            StageRow(
                number,
                self[f"stage_{number}"],
                [
                    RequirementRow(
                        place,
                        self[f"role_{number}_{place}"],
                        self[f"quorum_{number}_{place}"],
                        self[f"title_{number}_{place}"],
                    )
                    for place in range(1, size + 1)
                ],
            )
            for number, size in enumerate(self.sizes, start=1)
        ]

    def policy(self) -> dict[str, Any]:
        """Return the policy as JSON. Call it on a valid form."""
        given = self.cleaned_data
        keys: set[str] = set()
        stages = []
        for number, size in enumerate(self.sizes, start=1):
            requirements = []
            for place in range(1, size + 1):
                role = given.get(f"role_{number}_{place}")
                if not role:
                    continue
                label = Role(role).label
                key = self._key(number, place, role, taken=keys)
                keys.add(key)
                requirements.append(
                    {
                        "key": key,
                        "name": given.get(f"title_{number}_{place}") or label,
                        "quorum": given.get(f"quorum_{number}_{place}") or 1,
                        "role": role,
                    }
                )
            if requirements:
                name = given.get(f"stage_{number}") or requirements[0]["name"]
                stages.append({"name": name, "requirements": requirements})
        match = {key: given[key] for key in MATCHES}
        return {"match": match, "one_person_one_place": given["one_person_one_place"], "stages": stages}

    def _key(self, number: int, place: int, role: str, *, taken: set[str]) -> str:
        """Keep the key a requirement had at this place, so that an unchanged policy stays the same."""
        stages: Sequence[Any] = self.content.get("stages", ())
        if number <= len(stages) and place <= len(stages[number - 1]["requirements"]):
            before = stages[number - 1]["requirements"][place - 1]
            if before["role"] == role and before["key"] not in taken:
                return str(before["key"])
        return role if role not in taken else f"{role}_{number}_{place}"


class NewPolicyForm(PolicyForm):
    """The first version of a policy: whose it is, and its name for machines."""

    def __init__(self, *args: Any, tenants: Sequence[Tenant], with_platform: bool, **kwargs: Any) -> None:
        super().__init__(*args, content={}, name="", version=0, **kwargs)
        owners = [(str(one.pk), one.name) for one in tenants]
        platform = [(PLATFORM, "The whole platform")] if with_platform else []
        first: dict[str, forms.Field] = {
            "owner": forms.ChoiceField(label="Whose", choices=[*platform, *owners]),
            "slug": forms.SlugField(
                label="Short name", max_length=63, help_text="Such as production-nights. It never changes."
            ),
        }
        self.fields = {**first, **self.fields}

    @property
    def tenant_id(self) -> int | None:
        chosen = self.cleaned_data["owner"]
        return None if chosen == PLATFORM else int(chosen)


class GrantForm(RefusableForm):
    person = forms.ChoiceField(label="Person")
    role = forms.ChoiceField(label="Role", choices=GRANTABLE)
    environment = forms.ChoiceField(label="Where", required=False)
    expires_at = forms.DateTimeField(
        label="Ends",
        required=False,
        widget=LocalInput,
        input_formats=[LOCAL, "%Y-%m-%dT%H:%M:%S"],
        help_text="Empty: it does not end.",
    )

    def __init__(
        self, *args: Any, people: Sequence[User], environments: Sequence[tuple[int, str]], tenant: Tenant, **kwargs: Any
    ) -> None:
        kwargs["auto_id"] = "grant_%s"
        super().__init__(*args, **kwargs)
        self._offer("person", [(str(one.pk), str(one)) for one in people])
        places = [(str(pk), name) for pk, name in environments]
        self._offer("environment", [("", f"All of {tenant.name}"), *places])

    def _offer(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices


class PersonForm(RefusableForm):
    username = forms.CharField(label="User name", max_length=150)
    display_name = forms.CharField(label="Name", max_length=120)
    email = forms.CharField(
        label="E-mail address",
        required=False,
        help_text="Commits by it count as this person's own work.",
        widget=forms.EmailInput,
    )
    role = forms.ChoiceField(label="First role", choices=GRANTABLE)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["auto_id"] = "person_%s"
        super().__init__(*args, **kwargs)
