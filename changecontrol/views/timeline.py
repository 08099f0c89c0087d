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


def _nothing(_: Data) -> str:
    return ""


def _text(key: str) -> Callable[[Data], str]:
    return lambda data: str(data.get(key) or "")


def _quoted(key: str) -> Callable[[Data], str]:
    return lambda data: f"“{data[key]}”" if data.get(key) else ""


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


def _moved(_: str, data: Data) -> str:
    before, after = words(data.get("from", "")), words(data.get("to", "") or data.get("state", ""))
    return f"Run: {before} → {after}" if before and after else f"Run: {after or before}"


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
    Tag.RUN_MOVED: ("progress", "", _moved, _text("sentence")),
    Tag.RUN_ASKED: ("user", "", _said("{who} asked the run to {verb}"), _quoted("reason")),
    Tag.RUN_NEEDS_ATTENTION: ("alert-triangle", "bad", _said("The run needs a person"), _text("sentence")),
    Tag.TARGET_MOVED: ("point", "", _target_moved, _text("sentence")),
    Tag.OBJECT_APPLIED: ("server", "", _said("Applied {object}{ref}"), _nothing),
    Tag.OBJECT_PRUNED: ("trash", "", _said("Removed {object}{ref}"), _nothing),
    Tag.GIT_REF_MOVED: ("git-branch", "", _said("Git moved: {ref}"), _text("sha")),
    Tag.SAFETY_ACTION: ("lifebuoy", "warn", _said("{who} took a safety action: {verb}"), _quoted("reason")),
    Tag.EVIDENCE_STORED: ("archive", "", lambda _, data: f"Evidence stored: {data.get('name')}", _text("source")),
    Tag.EVIDENCE_EXPORTED: (
        "file-zip",
        "",
        _said("{who} took the evidence pack of {change}"),
        _text("manifest_sha256"),
    ),
    Tag.EVIDENCE_READ: ("eye", "", lambda who, data: f"{who} read {_read(data)}", _nothing),
    Tag.REFUSED: ("ban", "bad", _refused, _text("sentence")),
}
