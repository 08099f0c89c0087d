"""What a person may do next about the recovery of an environment: bring it back, and practise that."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse

from changecontrol import access
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import scope_for
from recovery.actions.restores import ABILITY_FOR


def ways_on(request: HttpRequest, environment: Environment) -> list[dict[str, Any]]:
    """Return the ways on; one that the person may not take has its refusal in place of an address."""
    scope = scope_for(request)
    held = access.abilities_for(scope, environment)
    asked = urlencode({"environment": environment.pk})
    may_restore, may_drill = bool(held & set(ABILITY_FOR.values())), Ability.RECOVERY_DRILL in held
    return [
        {
            "label": "Restore",
            "icon": "database",
            "url": f"{reverse('restore-new')}?{asked}" if may_restore else "",
            "refusal": "" if may_restore else access.why_not(scope, Ability.RECOVERY_RESTORE),
        },
        {
            "label": "Hold a drill",
            "icon": "lifebuoy",
            "url": f"{reverse('drill-new')}?{asked}" if may_drill else "",
            "refusal": "" if may_drill else access.why_not(scope, Ability.RECOVERY_DRILL),
        },
    ]
