"""What a workflow does to a change as it carries it out. The caller holds the change's lock and its transaction."""

from __future__ import annotations

from datetime import datetime

from changecontrol import audit, outbox
from changecontrol.access import Actor
from changecontrol.actions.locking import move
from changecontrol.events import Tag
from changecontrol.lifecycles.change import CloseCode
from changecontrol.models import ChangeRequest, Run


def start_change(change: ChangeRequest, *, run: Run, actor: Actor, at: datetime) -> None:
    """Begin the execution: `scheduled → implementing`."""
    move(change, "start", at=at, started_at=at)
    audit.record(Tag.CHANGE_STARTED, subject=change, actor=actor, at=at, data={"run": run.pk})
    _tell(change, Tag.CHANGE_STARTED, "has started", change.title, at=at)


def finish_change(change: ChangeRequest, *, actor: Actor, at: datetime) -> None:
    """Every target is done; what was done is watched now: `implementing → validating`."""
    move(change, "finish", at=at, finished_at=at)
    audit.record(Tag.CHANGE_VALIDATING, subject=change, actor=actor, at=at)


def review_change(change: ChangeRequest, *, actor: Actor, at: datetime, note: str = "") -> None:
    """What was watched held: `validating → review`, to be closed as successful unless a person thinks otherwise."""
    move(change, "review", at=at, close_code=CloseCode.SUCCESSFUL, close_note=note)
    data = {"proposed": str(CloseCode.SUCCESSFUL), "note": note}
    audit.record(Tag.CHANGE_IN_REVIEW, subject=change, actor=actor, at=at, data=data)
    _tell(change, Tag.CHANGE_IN_REVIEW, "is done and waits to be closed", note or change.title, at=at)


def fail_change(change: ChangeRequest, *, close_code: str, note: str, actor: Actor, at: datetime) -> None:
    """The run failed, was aborted or rolled back: on to `review`, with the close code that a person will confirm."""
    code = CloseCode(close_code)
    move(change, "fail", at=at, close_code=code, close_note=note, finished_at=change.finished_at or at)
    data = {"proposed": str(code), "note": note}
    audit.record(Tag.CHANGE_IN_REVIEW, subject=change, actor=actor, at=at, data=data)
    _tell(change, Tag.CHANGE_IN_REVIEW, f"waits for its review: {code.label.lower()}", note, at=at)


def _tell(change: ChangeRequest, tag: Tag, what: str, text: str, *, at: datetime) -> None:
    people = [one for one in (change.requester, change.assignee) if one is not None]
    outbox.post(to=people, tag=tag, subject=f"{change.number} {what}", text=text, at=at, change=change)
