"""A plan as a person reads it, from the resolved document where there is one, else from the answers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from changecontrol.lifecycles.change import ChangeKind
from changecontrol.models import ChangeRequest
from changecontrol.rules.content import Content
from changecontrol.rules.content_problems import restore_time_of
from changecontrol.rules.risk import QUESTIONS
from changecontrol.views.wording import and_list, counted, span, words

ON_CLOSE = {
    "finish_wave": "finish the wave, then pause",
    "pause_now": "pause at once",
    "roll_back": "roll back",
}
ON_FAILURE = {"roll_back": "roll back to the commit that ran before", "pause": "pause until a person decides"}
CLASS_WORDS = {
    "R0": "no data at stake",
    "R1": "additive; the old code tolerates it",
    "R2": "reversible only by restore",
    "R3": "irreversible",
}


@dataclass(frozen=True, slots=True)
class WaveFacts:
    label: str
    where: str
    cohorts: str
    targets: str
    stores: int | None
    share: float | None
    bake: str
    goes_on: str


@dataclass(frozen=True, slots=True)
class IndicatorFacts:
    """What is watched: its name, its threshold with the unit, and what a breach means for the rollout."""

    name: str
    limit: str
    note: str


def plan_words(change: ChangeRequest, content: Content) -> str:
    """Say in one sentence what the plan does."""
    if change.kind == ChangeKind.RESTORE:
        to = _restore_moment(content)
        where = and_list(content.environments) or "no environment yet"
        return f"Bring {where} of {change.tenant} back to {to}, as “{content.restore_database or 'a new database'}”."
    waves = f" in {counted(len(content.waves), 'wave')}" if content.waves else ""
    # A name that is the commit's own hash is as long as a line on a phone.
    named = content.revision_name if content.revision_name != content.commit else ""
    what = f"Bring {named or content.commit[:7] or 'a commit'} to "
    return f"{what}{and_list(content.environments) or 'no environment yet'} of {change.tenant}{waves}."


def plan_pairs(content: Content, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the names and values under the plan's sentence; only what is there."""
    rows: list[dict[str, Any]] = [
        {"label": "Why", "value": content.reason or "not answered yet"},
        {"label": "What", "value": content.description},
        *_restore_pairs(content, document.get("restore", {})),
        {"label": "Source", "value": document.get("source", "")},
        _commit_pair(content, document),
        *_image_pairs(document),
        {"label": "Security", "value": content.security_impact},
        {"label": "Tested", "value": content.test_evidence},
        {"label": "Strategy", "value": _strategy_words(content)},
        {"label": "On failure", "value": ON_FAILURE[content.on_failure]},
        {"label": "If the window closes", "value": ON_CLOSE[content.on_window_close]},
    ]
    watched = document.get("thresholds") or content.to_json()["indicators"]
    rows += [
        {"label": "Indicator", "value": f"{one.name}: {one.limit}", "note": one.note}
        for one in map(indicator_facts, watched)
    ]
    rows += [{"label": "Link", "value": one.label, "url": one.url} for one in content.links]
    return [row for row in rows if row["value"]]


