"""The Celery application: `celery -A changecontrol.project.celery worker`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "changecontrol.project.settings")

app = Celery("changecontrol")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["changecontrol"])


@signals.setup_logging.connect
def use_django_logging(**_: Any) -> None:
    """Keep Celery from installing handlers of its own: Django's settings have configured the logs already."""
