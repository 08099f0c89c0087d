"""The project's own app: system checks and start-up wiring."""

from __future__ import annotations

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    name = "changecontrol.project"
    label = "project"
    verbose_name = "ChangeControl"

    def ready(self) -> None:
        from changecontrol.project import celery, checks  # noqa: F401
