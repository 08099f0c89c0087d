"""One recovery point: what it is made of, what was proved of it, what it needs, and what keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from changecontrol import clock
from changecontrol.errors import Conflict, Invalid
from changecontrol.rules.roles import Ability
from changecontrol.templatetags.numbers import size as size_words
from changecontrol.templatetags.times import age, duration, moment, second_time, short_moment
from changecontrol.views.edge import STATUS, actor_of
from changecontrol.views.pages import page
from changecontrol.views.wording import counted
from recovery.actions.drills import drill_point
from recovery.forms.holds import HoldForm
from recovery.lifecycles.point import KEPT, PointState
from recovery.models import PointCopy, RecoveryPoint
from recovery.models.policy import Engine
from recovery.ports.postgres import format_lsn
from recovery.queries import catalogue
from recovery.queries.drills import levels_of
from recovery.queries.points import retention_of
from recovery.queries.policies import policy_in_force
from recovery.rules.locks import PromisedLock, lock_problem
from recovery.rules.verification import LEVELS, VERIFIED_FROM
from recovery.views.hold_facts import hold_rows
from recovery.views.lookup import point_or_404, why_not

LEVEL_WORDS = frozenset(str(level) for level in LEVELS)
KINDS = {"base": "A full base backup", "incremental": "An incremental backup", "dump": "A dump"}


@page
@require_GET
def point(request: HttpRequest, point_id: int) -> HttpResponse:
    return show_point(request, point_or_404(request, point_id), form=HoldForm())


@page
@require_POST
def point_drill(request: HttpRequest, point_id: int) -> HttpResponseBase:
    """Begin a drill of this point at its own moment. A refusal comes back on its page."""
    found = point_or_404(request, point_id)
    level = request.POST.get("level", "")
    try:
        drill = drill_point(
            actor=actor_of(request),
            point_id=found.pk,
            level=int(level) if level in LEVEL_WORDS else 0,
            at=clock.now(),
        )
    except (Conflict, Invalid) as refusal:
        return show_point(request, found, form=HoldForm(), refusal=refusal.sentence, status=STATUS[type(refusal)])
    messages.success(request, "The drill begins within 10 s.")
    return redirect("drill", drill_id=drill.pk)


def show_point(
    request: HttpRequest, found: RecoveryPoint, *, form: HoldForm, refusal: str = "", status: int = 200
) -> HttpResponse:
    """Render the page as it stands now; with what was refused on it, and why."""
    at = clock.now()
    holds = [*catalogue.holds_on(found.environment), *found.holds.all()]
    chain = catalogue.chain_of(found)
    context = {
        "point": found,
        "environment": found.environment,
        "lede": _lede(found),
        "facts": _facts(found, at=at),
        "parts": [{"part": one, "took": one.finished_at - one.started_at} for one in found.parts.all()],
        "copies": [{"copy": one, "lock": _lock(found, one)} for one in found.copies.all()],
        "verifications": list(found.verifications.all()),
        "needs": chain.needs,
        "needed_by": chain.needed_by,
        "stays": _stays(found, at=at),
        "holds": hold_rows(one for one in holds if one.lifted_at is None),
        "hold_url": reverse("hold-point", args=[found.pk]),
        "lifted": [one for one in holds if one.lifted_at is not None],
        "times": _times(found),
        "origin": _origin(found),
        "modules": sorted(found.modules.items()),
        "is_kept": found.state in KEPT,
        "form": form,
        "refusal": refusal,
        "levels": levels_of(found.environment, point=found),
        "drill_refusal": why_not(request, Ability.RECOVERY_DRILL, found.environment),
        "hold_refusal": why_not(request, Ability.RECOVERY_HOLD, found.environment),
        "at": at,
    }
    return render(request, "recovery/point.html", context, status=status)


def _lede(found: RecoveryPoint) -> str:
    sentence = f"{KINDS[found.kind]} of {found.environment}, consistent at {moment(found.consistent_at)}."
    if found.state == PointState.REMOVED:
        return f"{sentence} Its bytes are gone; what is known of it stays."
    if found.state == PointState.COPIED:
        return f"{sentence} Copied, no more: it was never restored, started and questioned."
    return sentence


def _facts(found: RecoveryPoint, *, at: datetime) -> list[dict[str, Any]]:
    takes = found.finished_at - found.started_at
    return [
        {
            "label": "Level reached",
            "value": f"L{found.level}" if found.level else "none",
            "note": "of 5" if found.level >= VERIFIED_FROM else f"L{VERIFIED_FROM} is needed to count as verified",
            "state": "alarm" if found.state == PointState.BROKEN else "",
        },
        {
            "label": "Last checked",
            "value": f"{age(found.checked_at, at)} ago" if found.checked_at else "never",
            "note": moment(found.checked_at) if found.checked_at else "only drills check it",
        },
        {"label": "Size", "value": size_words(found.size), "note": counted(len(found.parts.all()), "part")},
        {"label": "Taken in", "value": duration(takes), "note": f"until {second_time(found.finished_at)}"},
        {"label": "Copies", "value": str(len(found.copies.all())), "note": "each with every part"},
    ]


def _times(found: RecoveryPoint) -> list[dict[str, Any]]:
    """Return when what happened, in order, and at which positions of the WAL."""
    positions = bool(found.stop_lsn)
    rows: list[dict[str, Any]] = [
        {
            "label": "Begun",
            "at": found.started_at,
            "note": f"WAL from {format_lsn(found.start_lsn)}" if positions else "",
        },
        {
            "label": "Consistent",
            "at": found.consistent_at,
            "note": f"WAL to {format_lsn(found.stop_lsn)}, timeline {found.timeline}" if positions else "",
        },
        {"label": "Attachments copied", "at": found.filestore_at, "note": _attachments(found)},
        {"label": "Finished", "at": found.finished_at, "note": ""},
        {"label": "Counts as locked until", "at": found.locked_until, "note": _counted_by(found)},
        {
            "label": "Removal asked",
            "at": found.removal_asked_at,
            "note": f"by {found.removal_asked_by}" if found.removal_asked_by else "",
        },
        {"label": "Removed", "at": found.removed_at, "note": _old_versions(found)},
    ]
    return [one for one in rows if one["at"]]


def _counted_by(found: RecoveryPoint) -> str:
    if found.policy.engine == Engine.EXTERNAL:
        return "as it was registered; no store is asked"
    return "by the policy; what a store says is beside its copy"


def _lock(found: RecoveryPoint, copy: PointCopy) -> str:
    """Say what a store told of its lock on a copy; nothing where no lock was promised, so that none was asked for."""
    if copy.lock_told_at is None:
        return "the store does not say whether it locks it" if found.policy.lock_days else ""
    said = f"as the store said at {short_moment(copy.lock_told_at)}"
    if copy.locked_until is None:
        return f"not locked, {said}"
    lock = PromisedLock(found.key, copy.store, found.started_at, found.policy.lock_days, copy.locked_until)
    sooner = ", sooner than the policy promises" if lock_problem(lock) else ""
    return f"locked until {short_moment(copy.locked_until)}{sooner}, {said}"


def _old_versions(found: RecoveryPoint) -> str:
    """Say up to when the bucket keeps what was removed, so far as the point's policy tells."""
    if found.removed_at is None or not found.policy.version_days:
        return ""
    until = found.removed_at + timedelta(days=found.policy.version_days)
    return f"old versions stay until {short_moment(until)}, as the bucket is set, which is not asked"


