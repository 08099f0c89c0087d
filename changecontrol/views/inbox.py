"""What a person was told, newest first."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from changecontrol import clock
from changecontrol.actions.inbox import read_messages
from changecontrol.forms.inbox import ReadForm
from changecontrol.models import Message, User
from changecontrol.queries.inbox import messages_of, unread_count
from changecontrol.views.edge import actor_of
from changecontrol.views.pages import next_url, page

PAGE_SIZE = 50
ICONS = {
    "approval": "user-check",
    "rejected": "circle-x",
    "assessment": "traffic-lights",
    "scheduled": "calendar-check",
    "held": "player-pause",
    "canceled": "ban",
    "closed": "circle-check",
    "started": "rocket",
}


@page
@require_safe
def inbox(request: HttpRequest) -> HttpResponseBase:
    """List one's own messages, page by page by key."""
    person = _person(request)
    rows = messages_of(person)
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) <= 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: PAGE_SIZE + 1])
    has_more, found = len(found) > PAGE_SIZE, found[:PAGE_SIZE]
    unread = unread_count(person)
    context = {
        "rows": [_row(one) for one in found],
        "unread": unread,
        "title": f"{unread} unread" if unread else "Inbox",
        "older_url": f"{reverse('inbox')}?before={found[-1].pk}" if has_more else "",
        "newer_url": reverse("inbox") if before else "",
    }
    return render(request, "changecontrol/inbox.html", context)


def _row(message: Message) -> dict[str, Any]:
    icon = next((icon for word, icon in ICONS.items() if word in message.tag), "mail")
    return {
        "id": message.pk,
        "subject": message.subject,
        "text": message.text,
        "url": message.path,
        "at": message.created_at,
        "is_unread": message.read_at is None,
        "icon": icon,
        "mail": _mail_words(message),
    }


def _mail_words(message: Message) -> str:
    if message.sent_at:
        return "also sent by e-mail"
    if message.problem:
        return "the e-mail could not be sent"
    return "the e-mail is on its way" if message.next_due_at else ""


@page
@require_POST
def read(request: HttpRequest) -> HttpResponseBase:
    """Mark one message as read, or all, and go on."""
    form = ReadForm(request.POST)
    message_id = form.cleaned_data["message"] if form.is_valid() else None
    if form.is_valid():
        read_messages(actor=actor_of(request), message_id=message_id, at=clock.now())
    return redirect(next_url(request, reverse("inbox")))


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
