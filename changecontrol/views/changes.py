"""The list of changes, and the guided form that files one and writes its next revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from changecontrol import access, clock
from changecontrol.actions import changes as actions
from changecontrol.errors import Conflict, Forbidden, Invalid
from changecontrol.forms.changes import NewChangeForm, StepForm, Surroundings, WhereForm
from changecontrol.forms.listing import ChangeFilterForm
from changecontrol.lifecycles.change import CHANGE
from changecontrol.models import ChangeRequest, User
from changecontrol.queries import estate
from changecontrol.queries.changes import change_by_number, changes_page, environment_slugs
from changecontrol.rules.content import Content
from changecontrol.rules.roles import Ability
from changecontrol.views import drafts
from changecontrol.views.drafts import Slip
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import share_of, words


@page
@require_safe
def changes(request: HttpRequest) -> HttpResponseBase:
    """List the changes in sight, newest first, page by page by key."""
    scope = scope_for(request)
    tenants = [(one.slug, one.name) for one in estate.tenants_of(scope)]
    form = ChangeFilterForm(request.GET, tenants=tenants)
    wanted = form.wanted()
    found = changes_page(scope, wanted=wanted, before=_key(request, "before"), after=_key(request, "after"))
    person = _person(request)
    context = {
        "form": form,
        "rows": [_row(one) for one in found.rows],
        "is_filtered": any(request.GET.get(name) for name in form.fields),
        "newer_url": _with(request, after=found.newer),
        "older_url": _with(request, before=found.older),
        "may_create": bool(drafts.tenant_keys_for_new(scope)),
        "tabs": [
            {"label": "All", "url": reverse("changes"), "is_current": not request.GET.get("person")},
            {
                "label": "Mine",
                "url": f"{reverse('changes')}?person={person.username}",
                "is_current": wanted.requester == person.username,
            },
        ],
    }
    return render(request, "changecontrol/changes.html", context)


def _row(change: ChangeRequest) -> dict[str, Any]:
    places = environment_slugs(change)
    return {
        "title": change.title,
        "url": change.get_absolute_url(),
        "number": change.number,
        "meta": f"{words(change.type)}, {words(change.kind)} · {change.tenant} · asked by {change.requester}",
        "state": change.close_code or change.state if change.state == "closed" else change.state,
        "is_submitted": change.revision_id is not None,
        "stage": words(change.stage),
        "tier": change.tier,
        "risk": words(change.risk_level),
        "store_count": change.store_count,
        "share": share_of(change),
        "environments": ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else ""),
        "planned_start_at": change.planned_start_at,
        "updated_at": change.updated_at,
    }


def _key(request: HttpRequest, name: str) -> int | None:
    given = request.GET.get(name, "")
    return int(given) if given.isdecimal() and len(given) <= 18 else None


def _with(request: HttpRequest, **keys: int | None) -> str:
    """Return the address of the neighbouring page under the same filter; empty where there is none."""
    if not any(keys.values()):
        return ""
    query = QueryDict(mutable=True)
    for name in request.GET:
        if name not in {"before", "after"} and (value := request.GET.get(name)):
            query[name] = value
    for name, key in keys.items():
        query[name] = str(key)
    return f"{reverse('changes')}?{query.urlencode()}"


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponseBase:
    """Ask the first step; answering it files a draft with a number."""
    tenants = drafts.tenants_for_new(scope_for(request))
    if not tenants:
        raise Forbidden("Filing a change needs the role engineer or incident commander on a tenant.")
    form = NewChangeForm(request.POST or None, content={}, around=Surroundings(), tenants=tenants)
    if request.method != "POST" or not form.is_valid():
        return _show_new(request, form, status=422 if request.method == "POST" else 200)
    given = form.cleaned_data
    actor, at = actor_of(request), clock.now()
    try:
        change = actions.create_change(
            actor=actor, tenant_id=int(given["tenant"]), title=given["title"], type=given["type"], at=at
        )
    except Invalid as refusal:
        return _show_new(request, form, left=drafts.tell([form], refusal), status=422)
    content = drafts.answers_of([form], change.draft)
    actions.save_draft(actor=actor, change_id=change.pk, content=content, seen_version=change.draft_version, at=at)
    messages.success(request, f"Kept as {change.number}. You can leave at any time and go on later.")
    return redirect(f"{reverse('change-edit', args=[change.number])}?step={WhereForm.key}")


def _show_new(
    request: HttpRequest, form: NewChangeForm, *, left: Sequence[Slip] = (), status: int = 200
) -> HttpResponse:
    context = {"form": form, "forms": [form], "slips": drafts.slips_of([form], left) if form.is_bound else []}
    return render(request, "changecontrol/change_new.html", context, status=status)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, number: str) -> HttpResponseBase:
    """Ask one step of a draft, or all of them; a submitted change gets its next revision from all of them."""
    scope = scope_for(request)
    change = change_by_number(scope, number)
    abilities = access.abilities_for(scope, change)
    if Ability.CHANGE_EDIT not in abilities:
        raise Forbidden(access.why_not(scope, Ability.CHANGE_EDIT))
    if change.state not in actions.DRAFTABLE and not CHANGE.allows("revise", change.state):
        raise Conflict(f"This change is at “{words(change.state)}”; what it asks for can no longer be edited.")
    key = request.POST.get("step") or request.GET.get("step") or drafts.STEPS[0].key
    if key not in drafts.keys_of(change) or _is_revision(change):
        key = drafts.ALL
    surroundings = drafts.around(scope, change.tenant_id)
    content = _content(change)
    if request.method != "POST":
        forms = drafts.forms_of(change, key, content=content, surroundings=surroundings)
        return _show(request, change, key, forms)
    forms = drafts.forms_of(change, key, content=content, surroundings=surroundings, data=request.POST)
    if any([not form.is_valid() for form in forms]):  # noqa: C419 - every form finds its own errors
        return _show(request, change, key, forms, status=422)
    return _save(request, change, key, forms, drafts.answers_of(forms, content))


def _is_revision(change: ChangeRequest) -> bool:
    return change.state not in actions.DRAFTABLE


def _content(change: ChangeRequest) -> Mapping[str, Any]:
    return change.revision.content if _is_revision(change) else change.draft  # type: ignore[no-any-return]


def _save(
    request: HttpRequest, change: ChangeRequest, key: str, forms: Sequence[StepForm], content: Mapping[str, Any]
) -> HttpResponse:
    actor, at = actor_of(request), clock.now()
    then = request.POST.get("then", "next")
    try:
        seen = request.POST.get("seen_version", "")
        version = int(seen) if seen.isdecimal() and len(seen) < 9 else -1
        if _is_revision(change):
            if version != change.draft_version:
                raise Conflict("Another revision was submitted meanwhile. Compare before you submit yours over it.")
            actions.revise_change(actor=actor, change_id=change.pk, content=content, at=at)
            messages.success(request, "The new revision is submitted. The gates judge it now.")
            return redirect(change)
        change = actions.save_draft(actor=actor, change_id=change.pk, content=content, seen_version=version, at=at)
        if then == "submit":
            submission = actions.submit_change(actor=actor, change_id=change.pk, at=at)
            messages.success(request, "Submitted. The gates judge it now.")
            for warning in submission.warnings:
                messages.warning(request, warning)
            return redirect(change)
    except Invalid as refusal:
        return _show(request, change, key, forms, left=drafts.tell(forms, refusal), status=422)
    except Conflict as refusal:
        return _show(request, change, key, forms, refusal=refusal.sentence, status=409)
    if then == "leave":
        messages.success(request, "The draft is saved.")
        return redirect(change)
    return redirect(f"{reverse('change-edit', args=[change.number])}?step={drafts.next_key(change, key)}")


def _show(
    request: HttpRequest,
    change: ChangeRequest,
    key: str,
    forms: Sequence[StepForm],
    *,
    left: Sequence[Slip] = (),
    refusal: str = "",
    status: int = 200,
) -> HttpResponse:
    # Read again: the version a person goes on from is the one that is saved now, also after a conflict.
    change = change_by_number(scope_for(request), change.number)
    content = Content.from_json(_content(change))
    surroundings = forms[0].around
    chosen = [one for one in surroundings.environments if one.slug in content.environments]
    context = {
        "change": change,
        "key": key,
        "is_all": key == drafts.ALL,
        "is_revision": _is_revision(change),
        "forms": forms,
        "slips": drafts.slips_of(forms, left) if status != 200 else [],
        "refusal": refusal,
        "step_links": [] if _is_revision(change) else drafts.step_links(change, key),
        "so_far": drafts.so_far(change, scope_for(request), content, at=clock.now()),
        "sources": drafts.sources_of(chosen),
        "problem": change.problem,
    }
    return render(request, "changecontrol/change_edit.html", context, status=status)


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
