"""The page of one change: what is asked, how it is judged, who agrees, what happened, and what may be done now."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from changecontrol import access, clock
from changecontrol.actions import changes as actions
from changecontrol.actions.evidence import open_artefact
from changecontrol.actions.exports import export_evidence_pack
from changecontrol.errors import DomainError, Invalid, NotFound
from changecontrol.forms.lifecycle import CloseForm, HandOverForm, ReasonForm, ScheduleForm
from changecontrol.models import Artefact, ChangeRequest
from changecontrol.views.change_page import change_of, live_facts, page_facts
from changecontrol.views.edge import STATUS, actor_of, scope_for
from changecontrol.views.gate_facts import JUDGING
from changecontrol.views.lifecycle import people_for
from changecontrol.views.pages import page

SAID = {
    "submit": "Submitted. The gates judge it now.",
    "hold": "On hold. Nothing is asked or started.",
    "release": "The hold is over. It is judged again now.",
    "cancel": "Canceled. It is never carried out.",
    "schedule": "The start is set.",
    "close": "Closed.",
    "hand-over": "Handed over.",
}


@page
@require_safe
def change(request: HttpRequest, number: str) -> HttpResponseBase:
    """Show a change; `?part=live` gives what moves while its gates are judged."""
    found = change_of(request, number)
    if request.GET.get("part") == "live":
        return _live(request, found)
    return render(request, "changecontrol/change.html", page_facts(request, found))


def _live(request: HttpRequest, found: ChangeRequest) -> HttpResponse:
    """Answer the page that asks again while gates are judged; afterwards tell it to load itself anew, and stop."""
    if found.state not in JUDGING:
        response = HttpResponse(status=204)
        response["HX-Refresh"] = "true"
        return response
    return render(request, "changecontrol/change_gates.html", live_facts(request, found, at=clock.now()))


@page
@require_safe
def difference(request: HttpRequest, number: str) -> HttpResponseBase:
    """Compare the current revision with the one that `?against=` names."""
    found = change_of(request, number)
    asked = request.GET.get("against", "")
    against = int(asked) if asked.isdecimal() and len(asked) < 9 else None
    facts = page_facts(request, found, against=against)
    return render(request, "changecontrol/change_difference.html", facts)


@page
@require_POST
def act(request: HttpRequest, number: str, verb: str) -> HttpResponseBase:
    """Take one step of the lifecycle, then show the change again."""
    found = change_of(request, number)
    if verb not in _ACTS:
        raise NotFound("There is no such step.")
    try:
        said = _ACTS[verb](request, found)
    except DomainError as refusal:
        return refused(request, found, refusal)
    messages.success(request, said)
    return redirect(found)


def refused(request: HttpRequest, found: ChangeRequest, refusal: DomainError) -> HttpResponse:
    """Show the change as it is now, with the sentence that says why nothing was done."""
    found = change_of(request, found.number)
    # What is wrong with an answer is said here too: the fields that it belongs to are on another page.
    fields = refusal.fields.values() if isinstance(refusal, Invalid) else ()
    sentences = dict.fromkeys((refusal.sentence, *(one for found in fields for one in found)))
    facts = page_facts(request, found) | {"refusal": " ".join(sentences)}
    return render(request, "changecontrol/change.html", facts, status=STATUS[type(refusal)])


def _words(request: HttpRequest, found: ChangeRequest) -> dict[str, Any]:
    return {"actor": actor_of(request), "change_id": found.pk, "at": clock.now()}


def _reason(request: HttpRequest) -> str:
    form = ReasonForm(request.POST)
    if not form.is_valid():
        raise Invalid("Say it in at most 4,000 characters.")
    return str(form.cleaned_data["reason"])


def _submit(request: HttpRequest, found: ChangeRequest) -> str:
    seen = request.POST.get("seen_version", "")
    version = int(seen) if seen.isdecimal() and len(seen) < 9 else -1
    # Saving what was shown changes nothing, and is refused where another version was saved meanwhile.
    actions.save_draft(**_words(request, found), content=found.draft, seen_version=version)
    submission = actions.submit_change(**_words(request, found))
    for warning in submission.warnings:
        messages.warning(request, warning)
    return SAID["submit"]


def _hold(request: HttpRequest, found: ChangeRequest) -> str:
    actions.hold_change(**_words(request, found), reason=_reason(request))
    return SAID["hold"]


def _release(request: HttpRequest, found: ChangeRequest) -> str:
    actions.release_change(**_words(request, found))
    return SAID["release"]


def _cancel(request: HttpRequest, found: ChangeRequest) -> str:
    actions.cancel_change(**_words(request, found), reason=_reason(request))
    return SAID["cancel"]


def _schedule(request: HttpRequest, found: ChangeRequest) -> str:
    form = ScheduleForm(request.POST)
    if not form.is_valid():
        raise Invalid("Write the start as a date and a time, or leave it empty.")
    actions.schedule_change(**_words(request, found), planned_start_at=form.cleaned_data["planned_start_at"])
    return SAID["schedule"]


def _close(request: HttpRequest, found: ChangeRequest) -> str:
    form = CloseForm(request.POST)
    if not form.is_valid():
        raise Invalid("Choose how it ended.")
    given = form.cleaned_data
    actions.close_change(**_words(request, found), close_code=given["close_code"], note=given["note"])
    return SAID["close"]


def _hand_over(request: HttpRequest, found: ChangeRequest) -> str:
    form = HandOverForm(request.POST, people=people_for(found))
    if not form.is_valid():
        raise Invalid("Nobody with this name may own this change.")
    actions.hand_over_change(**_words(request, found), assignee_id=form.cleaned_data["assignee"])
    return SAID["hand-over"]


_ACTS = {
    "submit": _submit,
    "hold": _hold,
    "release": _release,
    "cancel": _cancel,
    "schedule": _schedule,
    "close": _close,
    "hand-over": _hand_over,
}


@page
@require_safe
def evidence_pack(request: HttpRequest, number: str) -> HttpResponseBase:
    """Download the pack that proves this change offline. That it was taken is recorded."""
    found = change_of(request, number)
    pack = export_evidence_pack(actor=actor_of(request), change_id=found.pk, at=clock.now())
    return FileResponse(pack.file, as_attachment=True, filename=pack.name, content_type="application/zip")


@page
@require_safe
def artefact(request: HttpRequest, number: str, sha256: str) -> HttpResponseBase:
    """Download one stored piece of evidence, once its bytes are seen to be the ones that were stored."""
    found = change_of(request, number)
    rows = access.visible(scope_for(request), Artefact.objects.filter(change=found, sha256=sha256))
    one = rows.order_by("id").first() if sha256.isalnum() else None
    if one is None:
        raise NotFound("There is no such piece of evidence.")
    opened = open_artefact(actor=actor_of(request), change_id=found.pk, artefact_id=one.pk, at=clock.now())
    # A download and never a page: whatever a gate wrote must not run in the reader's browser.
    response = HttpResponse(opened.data, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{opened.file_name}"'
    return response
