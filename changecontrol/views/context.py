"""What every page's frame shows: navigation, clocks, the person, the inbox. The contract is in docs/components.md."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from changecontrol import clock
from changecontrol.access import Scope
from changecontrol.models import Message, User
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import scope_for

SECTIONS: tuple[tuple[str, str, str, str, Ability], ...] = (
    # group that begins here, label, URL name, icon, who sees it
    ("", "Home", "home", "home", Ability.CHANGE_VIEW),
    ("", "Changes", "changes", "git-pull-request", Ability.CHANGE_VIEW),
    ("", "Approvals", "approvals", "checks", Ability.CHANGE_VIEW),
    ("", "Calendar", "calendar", "calendar-event", Ability.CHANGE_VIEW),
    ("", "Rollouts", "rollouts", "rocket", Ability.RUN_VIEW),
    ("Estate", "Estate", "estate", "building-store", Ability.ESTATE_VIEW),
    ("", "Recovery", "recovery", "lifebuoy", Ability.RECOVERY_VIEW),
    ("Proof", "Audit and evidence", "audit", "history", Ability.AUDIT_VIEW),
    ("", "Administration", "administration", "settings", Ability.ACCESS_VIEW),
)


def shell(request: HttpRequest) -> dict[str, Any]:
    """Give the frame its facts, computed only where a template reads them: fragments cost no statement for it."""
    theme = request.COOKIES.get("theme", "")
    facts: dict[str, Any] = {"theme": theme if theme in {"light", "dark"} else "", "home_url": "/"}
    user = getattr(request, "user", None)
    if isinstance(user, User):
        facts.update(
            nav=SimpleLazyObject(lambda: _sections(request)),
            person=SimpleLazyObject(lambda: _person(user, scope_for(request))),
            clocks=SimpleLazyObject(lambda: _clocks(user)),
            inbox_count=SimpleLazyObject(
                lambda: Message.objects.filter(recipient=user, read_at__isnull=True)[:99].count()
            ),
            waiting_url=reverse("waiting"),
            search_url=reverse("changes"),
            calendar_url=reverse("calendar"),
            inbox_url=reverse("inbox"),
            account_url=reverse("account"),
            sign_out_url=reverse("account_logout"),
        )
    return {"shell": facts}


def _sections(request: HttpRequest) -> list[dict[str, Any]]:
    scope = scope_for(request)
    held = scope.abilities(scope.roles)
    heading, found = "", []
    for group, label, name, icon, ability in SECTIONS:
        heading = group or heading
        if ability not in held:
            continue
        url = reverse(name)
        is_current = request.path == url or (url != "/" and request.path.startswith(url))
        count = {"approvals": "votes", "rollouts": "runs"}.get(name, "")
        found.append(
            {"label": label, "url": url, "icon": icon, "is_current": is_current, "heading": heading, "count": count}
        )
        heading = ""
    return found


def _person(user: User, scope: Scope) -> dict[str, str]:
    words = [role.label for role in sorted(scope.roles)]
    name = str(user)
    return {
        "name": name,
        "roles": ", ".join(words[:2]) + (f" and {len(words) - 2} more" if len(words) > 2 else "") or "No role yet",
        "initials": "".join(part[0] for part in name.split()[:2]).upper(),
    }


def _clocks(user: User) -> list[dict[str, Any]]:
    at = clock.now()
    zones = ["UTC"] if user.zone == "UTC" else [user.zone, "UTC"]
    return [{"label": zone.rpartition("/")[2].replace("_", " "), "time": at, "zone": zone} for zone in zones]
