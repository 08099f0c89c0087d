"""Locking the root, and moving it by its table. Every action on a change begins with one and ends with the other."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from changecontrol import access
from changecontrol.access import Actor, Scope
from changecontrol.errors import Invalid, NotFound
from changecontrol.lifecycles.change import CHANGE
from changecontrol.models import ChangeRequest
from changecontrol.rules.words import seen


def sight_of(actor: Actor) -> Scope:
    """Return what the person may see, whatever their token is limited to: what it may *do* is asked by `require`."""
    return replace(access.scope_of(actor), scopes=None)


def locked_change(actor: Actor, change_id: int) -> ChangeRequest:
    """Lock a change the actor may see, and read it again. One that is hidden is exactly as missing as none."""
    rows = access.visible(sight_of(actor), ChangeRequest.objects.all())
    change = rows.select_for_update(of=("self",)).select_related("tenant", "revision").filter(pk=change_id).first()
    if change is None:
        raise NotFound("There is no such change.")
    return change


def move(change: ChangeRequest, verb: str, *, at: datetime, **fields: Any) -> str:
    """Move a locked change and write these fields with it. Return the state it left."""
    before = str(change.state)
    change.state = CHANGE.target(verb, change.state)
    write(change, at=at, state=change.state, **fields)
    return before


def write(change: ChangeRequest, *, at: datetime, **fields: Any) -> None:
    """Write fields of a locked change, and when it was last touched."""
    for name, value in {**fields, "updated_at": at}.items():
        setattr(change, name, value)
    change.save(update_fields=[*fields, "updated_at"])


def reason_of(text: str, *, field: str, sentence: str) -> str:
    """Return the words without their margins; where nothing is to be seen, it is `Invalid`."""
    words = seen(text)
    if not words:
        raise Invalid(sentence, fields={field: [sentence]})
    return words
