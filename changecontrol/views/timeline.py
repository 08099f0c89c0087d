"""What happened to a change, in plain sentences: one for each kind of event, newest first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from changecontrol.events import Tag
from changecontrol.models import AuditEvent, ChangeRequest
from changecontrol.templatetags.states import LOOKS
from changecontrol.views.wording import counted, words

SHOWN = 100
OF_EACH_TARGET = (Tag.TARGET_MOVED, Tag.OBJECT_APPLIED, Tag.OBJECT_PRUNED, Tag.EVIDENCE_STORED)
"""What a run says of each target and object: its own page and the audit trail show them, a change's story does not."""

Data = Mapping[str, Any]
VERDICTS = {"approve": "approved", "reject": "rejected", "abstain": "abstained from", "withdraw": "withdrew from"}


def timeline_of(change: ChangeRequest) -> tuple[list[dict[str, Any]], int]:
    """Return the newest events of the story as entries of the log, and how many events there are in all."""
    rows = AuditEvent.objects.filter(change=change)
    story = rows.exclude(tag__in=OF_EACH_TARGET).select_related("actor").order_by("-id")
    return [entry_of(row) for row in story[:SHOWN]], rows.count()


def entry_of(event: AuditEvent) -> dict[str, Any]:
    """Return one event as a sentence with its tone and icon."""
    body = json.loads(event.body)
    data: Data = body["data"]
    who = str(event.actor) if event.actor else "Somebody not signed in"
    icon, tone, sentence, note = _SAYINGS.get(event.tag, _unknown(event.tag))
    if found := LOOKS.get(str(data.get(_OUTCOMES.get(event.tag, "")))):
        icon, tone = found.icon, found.tone
    entry = {"at": event.at, "icon": icon, "tone": tone, "text": sentence(who, data), "note": note(data)}
    digest = data.get("plan_digest") or data.get("digest")
    return {**entry, "digest": digest} if digest else entry


def _taken(data: Data) -> str:
    """Return what was exported: the pack of a change, or the file that an app on top of this one named."""
    return f"the evidence pack of {data['change']}" if data.get("change") else str(data.get("file") or "evidence")


def _nothing(_: Data) -> str:
    return ""


def _text(key: str) -> Callable[[Data], str]:
    return lambda data: str(data.get(key) or "")


def _quoted(key: str) -> Callable[[Data], str]:
    return lambda data: f"“{data[key]}”" if data.get(key) else ""


def _quoting(pattern: str, key: str) -> Callable[[str, Data], str]:
    """Return a sentence that ends with a name as somebody wrote it."""
    return lambda who, data: f"{pattern.format(who=who)} {_quoted(key)(data)}".strip()


def _said(pattern: str) -> Callable[[str, Data], str]:
    """Return a sentence with the person's name in the place of `{who}`, and the event's words in theirs."""

    class Missing(dict[str, Any]):
        def __missing__(self, key: str) -> str:
            return ""

    def say(who: str, data: Data) -> str:
        plain = {key: words(value) if isinstance(value, str) else value for key, value in data.items()}
        return pattern.format_map(Missing(plain, who=who))

    return say


def _submitted(who: str, data: Data) -> str:
    return f"{who} submitted revision {data.get('revision')}"


def _submission_note(data: Data) -> str:
    risk = data.get("risk", {})
    parts = [
        f"policy {data['policy']['slug']}, version {data['policy']['version']}" if data.get("policy") else "",
        f"risk {words(risk.get('level', ''))}, {risk.get('score')} points" if risk else "",
        *data.get("warnings", ()),
    ]
    return "; ".join(part for part in parts if part)


def _voted(who: str, data: Data) -> str:
    verb = VERDICTS.get(str(data.get("verdict")), "voted on")
    return f"{who} {verb} this plan as “{data.get('requirement')}”, round {data.get('round')}"


def _judged(_: str, data: Data) -> str:
    return f"Gate {words(data.get('gate', ''))}: {words(data.get('verdict', ''))}"


def _scheduled(who: str, data: Data) -> str:
    when = str(data.get("planned_start_at") or "")
    return f"{who} scheduled it" + (
        f" for {when[:16].replace('T', ' ')} UTC" if when else ", as soon as the window allows"
    )


def _moved_as(name: str) -> Callable[[str, Data], str]:
    """Return a sentence of something that went from one state to another."""

    def say(_: str, data: Data) -> str:
        before, after = words(data.get("from", "")), words(data.get("to", "") or data.get("state", ""))
        if before == after:
            # It stays where it is: what was done tells more.
            return f"{name}: {words(data.get('verb', '')) or after}"
        return f"{name}: {before} → {after}" if before and after else f"{name}: {after or before}"

    return say


