"""The first question of a restore and of a drill: which environment."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from changecontrol.models import Environment
from recovery.forms.restores import EnvironmentForm


@dataclass(frozen=True, slots=True)
class Question:
    """What the page says. `parent` is label and address of the list it belongs to; `empty` is for none offered."""

    heading: str
    lede: str
    parent: dict[str, str]
    empty: str


def chosen_environment(
    request: HttpRequest, question: Question, *, offered: QuerySet[Environment]
) -> Environment | HttpResponse:
    """Return the environment that the request names among those offered, or the page that asks for it."""
    given = request.POST if request.method == "POST" else request.GET
    form = EnvironmentForm(given if "environment" in given else None, environments=offered, auto_id="%s")
    if form.is_valid():
        return next(one for one in offered if one.pk == form.cleaned_data["environment"])
    context = {**asdict(question), "form": form, "is_empty": not offered}
    return render(request, "recovery/choose_environment.html", context, status=422 if form.is_bound else 200)