def _attachments(found: RecoveryPoint) -> str:
    copy = getattr(found, "filestore_copy", None)
    fits = "after the database, so that the pair fits"
    return f"{counted(copy.file_count, 'file')}, {size_words(copy.byte_count)}, {fits}" if copy else fits


def _origin(found: RecoveryPoint) -> list[dict[str, Any]]:
    """Return what the set belongs to: the server, the code and the policy (BCK-2)."""
    run = found.run
    registered = "registered by another tool" if found.policy.engine == Engine.EXTERNAL else "taken in from the store"
    asked = run.origin if run else registered
    pairs: list[dict[str, Any]] = [
        {"label": "Server", "value": f"PostgreSQL {found.server_version}" if found.server_version else ""},
        {"label": "System identifier", "value": found.system_identifier, "is_code": True},
        {"label": "Git commit", "digest": found.git_commit, "value": found.git_commit},
        {"label": "Image", "digest": found.image, "value": found.image},
        *_operated(found.cluster_facts),
        {"label": "Policy", "value": f"version {found.policy.version}"},
        {"label": "Backup", "value": asked, "note": run.reason if run else ""},
    ]
    return [one for one in pairs if one["value"]]


def _operated(facts: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return where an operator keeps the base backup, which lies among no parts of ours."""
    if facts is None:
        return []
    place = facts.get("destination") or f"ObjectStore {facts.get('object_store') or 'that the cluster names'}"
    where = f"of cluster {facts['name']}, in {place}"
    return [{"label": "Kept by CloudNativePG", "value": facts["backup"], "note": where}]


def _stays(found: RecoveryPoint, *, at: datetime) -> tuple[str, ...]:
    """Return why retention keeps a point that is kept; empty where it would go."""
    policy = policy_in_force(found.environment)
    if policy is None or found.state not in KEPT:
        return ()
    return retention_of(policy, at=at).stays.get(found.key, ())
