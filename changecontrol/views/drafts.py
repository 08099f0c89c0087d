"""The guided form of a change: which step is shown, what it was given, and the plan so far beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count
from django.urls import reverse
from django.utils.module_loading import import_string

from changecontrol.access import Scope
from changecontrol.errors import Invalid
from changecontrol.forms.changes import CommitForm, RestoreForm, RiskForm, StepForm, Surroundings, WhatForm, WhereForm
from changecontrol.forms.rollout import HowForm
from changecontrol.gates import gates_for
from changecontrol.lifecycles.change import ChangeKind
from changecontrol.models import ChangeRequest, Environment, Store
from changecontrol.queries import approvals as reading
from changecontrol.queries import estate
from changecontrol.rules.content import Content
from changecontrol.rules.content_problems import problems
from changecontrol.rules.risk import RiskFacts, assess_risk, inherited_tier
from changecontrol.rules.roles import Ability
from changecontrol.templatetags.controls import first_control_id
from changecontrol.views.plan_facts import plan_words
from changecontrol.views.wording import counted, words

STEPS: tuple[type[StepForm], ...] = (WhatForm, WhereForm, CommitForm, HowForm, RiskForm)
STEPS_OF_RESTORES: tuple[type[StepForm], ...] = (*STEPS[:2], RestoreForm, *STEPS[2:])
ALL = "all"


@dataclass(frozen=True, slots=True)
class Slip:
    """One answer that needs another look, and where it is."""

    label: str
    sentence: str
    anchor: str


def around(scope: Scope, tenant_id: int) -> Surroundings:
    """Return what the estate offers a change of this tenant."""
    environments = list(estate.environments_of(scope).filter(tenant=tenant_id))
    cohorts = {cohort.pk for one in environments for cohort in one.cohorts.all()}
    counts = Store.objects.filter(cohort__in=cohorts).order_by().values_list("cohort").annotate(count=Count("pk"))
    return Surroundings(environments=environments, store_counts=dict(counts), indicators=indicators())


def indicators() -> Sequence[Any]:
    """Return what may be watched during a rollout, as the project's settings name it."""
    return tuple(import_string(settings.INDICATORS).values())


def steps_of(change: ChangeRequest) -> tuple[type[StepForm], ...]:
    """Return what a change of this kind is asked, in its order."""
    return STEPS_OF_RESTORES if change.kind == ChangeKind.RESTORE else STEPS


def keys_of(change: ChangeRequest) -> tuple[str, ...]:
    return (*(one.key for one in steps_of(change)), ALL)


def forms_of(
    change: ChangeRequest,
    key: str,
    *,
    content: Mapping[str, Any],
    surroundings: Surroundings,
    data: Mapping[str, Any] | None = None,
) -> list[StepForm]:
    """Return the forms of a step, or of all steps, filled with what was sent or else with what was saved."""
    chosen = [one for one in steps_of(change) if key in (ALL, one.key)]
    merged = dict(content)
    if data is not None and key == ALL and hasattr(data, "getlist"):
        # How the waves are asked depends on the environments that were sent along with them.
        merged["environments"] = data.getlist("environments")
    return [one(data=data, content=merged, around=surroundings) for one in chosen]


