"""What every page of a person who is signed in has in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_cache_control
from django.utils.http import url_has_allowed_host_and_scheme

from changecontrol import clock
from changecontrol.actions.evidence import note_reading
from changecontrol.models import User
from changecontrol.queries.audit import SAME_READING, has_just_read
from changecontrol.rules.roles import Role
from changecontrol.views.edge import actor_of, scope_for
from changecontrol.views.wording import words

P = ParamSpec("P")
NOT_TYPED = frozenset({"csrfmiddlewaretoken", "seen_version", "seen_digest", "step", "then", "next", "verb"})
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def page(view: View[P]) -> View[P]:
    """Show a page to people who are signed in, with times in their own zone. Nothing of it is kept by a cache.

    What an auditor opens (a change, a run, a piece of evidence: whatever has a name of its own) is recorded (AUD-8).
    A stranger goes to the sign-in page and comes back; a fragment asked by script answers 401 instead. Whoever was
    signed out while they wrote gets back what they wrote, and the way to where they wrote it.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not isinstance(request.user, User):
            if request.headers.get("HX-Request"):
                return HttpResponse("Sign in first.", status=401, content_type="text/plain; charset=utf-8")
            if request.method == "POST" and (typed := _typed(request)):
                return _signed_out(request, typed)
            return redirect(_sign_in(request.get_full_path() if request.method == "GET" else reverse("home")))
        with timezone.override(ZoneInfo(request.user.zone)):
            response = view(request, *args, **kwargs)
        patch_cache_control(response, private=True, no_store=True)
        is_download = response.has_header("Content-Disposition")  # its action records who took it
        if kwargs and response.status_code == 200 and request.method == "GET" and not is_download:
            _note_reading(request)
        return response

    return wrapped  # type: ignore[return-value]  # functools.wraps loses that the request comes first


def _note_reading(request: HttpRequest) -> None:
    if Role.AUDITOR not in scope_for(request).roles:
        return
    actor, at, path = actor_of(request), clock.now(), request.path[:400]
    # Parts that a page asks for again by script are read with the page; anybody may send the header, so the trail says.
    if request.headers.get("HX-Request") and has_just_read(actor.person, path=path, since=at - SAME_READING):
        return
    note_reading(actor=actor, asked={"path": path}, at=at)


def _sign_in(and_then: str) -> str:
    return f"{reverse(settings.LOGIN_URL)}?{urlencode({'next': and_then})}"


def _typed(request: HttpRequest) -> list[dict[str, str]]:
    """Return what a person wrote into a form, without what its page wrote for them and without secrets."""
    return [
        {"label": words(name.replace("-", "_")).capitalize(), "value": value.strip()}
        for name, values in request.POST.lists()
        for value in values
        if value.strip() and name not in NOT_TYPED and "password" not in name
    ]


def _signed_out(request: HttpRequest, typed: list[dict[str, str]]) -> HttpResponse:
    came_from = urlsplit(request.headers.get("Referer", ""))
    where = came_from._replace(scheme="", netloc="", fragment="").geturl()
    is_ours = came_from.netloc == request.get_host() and where.startswith("/")
    context = {"typed": typed, "sign_in_url": _sign_in(where if is_ours else reverse("home"))}
    response = render(request, "changecontrol/signed_out.html", context, status=401)
    patch_cache_control(response, private=True, no_store=True)
    return response


def next_url(request: HttpRequest, fallback: str) -> str:
    """Return where the person wants to go on, where that is an address of this site."""
    wanted = request.POST.get("next", "") or request.GET.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    # A path: anything else would be taken for the name of a view, which need not be there.
    return wanted if wanted.startswith("/") and is_ours else fallback