def _restore_pairs(content: Content, restore: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is brought back, what is lost by it (RBK-2), and how long the way back stays open."""
    if not content.restore_database:
        return []
    moment = _restore_moment(content)
    point = str(restore.get("point", ""))
    old = str(restore.get("from_database", ""))
    return [
        {
            "label": "Back to",
            "value": moment,
            "note": f"from point {point}" if point else "checked when it is assessed",
        },
        {"label": "Lost", "value": f"What was written since {moment} will be lost or must be entered again"},
        {"label": "New database", "value": content.restore_database, "is_code": True, "note": "beside the one in use"},
        {
            "label": "Old database",
            "value": old or "the one in use now",
            "is_code": bool(old),
            "note": f"kept for {counted(content.keep_hours, 'hour')} after the cut-over",
        },
        {"label": "New attachments", "value": str(restore.get("to_filestore", "")), "is_code": True},
    ]


def _restore_moment(content: Content) -> str:
    try:
        return f"{restore_time_of(content).astimezone(UTC):%-d %b %Y, %H:%M:%S} UTC"
    except ValueError:
        return content.restore_to or "a time not given yet"


def _commit_pair(content: Content, document: Mapping[str, Any]) -> dict[str, Any]:
    commit = str(document.get("commit") or content.commit)
    if not commit:
        return {"label": "Commit", "value": content.revision_name, "note": "pinned when the change is assessed"}
    start = str(document.get("commit_from") or "")
    note = f"from {start[:7]}" if start else ""
    if content.revision_name and content.revision_name != commit:
        note = f"was {content.revision_name} when it was resolved" + (f"; {note}" if note else "")
    return {"label": "Commit", "value": commit, "is_code": True, "note": note}


def _image_pairs(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each image once, with how many workloads it is for."""
    counts: dict[tuple[str, str], int] = {}
    for one in document.get("images", ()):
        key = (str(one.get("image", "")), str(one.get("digest", "")))
        counts[key] = counts.get(key, 0) + 1
    return [
        {"label": "Image", "value": image, "is_code": True, "note": f"for {counted(count, 'workload')}"}
        for (image, _), count in list(counts.items())[:5]
    ]


def _strategy_words(content: Content) -> str:
    ready = span(content.ready_within_seconds)
    return (
        f"{content.strategy}, at most {counted(content.max_unavailable, 'target')} down at once; "
        f"ready within {ready}; failure budget {counted(content.failure_budget, 'target')} a wave"
    )


def indicator_facts(rule: Mapping[str, Any]) -> IndicatorFacts:
    """Read a rule of a plan or of the answers, by the catalogue of what can be watched."""
    key = str(rule.get("indicator") or rule.get("name") or "")
    known = import_string(settings.INDICATORS).get(key)
    if known is None:
        name, limit, felt = (
            words(key).capitalize(),
            f"{words(rule.get('comparison', 'at most'))} {rule['threshold']}",
            "",
        )
    else:
        name, limit = known.title, known.rule_words(float(rule["threshold"]))
        felt = "what the business feels" if known.health == "business" else "what the machines feel"
    passes, stops = rule.get("minimum_samples", 1), rule.get("consecutive_breaches", 1)
    note = f"{counted(passes, 'sample')} for a pass, {counted(stops, 'breach', 'breaches')} in a row stop the rollout"
    return IndicatorFacts(name, limit.replace(" %", "\N{NO-BREAK SPACE}%"), f"{felt}; {note}" if felt else note)


def waves_of(content: Content, document: Mapping[str, Any]) -> list[WaveFacts]:
    """Return the waves of the resolved plan, or of the answers where nothing is resolved yet."""
    targets: Sequence[Mapping[str, Any]] = document.get("targets", ())
    waves: Sequence[Mapping[str, Any]] = document.get("waves") or content.to_json()["waves"]
    watched = len(content.indicators)
    found = []
    for index, wave in enumerate(waves):
        mine = [one for one in targets if one.get("wave") == index]
        places = {(one["environment"], one.get("cohort", "")): one for one in mine}
        served = {one["cohort"]: one for one in mine if one.get("cohort")}
        is_last = index == len(waves) - 1
        found.append(
            WaveFacts(
                label=str(wave["name"]),
                where=and_list(list(dict.fromkeys(one[0] for one in places)) or list(wave["environments"])),
                cohorts=", ".join(sorted(served) or list(wave["cohorts"])) or "everything not yet updated",
                targets=counted(len(mine), "target") if targets else "",
                stores=sum(int(one.get("stores", 0)) for one in served.values()) if targets else None,
                share=sum(float(one.get("sales_share", 0)) for one in served.values()) / 100 if targets else None,
                bake=span(int(wave["bake_seconds"])),
                goes_on=_goes_on(str(wave["promotion"]), watched=watched, is_last=is_last),
            )
        )
    return found


def _goes_on(promotion: str, *, watched: int, is_last: bool) -> str:
    if is_last:
        return "the last wave"
    if promotion == "manual":
        return "a person promotes"
    return f"{counted(watched, 'indicator')} pass" if watched else "healthy and baked"


def rollback_facts(content: Content, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rollback's class, what it does and why it is so."""
    rollback: Mapping[str, Any] = document.get("rollback", {})
    name = str(rollback.get("class", ""))
    commit = str(rollback.get("commit") or document.get("commit_from") or "")
    undone = content.risk_answers.get("rollback", "")
    return {
        "facts": [
            {"label": "Class", "value": name or "not resolved yet", "note": CLASS_WORDS.get(name, "")},
            {
                "label": "How it is undone",
                "value": words(undone).capitalize() or "Not answered",
                "note": "by the requester",
            },
            {"label": "Goes back to", "value": commit[:7] or "what ran before", "note": "in the cluster and in Git"},
            {"label": "On failure", "value": words(content.on_failure).capitalize(), "note": "without asking"}
            if content.on_failure == "roll_back"
            else {"label": "On failure", "value": "Pause", "note": "a person decides"},
        ],
        "plan": content.rollback_plan,
        "how": str(rollback.get("how", "")),
        "reasons": [{"text": str(one), "icon": "point"} for one in rollback.get("reasons", ())],
    }


def risk_rows(content: Content) -> list[dict[str, Any]]:
    """Return the questions of the risk with their answers."""
    given = content.risk_answers
    return [
        {"label": one.text, "value": words(given[one.key]).capitalize() if one.key in given else "Not answered"}
        for one in QUESTIONS
    ]
