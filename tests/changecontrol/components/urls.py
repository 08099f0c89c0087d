"""The gallery behind the product's content security policy, with a shell of its own and no database."""

from __future__ import annotations

from types import SimpleNamespace

from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path

from changecontrol.templatetags.gallery import NOW

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def section(label: str, icon: str, **more: object) -> SimpleNamespace:
    return SimpleNamespace(**{"label": label, "icon": icon, "url": "#", "is_current": False, "badge": None, **more})


def shell(request: HttpRequest) -> SimpleNamespace:
    def badge(count: int, tone: str, label: str) -> SimpleNamespace:
        return SimpleNamespace(count=count, tone=tone, label=label)

    return SimpleNamespace(
        nav=[
            section("Home", "home", is_current=True),
            section("Changes", "git-pull-request"),
            section("Approvals", "checks", badge=badge(3, "mine", "wait for you")),
            section("Calendar", "calendar-event"),
            section("Rollouts", "rocket", badge=badge(1, "", "running")),
            section("Estate", "building-store", heading="Estate"),
            section("Drift", "git-compare", badge=badge(1, "bad", "unauthorised change")),
            section("Audit and evidence", "history", heading="Proof"),
            section("Administration", "settings"),
        ],
        person=SimpleNamespace(name="Ben", roles="Change manager", initials="B"),
        clocks=[
            SimpleNamespace(label="Lisbon", time=NOW, zone="Europe/Lisbon"),
            SimpleNamespace(label="Berlin", time=NOW, zone="Europe/Berlin"),
            SimpleNamespace(label="Helsinki", time=NOW, zone="Europe/Helsinki"),
        ],
        inbox_count=2,
        freeze_note="Peak trading freeze in 1 d 11 h",
        theme=request.COOKIES.get("theme", ""),
        home_url="/",
        account_url="#",
    )


def page(request: HttpRequest, template: str, *, status: int = 200) -> HttpResponse:
    answer = render(request, template, {"shell": shell(request)}, status=status)
    answer["Content-Security-Policy"] = POLICY
    return answer


def gallery(request: HttpRequest) -> HttpResponse:
    return page(request, "components/gallery.html")


def plain(request: HttpRequest) -> HttpResponse:
    return page(request, "layouts/plain.html")


def part(request: HttpRequest, kind: str) -> HttpResponse | HttpResponseRedirect | HttpResponsePermanentRedirect:
    """Answer what a test asks htmx to swap in: the status is the name of the part."""
    status = {"refused": 422, "stale": 409, "broken": 500}.get(kind, 200)
    body = (
        '<div id="part" data-announce="Wave 2: 12 of 20 healthy"><button id="again" name="again">Again</button></div>'
    )
    if request.method == "POST" and kind == "token":
        body = f'<div id="part">{request.headers.get("X-CSRFToken", "none")}</div>'
    return HttpResponse(body, status=status)


urlpatterns = [path("", gallery), path("plain/", plain), path("part/<str:kind>/", part)]
