"""The audit trail as a page: filtered, read by key, each read recorded; one change's chains verified."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.actions.evidence import note_reading
from changecontrol.errors import Forbidden, NotFound
from changecontrol.forms.audit import AuditForm
from changecontrol.models import AuditEvent, ChangeRequest, Tenant
from changecontrol.queries.administration import tenants_with
from changecontrol.queries.audit import AuditPage, AuditRow, audit_page
from changecontrol.queries.changes import change_by_number
from changecontrol.queries.trail import ChainVerdict, chain_of
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.timeline import entry_of
from changecontrol.views.wording import and_list, counted

PAGE_SIZE = 25
ASKED = ("since", "until", "tag", "tenant", "actor", "subject")
_SUBJECT = re.compile(r"([a-z]+):(\d{1,18})")
_PAGES = {
    "run": ("run", "run"),
    "window": ("window", "window"),
    "backuprun": ("backup", "backup"),
    "recoverypoint": ("recovery point", "point"),
    "restore": ("restore", "restore"),
    "drill": ("drill", "drill"),
}
"""What a subject is called and the name of its page, which apps on top of this one may have; by its model."""


@page
@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    scope = scope_for(request)
    tenants = tenants_with(scope, Ability.AUDIT_VIEW)
    if not tenants and Ability.AUDIT_VIEW not in scope.abilities(scope.everywhere):
        raise Forbidden(access.why_not(scope, Ability.AUDIT_VIEW))
    form = AuditForm(request.GET, tenants=tenants)
    asked = {key: value for key in ASKED if (value := request.GET.get(key, "").strip())}
    found = AuditPage(rows=(), newer=None, older=None)
    change = verdict = None
    if form.is_valid():
        found = audit_page(
            scope, wanted=form.wanted, before=_key(request, "before"), after=_key(request, "after"), size=PAGE_SIZE
        )
        change = _change(scope, form.number)
        verdict = chain_of(change) if change is not None else None
        _record(request, asked)
    context: dict[str, Any] = {
        "lede": f"You read the trail of {_whose(tenants)}. What you read is recorded.",
        "form": form,
        "rows": [_row(one) for one in found.rows],
        "newer_url": _page_url(asked, after=found.newer),
        "older_url": _page_url(asked, before=found.older),
        "change": change,
        "verdict": verdict,
        "verdict_words": _verdict_words(verdict),
        "may_export": change is not None and Ability.EVIDENCE_EXPORT in access.abilities_for(scope, change),
        "pack": f"{change.number}.zip" if change else "CHG-000142.zip",
        "zone_note": f"newest first · times in {timezone.get_current_timezone_name()}",
        "is_filtered": bool(asked),
    }
    return render(request, "changecontrol/audit.html", context, status=200 if form.is_valid() else 422)


def _whose(tenants: list[Tenant]) -> str:
    return and_list([one.name for one in tenants]) or "the platform"


def _record(request: HttpRequest, asked: dict[str, str]) -> None:
    """Record what was read, as the API does: an auditor's reading is part of the trail."""
    keys = {key: request.GET[key] for key in ("before", "after") if request.GET.get(key)}
    note_reading(actor=actor_of(request), asked={**asked, **keys}, at=clock.now())


def _change(scope: Scope, number: str) -> ChangeRequest | None:
    """Return the change that was asked for, where its trail may be read."""
    if not number:
        return None
    try:
        change = change_by_number(scope, number)
    except NotFound:
        return None
    return change if Ability.AUDIT_VIEW in access.abilities_for(scope, change) else None


def _verdict_words(verdict: ChainVerdict | None) -> str:
    if verdict is None:
        return ""
    if verdict.problem:
        return verdict.problem
    chains = "one unbroken chain" if verdict.chain_count == 1 else f"{verdict.chain_count} unbroken chains"
    return f"{counted(verdict.event_count, 'event')} in {chains}, each up to its end."


def _row(row: AuditRow) -> dict[str, Any]:
    event = row.event
    label, url = _subject(event)
    return {
        **entry_of(event),
        "sequence": event.pk,
        "tag": event.tag,
        "actor": str(event.actor) if event.actor else "nobody signed in",
        "subject": label,
        "url": url,
        "source": ", ".join(part for part in (row.source_address, row.via) if part),
    }


def _subject(event: AuditEvent) -> tuple[str, str]:
    """Return what an event is about and where that can be read, where it has a page."""
    if event.change is not None:
        return event.change.number, event.change.get_absolute_url()
    found = _SUBJECT.fullmatch(event.subject)
    if found and found.group(1) in _PAGES:
        label, name = _PAGES[found.group(1)]
        return f"{label} {found.group(2)}", reverse(name, args=[int(found.group(2))])
    return event.subject.replace(":", " "), ""


def _page_url(asked: dict[str, str], **key: int | None) -> str:
    chosen = {name: value for name, value in key.items() if value is not None}
    return f"?{urlencode({**asked, **chosen})}" if chosen else ""


def _key(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