def answers_of(forms: Iterable[StepForm], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content after these forms, all of which are valid."""
    merged = dict(content)
    for form in forms:
        merged |= form.answers()
    return merged


def next_key(change: ChangeRequest, key: str) -> str:
    keys = keys_of(change)
    return keys[min(keys.index(key) + 1, len(keys) - 1)]


def tell(forms: Sequence[StepForm], refusal: Invalid) -> list[Slip]:
    """Put the refusal's sentences to the fields they are about. Return those that belong to none."""
    left = []
    for name, sentences in refusal.fields.items():
        for sentence in sentences:
            place = next(((form, field) for form in forms if (field := form.field_for(name, sentence))), None)
            if place is None:
                left.append(Slip(words(name).capitalize(), sentence, ""))
            else:
                place[0].add_error(place[1], sentence)
    if not refusal.fields:
        left.append(Slip("", refusal.sentence, ""))
    return left


def slips_of(forms: Iterable[StepForm], left: Sequence[Slip] = ()) -> list[Slip]:
    """List everything that needs another look, in the order of the page."""
    found = [
        Slip(str(field.label), str(sentence), first_control_id(field))
        for form in forms
        for field in form
        for sentence in field.errors
    ]
    found += [Slip("", str(sentence), "") for form in forms for sentence in form.non_field_errors()]
    return [*found, *left]


def gaps(change: ChangeRequest) -> dict[str, list[str]]:
    """Return what keeps a draft from being submitted, by field, in sentences."""
    return problems(Content.from_json(change.draft), kind=change.kind)


def step_with(change: ChangeRequest, missing: Mapping[str, Any]) -> str:
    """Return the first step that asks for something missing, where writing goes on."""
    return next((one.key for one in steps_of(change) if _names_of(one) & missing.keys()), ALL)


def step_links(change: ChangeRequest, current: str) -> list[dict[str, Any]]:
    """Return the steps as links, each with whether its answers are complete."""
    missing = gaps(change)
    url = reverse("change-edit", args=[change.number])
    found = []
    steps = steps_of(change)
    for number, one in enumerate(steps, start=1):
        is_done = not any(name in missing for name in _names_of(one))
        found.append(
            {
                "number": number,
                "label": one.heading,
                "url": f"{url}?step={one.key}",
                "is_current": one.key == current,
                "is_done": is_done,
                "note": "answered" if is_done else "still to answer",
            }
        )
    is_all_done = not missing
    note = "ready to submit" if is_all_done else f"{counted(len(missing), 'answer')} to go"
    check = {"number": len(steps) + 1, "label": "Check and submit", "url": f"{url}?step={ALL}", "note": note}
    return [*found, {**check, "is_current": current == ALL, "is_done": is_all_done}]


def _names_of(form: type[StepForm]) -> frozenset[str]:
    extra = {"risk": {"risk_answers"}, "how": {"indicators"}}
    return frozenset(form.content_fields) | frozenset(extra.get(form.key, ()))


def so_far(change: ChangeRequest, scope: Scope, content: Content, *, at: Any) -> dict[str, Any]:
    """Return the plan so far: reach, tier, risk, gates and who will decide, as the answers stand."""
    named = estate.environments_named(scope, tenant_id=change.tenant_id, slugs=content.environments)
    environments = list(named.values())
    tier = inherited_tier([estate.tier_of(one) for one in environments]) if environments else None
    stage = estate.strictest_stage([one.stage for one in environments])
    reach = estate.reach_of(environments, named=content.reach if content.waves else dict.fromkeys(named))
    facts = RiskFacts(
        tier=tier, environment_stage=stage, store_count=reach.store_count, sales_share=float(reach.sales_share) / 100
    )
    risk = assess_risk(content.risk_answers, facts=facts) if environments else None
    policy = (
        reading.choose_policy(
            change.tenant_id, environments=environments, change_type=change.type, risk=str(risk.level), at=at
        )
        if risk
        else None
    )
    sources = sorted({str(one.source_id) for one in environments})
    return {
        "sentence": plan_words(change, content),
        "pairs": [
            {"label": "Blast radius", "value": _reach_words(reach) if environments else "no environment yet"},
            {"label": "Tier", "value": str(tier) if tier is not None else "not known yet"},
            {"label": "Stage", "value": words(stage) or "not known yet"},
            {
                "label": "Commit",
                "value": content.revision_name or "not named yet",
                "is_code": bool(content.revision_name),
            },
            {"label": "Waves", "value": counted(len(content.waves), "wave") if content.waves else "proposed for you"},
        ],
        "risk": f"{words(risk.level).capitalize()}, {risk.score} points" if risk else "",
        "risk_reasons": [
            {"text": f"{one.sentence} +{one.points}", "icon": "point"} for one in (risk.contributions if risk else ())
        ][:6],
        "gates": [one.name for one in gates_for(change.kind)],
        "deciders": _deciders(policy, has_environments=bool(environments)),
        "sources_note": "Its environments come from different Git sources: file one change for each."
        if len(sources) > 1
        else "",
    }


def _reach_words(reach: estate.Reach) -> str:
    return f"{counted(reach.store_count, 'store')}, {float(reach.sales_share):.0f}\N{NO-BREAK SPACE}% of sales"


def _deciders(policy: Any, *, has_environments: bool) -> list[dict[str, str]]:
    if not has_environments:
        return [{"text": "Known once environments are chosen", "icon": "users"}]
    if policy is None:
        return [{"text": "No approval policy fits; a tenant administrator can publish one", "tone": "bad"}]
    rows = [
        {"text": f"{one.name}, {one.quorum} of {one.quorum}", "icon": "users"}
        for one in reading.rule_of(policy).requirements
    ]
    return rows or [{"text": f"Nobody: the policy “{policy.name}” asks for no vote", "tone": "good"}]


def sources_of(environments: Iterable[Environment]) -> list[dict[str, str]]:
    """Return where the chosen environments come from in Git."""
    return [
        {"environment": one.name, "source": str(one.source), "path": one.path, "branch": one.source.default_branch}
        for one in environments
    ]


def tenants_for_new(scope: Scope) -> list[Any]:
    """Return the tenants for which this person may file a change."""
    return list(estate.tenants_of(scope).filter(pk__in=tenant_keys_for_new(scope)))


def tenant_keys_for_new(scope: Scope) -> set[int]:
    """Return the keys of those tenants. No statement: a page that only offers the button asks this."""
    mine = {pk for pk, roles in scope.tenants.items() if Ability.CHANGE_CREATE in scope.abilities(roles)}
    mine |= {
        scope.environment_tenants[pk]
        for pk, roles in scope.environments.items()
        if Ability.CHANGE_CREATE in scope.abilities(roles)
    }
    return mine