def _restore_asked(who: str, data: Data) -> str:
    kinds = {"incident": "an incident restore", "production": "what takes its place"}
    what = kinds.get(str(data.get("purpose")), "a copy")
    return f"{who} asked for {what} of {data.get('environment')} as it was at {_wall(data.get('target_at'))}"


def _drill_started(who: str, data: Data) -> str:
    broken = f", with a copy broken on purpose ({data['sabotage']})" if data.get("sabotage") else ""
    return f"{who} began a drill of {data.get('environment')} up to L{data.get('level')}{broken}"


def _checked(what: str) -> Callable[[str, Data], str]:
    def say(_: str, data: Data) -> str:
        name = f" “{words(data['name'])}”" if data.get("name") else ""
        return f"{what}{name}, L{data.get('level')}: {'passed' if data.get('is_passed') else 'failed'}"

    return say


def _wall(value: object) -> str:
    """Return a recorded moment to the minute, with its offset where it is not UTC."""
    text = str(value or "")
    offset = text[-6:] if text[-6:-5] in {"+", "-"} else ""
    return f"{text[:16].replace('T', ' ')} {'UTC' if offset in {'', '+00:00'} else offset}"


def _target_moved(_: str, data: Data) -> str:
    name = data.get("target") or data.get("workload") or "Target"
    return f"{name}: {words(data.get('from', ''))} → {words(data.get('to', '') or data.get('state', ''))}"


def _refused(who: str, data: Data) -> str:
    return f"{who} was refused: {words(data.get('action', 'an attempt'))}"


def _read(data: Data) -> str:
    """Say what was read: evidence by its name, a page by its path, the trail by what it was narrowed to."""
    if name := data.get("name"):
        return f"“{name}” of {data.get('change')}"
    asked = dict(data.get("asked") or {})
    if path := asked.pop("path", ""):
        return str(path)
    return "the audit trail" + (f": {', '.join(f'{key} {value}' for key, value in asked.items())}" if asked else "")


def _unknown(tag: str) -> tuple[str, str, Callable[[str, Data], str], Callable[[Data], str]]:
    return ("point", "", lambda who, data: f"{who}: {tag.replace(':', ' ').replace('_', ' ')}", _nothing)


_OUTCOMES: Mapping[str, str] = {
    Tag.VOTE_CAST: "verdict",
    Tag.GATE_JUDGED: "verdict",
    Tag.RUN_MOVED: "to",
    Tag.CHANGE_CLOSED: "close_code",
    Tag.BACKUP_MOVED: "to",
    Tag.RESTORE_MOVED: "to",
    Tag.DRILL_MOVED: "to",
}
"""Events that are good or bad by what they say: the key of that word, which looks as it does everywhere else."""

