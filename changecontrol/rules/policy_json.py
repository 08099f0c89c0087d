"""Approval policies as JSON, the shape in which they are stored, copied into rounds and edited. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from changecontrol.rules.policies import Match, Policy, Requirement, Stage
from changecontrol.rules.risk import RiskLevel
from changecontrol.rules.roles import Ability, Role, roles_with

ENVIRONMENT_STAGES = ("development", "staging", "production")
TYPES = ("standard", "normal", "emergency")
MAX_STAGES = 8
MAX_REQUIREMENTS = 8
"""Of one stage."""
MAX_QUORUM = 20

_MATCHES: Mapping[str, tuple[Any, ...]] = {
    "environment_stages": ENVIRONMENT_STAGES,
    "tiers": (0, 1, 2, 3),
    "types": TYPES,
    "risks": tuple(level.value for level in RiskLevel),
}


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """Return JSON values only, sorted, so that two equal policies are written alike."""
    return {
        "match": {key: sorted(getattr(policy.match, key)) for key in _MATCHES},
        "one_person_one_place": policy.one_person_one_place,
        "stages": [
            {
                "name": stage.name,
                "requirements": [
                    {"key": one.key, "name": one.name, "quorum": one.quorum, "role": one.role}
                    for one in stage.requirements
                ],
            }
            for stage in policy.stages
        ],
    }


def policy_from_json(content: Mapping[str, Any], *, name: str, version: int) -> Policy:
    """Read what `policy_to_json` wrote."""
    match = content.get("match", {})
    return Policy(
        name=name,
        version=version,
        match=Match(**{key: frozenset(match.get(key, ())) for key in _MATCHES}),
        stages=tuple(
            Stage(
                name=stage["name"],
                requirements=tuple(
                    Requirement(key=one["key"], role=one["role"], quorum=one["quorum"], name=one["name"])
                    for one in stage["requirements"]
                ),
            )
            for stage in content.get("stages", ())
        ),
        one_person_one_place=content.get("one_person_one_place", True),
    )


def policy_problems(content: Any) -> dict[str, list[str]]:
    """Say by field what is wrong with a policy somebody wrote; an empty dict where nothing is."""
    if not isinstance(content, Mapping):
        return {"content": ["A policy has “match” and “stages”."]}
    problems: dict[str, list[str]] = {}
    unknown = sorted(str(key) for key in content.keys() - {"match", "stages", "one_person_one_place"})
    if unknown:
        problems["content"] = [f"A policy has no field called {', '.join(unknown)}."]
    if sentences := _match_problems(content.get("match", {})):
        problems["match"] = sentences
    if not isinstance(content.get("one_person_one_place", True), bool):
        problems["one_person_one_place"] = ["Say true or false."]
    if sentences := _stage_problems(content.get("stages", [])):
        problems["stages"] = sentences
    return problems


def _match_problems(match: Any) -> list[str]:
    if not isinstance(match, Mapping):
        return ["“match” says for which environment stages, tiers, types and risks the policy is."]
    sentences = [f"A policy does not match by {key}." for key in sorted(str(one) for one in match.keys() - _MATCHES)]
    for key, allowed in _MATCHES.items():
        values = match.get(key, [])
        if not isinstance(values, list) or any(isinstance(one, bool) or one not in allowed for one in values):
            words = ", ".join(str(one) for one in allowed)
            sentences.append(f"“{key.replace('_', ' ')}” is a list of these: {words}.")
    return sentences


def _stage_problems(stages: Any) -> list[str]:
    if not isinstance(stages, list) or len(stages) > MAX_STAGES:
        return [f"A policy has a list of at most {MAX_STAGES} stages."]
    sentences: list[str] = []
    keys: list[str] = []
    for position, stage in enumerate(stages, start=1):
        requirements = stage.get("requirements") if isinstance(stage, Mapping) else None
        if not isinstance(stage, Mapping) or not _is_text(stage.get("name")):
            sentences.append(f"Stage {position} needs a name.")
        if not isinstance(requirements, list) or not 1 <= len(requirements) <= MAX_REQUIREMENTS:
            sentences.append(f"Stage {position} needs 1 to {MAX_REQUIREMENTS} requirements.")
            continue
        for one in requirements:
            sentences.extend(_requirement_problems(one, position))
            if isinstance(one, Mapping):
                keys.append(str(one.get("key")))
    sentences.extend(f"Two requirements are called “{key}”." for key in sorted({k for k in keys if keys.count(k) > 1}))
    return sentences


def _requirement_problems(one: Any, position: int) -> list[str]:
    if not isinstance(one, Mapping) or not _is_text(one.get("key")) or not _is_text(one.get("name")):
        return [f"Every requirement of stage {position} needs a key and a name."]
    sentences = []
    role, quorum = one.get("role"), one.get("quorum")
    voters = roles_with(Ability.CHANGE_VOTE)
    if role not in [voter.value for voter in voters]:
        words = ", ".join(voter.value for voter in voters)
        known = "may not vote" if role in [known.value for known in Role] else "is no role"
        sentences.append(f"“{one['name']}”: {role} {known}; choose among {words}.")
    if isinstance(quorum, bool) or not isinstance(quorum, int) or not 1 <= quorum <= MAX_QUORUM:
        sentences.append(f"“{one['name']}” asks for 1 to {MAX_QUORUM} people.")
    return sentences


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= 120
