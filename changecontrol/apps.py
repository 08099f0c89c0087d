"""The app that owns changes, their approval and their proof."""

from __future__ import annotations

from django.apps import AppConfig


class ChangeControlConfig(AppConfig):
    name = "changecontrol"
    verbose_name = "Changes"

    def ready(self) -> None:
        from changecontrol.views import accounts  # noqa: F401  # connects the receivers of sign-in signals
