"""The pages of rollouts. `change-run` is a part of a change's page, found there by this name."""

from __future__ import annotations

from django.urls import path

from deployments.views import runs

urlpatterns = [
    path("rollouts/", runs.rollouts, name="rollouts"),
    path("runs/<int:run_id>/", runs.run, name="run"),
    path("runs/<int:run_id>/<slug:verb>/", runs.run_verb, name="run-verb"),
    path("changes/<str:number>/run/", runs.change_run, name="change-run"),
]