_SAYINGS: Mapping[str, tuple[str, str, Callable[[str, Data], str], Callable[[Data], str]]] = {
    Tag.CHANGE_CREATED: ("plus", "", _said("{who} filed {number}"), _text("title")),
    Tag.CHANGE_DRAFT_SAVED: (
        "pencil",
        "",
        _said("{who} saved the draft"),
        lambda data: ", ".join(words(one) for one in data.get("fields", ())),
    ),
    Tag.CHANGE_SUBMITTED: ("send", "", _submitted, _submission_note),
    Tag.CHANGE_REVISED: ("git-compare", "", _said("{who} wrote revision {revision}"), _submission_note),
    Tag.CHANGE_ASSESSING: ("traffic-lights", "", _said("Assessment of revision {revision} began"), _nothing),
    Tag.CHANGE_ASSESSMENT_FAILED: ("circle-x", "bad", _said("Assessment sent it back"), _text("problem")),
    Tag.CHANGE_AUTHORIZING: ("user-check", "warn", _said("The approvers are asked about this plan"), _nothing),
    Tag.CHANGE_SCHEDULED: ("calendar-check", "good", _scheduled, _nothing),
    Tag.CHANGE_RESCHEDULED: ("calendar-event", "", _scheduled, _nothing),
    Tag.CHANGE_UNSCHEDULED: ("calendar-off", "warn", _said("It waits for approval again"), _text("why")),
    Tag.CHANGE_HELD: ("player-pause", "hold", _said("{who} put it on hold"), _quoted("reason")),
    Tag.CHANGE_RELEASED: ("player-play", "", _said("{who} ended the hold"), _nothing),
    Tag.CHANGE_CANCELED: ("ban", "bad", _said("{who} canceled it"), _quoted("reason")),
    Tag.CHANGE_REJECTED: ("circle-x", "bad", _said("It was rejected, and round {round} ended"), _quoted("comment")),
    Tag.CHANGE_EXPIRED: ("clock-exclamation", "warn", _said("Nobody decided in time"), _nothing),
    Tag.CHANGE_STARTED: ("rocket", "", _said("Execution started"), _nothing),
    Tag.CHANGE_VALIDATING: ("activity", "", _said("Every target is done; the result is watched"), _nothing),
    Tag.CHANGE_IN_REVIEW: ("eye", "warn", _said("It is ready for review"), _text("note")),
    Tag.CHANGE_CLOSED: ("circle-check", "good", _said("{who} closed it: {close_code}"), _quoted("note")),
    Tag.CHANGE_HANDED_OVER: ("user-plus", "", _said("{who} handed it over to {to}"), _nothing),
    Tag.PLAN_RESOLVED: ("fingerprint", "", _said("The plan of revision {revision} is resolved"), _nothing),
    Tag.GATE_JUDGED: ("traffic-lights", "", _judged, _text("tool")),
    Tag.ROUND_OPENED: ("users", "", _said("Approval round {round} opened"), _submission_note),
    Tag.ROUND_REOPENED: ("users", "warn", _said("Approval round {round} is open again"), _nothing),
    Tag.ROUND_ENDED: ("users", "", _said("Approval round {round} ended: {state}"), _nothing),
    Tag.VOTE_CAST: ("writing-sign", "good", _voted, _quoted("comment")),
    Tag.VOTE_WITHDRAWN: ("arrow-back-up", "warn", _said("{who} withdrew a vote, round {round}"), _quoted("comment")),
    Tag.VOTES_STALE: (
        "clock-exclamation",
        "warn",
        lambda _, data: f"{counted(len(data.get('voters', ())), 'vote')} became stale: the plan is another now",
        lambda data: ", ".join(data.get("voters", ())),
    ),
    Tag.RUN_CREATED: ("rocket", "", _said("A run was prepared"), _nothing),
    Tag.RUN_MOVED: ("progress", "", _moved_as("Run"), _text("sentence")),
    Tag.RUN_ASKED: ("user", "", _said("{who} asked the run to {verb}"), _quoted("reason")),
    Tag.RUN_NEEDS_ATTENTION: ("alert-triangle", "bad", _said("The run needs a person"), _text("sentence")),
    Tag.TARGET_MOVED: ("point", "", _target_moved, _text("sentence")),
    Tag.OBJECT_APPLIED: ("server", "", _said("Applied {object}{ref}"), _nothing),
    Tag.OBJECT_PRUNED: ("trash", "", _said("Removed {object}{ref}"), _nothing),
    Tag.GIT_REF_MOVED: ("git-branch", "", _said("Git moved: {ref}"), _text("sha")),
    Tag.SAFETY_ACTION: ("lifebuoy", "warn", _said("{who} took a safety action: {verb}"), _quoted("reason")),
    Tag.BACKUP_POLICY_PUBLISHED: ("database", "", _said("{who} published backup policy {version}"), _quoted("reason")),
    Tag.BACKUP_ASKED: ("database", "", _said("{who} asked for a backup of {environment}"), _quoted("reason")),
    Tag.BACKUP_MOVED: ("progress", "", _moved_as("Backup"), _text("sentence")),
    Tag.POINT_RECORDED: ("database", "good", lambda _, data: f"Point {data.get('key')} is copied", _nothing),
    Tag.POINT_COPIED: ("copy", "", _said("A copy of the point lies elsewhere"), _text("store")),
    Tag.POINT_COPY_LOST: ("copy", "bad", _said("A copy of the point is lost"), _text("sentence")),
    Tag.POINT_CHECKED: ("shield-check", "", _checked("The point was checked"), _text("sentence")),
    Tag.POINT_ADOPTED: ("database", "", _said("The point was taken in from {store}"), _nothing),
    Tag.POINT_REMOVAL_ASKED: (
        "trash",
        "warn",
        lambda who, data: f"{who} let point {data.get('key')} go",
        _quoted("reason"),
    ),
    Tag.POINT_KEPT: ("lock", "", lambda _, data: f"Point {data.get('key')} stays after all", _text("sentence")),
    Tag.POINT_REMOVED: ("trash", "", lambda _, data: f"Point {data.get('key', '')} is removed", _nothing),
    Tag.FILESTORE_COPIED: ("copy", "", lambda _, data: f"Filestore copied: {data.get('name', '')}", _text("key")),
    Tag.FILESTORE_REMOVED: (
        "trash",
        "",
        lambda _, data: f"Filestore copy removed: {data.get('name', '')}",
        _text("key"),
    ),
    Tag.STORE_COMPARED: (
        "database",
        "warn",
        _said("Catalogue and store disagree"),
        lambda data: ", ".join(data.get("new", ())),
    ),
    Tag.ORPHAN_REMOVAL_ASKED: (
        "trash",
        "warn",
        lambda who, data: f"{who} let {data.get('name')} go, which no row names",
        _quoted("reason"),
    ),
    Tag.ADOPTION_ASKED: (
        "database",
        "",
        lambda who, data: f"{who} asked that {data.get('name')} is taken in, which no row names",
        _quoted("reason"),
    ),
    Tag.ADOPTION_REFUSED: (
        "alert-triangle",
        "warn",
        lambda _, data: f"{data.get('name')} was not taken in",
        _text("sentence"),
    ),
    Tag.ORPHANS_REMOVED: (
        "trash",
        "",
        _said("What no row names was removed"),
        lambda data: ", ".join(data.get("names", ())),
    ),
    Tag.ALARM_RAISED: ("alert-triangle", "bad", _said("Alarm: {kind}"), _text("sentence")),
    Tag.ALARM_ENDED: ("check", "good", _said("The alarm ended: {kind}"), _nothing),
    Tag.WAL_RECORDED: ("database", "", _said("WAL was shipped"), _text("key")),
    Tag.WAL_REMOVED: ("trash", "", _said("WAL that no kept point needs was removed"), _nothing),
    Tag.HOLD_PLACED: (
        "lock",
        "hold",
        lambda who, data: f"{who} placed the hold “{data.get('name')}”",
        _quoted("reason"),
    ),
    Tag.HOLD_LIFTED: ("lock", "", lambda who, data: f"{who} lifted the hold “{data.get('name')}”", _quoted("reason")),
    Tag.RESTORE_ASKED: ("database", "", _restore_asked, _quoted("reason")),
    Tag.RESTORE_MOVED: ("progress", "", _moved_as("Restore"), _text("sentence")),
    Tag.CUT_OVER_BEGUN: (
        "database",
        "",
        _said("“{to_database}” is to take the place of “{from_database}”"),
        lambda data: f"as it was at {_wall(data.get('to'))}, from point {data.get('point')}",
    ),
    Tag.CUT_OVER_MOVED: ("progress", "", _moved_as("Cut-over"), _text("sentence")),
    Tag.DRILL_STARTED: ("lifebuoy", "", _drill_started, _nothing),
    Tag.DRILL_MOVED: ("progress", "", _moved_as("Drill"), _text("sentence")),
    Tag.DRILL_CHECKED: ("clipboard-check", "", _checked("Check"), _text("sentence")),
    Tag.DRILL_SIGNED_OFF: ("writing-sign", "good", _said("{who} signed the drill off"), _quoted("note")),
    Tag.DRILL_ACTION_LINKED: ("link", "", _said("{who} named {change} to mend it"), _text("title")),
    Tag.DRILL_ACTION_CLOSED: (
        "check",
        "good",
        lambda who, data: f"{who} closed “{data.get('title')}”",
        _quoted("note"),
    ),
    Tag.REHEARSAL_ASKED: ("lifebuoy", "", _said("{environment} is to be brought up in {cluster}"), _text("path")),
    Tag.REHEARSAL_MOVED: ("progress", "", _moved_as("Rehearsal"), _text("sentence")),
    Tag.REHEARSAL_APPLIED: ("upload", "", _said("Objects of the rehearsal were applied"), _nothing),
    Tag.REHEARSAL_TEARDOWN_ASKED: ("trash", "", _said("The rehearsal is to be taken down"), _nothing),
    Tag.EVIDENCE_STORED: ("archive", "", lambda _, data: f"Evidence stored: {data.get('name')}", _text("source")),
    Tag.EVIDENCE_EXPORTED: (
        "file-zip",
        "",
        lambda who, data: f"{who} took {_taken(data)}",
        lambda data: str(data.get("manifest_sha256") or data.get("sha256") or ""),
    ),
    Tag.EVIDENCE_READ: ("eye", "", lambda who, data: f"{who} read {_read(data)}", _nothing),
    Tag.REFUSED: ("ban", "bad", _refused, _text("sentence")),
}
