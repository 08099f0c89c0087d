"""Finding what an address names, as somebody may see it. What is hidden is exactly as missing as what is not there."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model
from django.http import HttpRequest

from changecontrol import access
from changecontrol.errors import NotFound
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from changecontrol.views.edge import scope_for
from recovery.models import BackupRun, Disagreement, LegalHold, RecoveryPoint
from recovery.queries import catalogue, comparison

M = TypeVar("M", bound=Model)


def environment_or_404(request: HttpRequest, *, tenant: str, slug: str) -> Environment:
    return _found(catalogue.environment_named(scope_for(request), tenant=tenant, slug=slug), "environment")


def point_or_404(request: HttpRequest, point_id: int) -> RecoveryPoint:
    return _found(catalogue.point_named(scope_for(request), point_id), "recovery point")


def backup_or_404(request: HttpRequest, run_id: int) -> BackupRun:
    return _found(catalogue.backup_named(scope_for(request), run_id), "backup")


def hold_or_404(request: HttpRequest, hold_id: int) -> LegalHold:
    return _found(catalogue.hold_named(scope_for(request), hold_id), "legal hold")


def disagreement_or_404(request: HttpRequest, disagreement_id: int) -> Disagreement:
    return _found(comparison.disagreement_named(scope_for(request), disagreement_id), "difference")


def why_not(request: HttpRequest, ability: Ability, environment: Environment) -> str:
    """Return why somebody may not, for the place where the button would be; empty where they may."""
    scope = scope_for(request)
    return "" if ability in access.abilities_for(scope, environment) else access.why_not(scope, ability)


def key_of(request: HttpRequest, name: str) -> int | None:
    """Return the key that a page begins at, where the address gives one."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _found(found: M | None, what: str) -> M:
    if found is None:
        raise NotFound(f"There is no such {what}.")
    return found
