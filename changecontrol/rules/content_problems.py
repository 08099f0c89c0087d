"""Is a revision complete, and does it make sense by itself? What the estate says about it is asked by the action."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from changecontrol.lifecycles.change import ChangeKind
from changecontrol.rules.content import Content, Wave
from changecontrol.rules.risk import check_answers
from changecontrol.rules.words import seen
from changecontrol.rules.years import is_within_years

MAX_TITLE = 200
MAX_TEXT = 20_000
MAX_ENVIRONMENTS = 200
MAX_WAVES = 50
MAX_LINKS = 20
READY_SECONDS = (10, 7200)
BAKE_SECONDS = (0, 259_200)
KEEP_HOURS = (1, 2160)

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REVISION_NAME = re.compile(r"(?!-)[^\s~^:?*\[\\\x00-\x1f]{1,200}")

_DATABASE = re.compile(r"[a-z][a-z0-9_]{0,62}")

_NEEDED = {
    "title": "Give the change a title that says what it does.",
    "reason": "Say why the change is needed.",
    "security_impact": "Say what it means for security, even if that is “none”.",
    "rollback_plan": "Say how the change is undone if it goes wrong.",
    "test_evidence": "Say where this was tested and how it went.",
}


def problems(content: Content, *, kind: str = ChangeKind.DEPLOY) -> dict[str, list[str]]:
    """Return everything that keeps the content from being submitted, by field, in sentences; empty where nothing does.

    Waves may be left out: they are proposed then.
    """
    found: dict[str, list[str]] = {}
    for field, check in (_CHECKS | (_OF_RESTORES if kind == ChangeKind.RESTORE else _OF_OTHERS)).items():
        if sentences := check(content):
            found[field] = sentences
    return found


def planned_start_of(content: Content) -> datetime | None:
    """Return the planned start, or None for “as soon as the window allows”. Raises `ValueError`."""
    return _moment(content.planned_start_at) if content.planned_start_at else None


def restore_time_of(content: Content) -> datetime:
    """Return the time that a restore goes back to. Raises `ValueError`."""
    return _moment(content.restore_to)


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("no offset")
    if not is_within_years(found):
        raise ValueError("no year of this calendar")
    return found


def _needed(field: str) -> Callable[[Content], list[str]]:
    limit = MAX_TITLE if field == "title" else MAX_TEXT

    def check(content: Content) -> list[str]:
        text = seen(str(getattr(content, field)))
        if not text:
            return [_NEEDED[field]]
        return [f"Say it in at most {limit:,} characters."] if len(text) > limit else []

    return check


def _description(content: Content) -> list[str]:
    return [f"Say it in at most {MAX_TEXT:,} characters."] if len(content.description) > MAX_TEXT else []


def _environments(content: Content) -> list[str]:
    if not content.environments:
        return ["Choose at least one environment."]
    if len(content.environments) > MAX_ENVIRONMENTS:
        return [f"A change reaches at most {MAX_ENVIRONMENTS} environments; file several."]
    return [f"“{one}” is named twice." for one in _repeated(content.environments)]


def _commit(content: Content) -> list[str]:
    if content.commit and not _COMMIT.fullmatch(content.commit):
        return ["A commit is written as its full hash: 40 lower-case hexadecimal digits."]
    if not content.commit and not content.revision_name.strip():
        return ["Name the commit, branch or tag that the change brings."]
    return []


def _revision_name(content: Content) -> list[str]:
    if content.revision_name and not _REVISION_NAME.fullmatch(content.revision_name):
        return [f"“{content.revision_name[:60]}” cannot be the name of a commit, branch or tag."]
    return []


def _waves(content: Content) -> list[str]:
    if not content.waves:
        return []
    if len(content.waves) > MAX_WAVES:
        return [f"A change has at most {MAX_WAVES} waves."]
    sentences = [f"Two waves are called “{one}”." for one in _repeated([wave.name.strip() for wave in content.waves])]
    for number, wave in enumerate(content.waves, start=1):
        sentences.extend(_of_wave(number, wave, content))
    left_out = [one for one in content.environments if one not in content.reach]
    sentences.extend(f"No wave updates the environment “{one}”." for one in left_out)
    return sentences


def _of_wave(number: int, wave: Wave, content: Content) -> list[str]:
    name = f"“{wave.name.strip()}”" if wave.name.strip() else f"Wave {number}"
    sentences = [] if wave.name.strip() else [f"Wave {number} needs a name."]
    if not wave.environments:
        sentences.append(f"{name} names no environment.")
    stray = [one for one in wave.environments if one not in content.environments]
    sentences.extend(f"{name} names “{one}”, which the change does not reach." for one in stray)
    sentences.extend(f"{name} names the cohort “{one}” twice." for one in _repeated(wave.cohorts))
    least, most = BAKE_SECONDS
    if not least <= wave.bake_seconds <= most:
        sentences.append(f"{name} bakes between 0 seconds and {most // 3600} hours.")
    return sentences


def _max_unavailable(content: Content) -> list[str]:
    return [] if 1 <= content.max_unavailable <= 500 else ["At least 1 target, and at most 500, may be down at once."]


def _failure_budget(content: Content) -> list[str]:
    return [] if 0 <= content.failure_budget <= 500 else ["The failure budget of a wave is 0 to 500 targets."]


def _ready_within(content: Content) -> list[str]:
    least, most = READY_SECONDS
    if least <= content.ready_within_seconds <= most:
        return []
    return [f"A target becomes ready within {least} seconds to {most // 3600} hours."]


def _indicators(content: Content) -> list[str]:
    sentences = [f"“{one}” is watched twice." for one in _repeated([rule.indicator for rule in content.indicators])]
    for rule in content.indicators:
        if not rule.indicator.strip():
            sentences.append("Name the indicator.")
        if not 1 <= rule.minimum_samples <= 1000 or not 1 <= rule.consecutive_breaches <= 100:
            sentences.append(f"“{rule.indicator}” needs 1 to 1,000 samples and 1 to 100 breaches in a row.")
    return sentences


def _risk_answers(content: Content) -> list[str]:
    return list(check_answers(content.risk_answers))


def _links(content: Content) -> list[str]:
    if len(content.links) > MAX_LINKS:
        return [f"A change has at most {MAX_LINKS} links."]
    # Anything but a web address could run in the reader's page.
    bad = [one for one in content.links if not re.match(r"https?://[^\s]+$", one.url) or not one.label.strip()]
    return [f"“{one.label or one.url}” needs a label and an address that begins with https://." for one in bad]


def _planned_start(content: Content) -> list[str]:
    try:
        planned_start_of(content)
    except ValueError:
        return ["Write the planned start with its offset, such as 2026-12-01T02:00+01:00, or leave it empty."]
    return []


def _restore_to(content: Content) -> list[str]:
    try:
        restore_time_of(content)
    except ValueError:
        return ["Write the time to go back to with its offset, such as 2026-12-01T02:00+01:00."]
    return []


def _restore_database(content: Content) -> list[str]:
    if not _DATABASE.fullmatch(content.restore_database):
        return ["Name the new database with a letter, then letters, digits and underscores, 63 at most, in lower case."]
    return []


def _keep_hours(content: Content) -> list[str]:
    least, most = KEEP_HOURS
    if least <= content.keep_hours <= most:
        return []
    return [f"The database in use now is kept for {least} to {most:,} hours."]


def _one_environment(content: Content) -> list[str]:
    if len(content.environments) > 1:
        return ["A restore brings back one environment; file a change for each."]
    return _environments(content)


def _not_asked(field: str) -> Callable[[Content], list[str]]:
    def check(content: Content) -> list[str]:
        return ["Only a change of the kind “restore” brings something back."] if getattr(content, field) else []

    return check


def _repeated(names: list[str] | tuple[str, ...]) -> list[str]:
    return sorted({one for one in names if names.count(one) > 1})


_CHECKS: dict[str, Callable[[Content], list[str]]] = {
    "title": _needed("title"),
    "reason": _needed("reason"),
    "description": _description,
    "security_impact": _needed("security_impact"),
    "environments": _environments,
    "commit": _commit,
    "revision_name": _revision_name,
    "waves": _waves,
    "max_unavailable": _max_unavailable,
    "failure_budget": _failure_budget,
    "ready_within_seconds": _ready_within,
    "indicators": _indicators,
    "rollback_plan": _needed("rollback_plan"),
    "test_evidence": _needed("test_evidence"),
    "risk_answers": _risk_answers,
    "links": _links,
    "planned_start_at": _planned_start,
}

_OF_RESTORES: dict[str, Callable[[Content], list[str]]] = {
    "environments": _one_environment,
    "restore_to": _restore_to,
    "restore_database": _restore_database,
    "keep_hours": _keep_hours,
}
_OF_OTHERS: dict[str, Callable[[Content], list[str]]] = {
    name: _not_asked(name) for name in ("restore_to", "restore_database")
}
