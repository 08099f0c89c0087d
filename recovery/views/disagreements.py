"""What catalogue and store disagree on, as finished facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from changecontrol.models import Environment
from recovery.models import Disagreement, Upkeep
from recovery.queries.comparison import places_of_adoption
from recovery.rules.comparison import LISTS, LOSSES, DifferenceKind

LABELS = {
    DifferenceKind.MISSING: ("bad", "lost"),
    DifferenceKind.WAL_MISSING: ("bad", "lost"),
    DifferenceKind.EMPTY: ("bad", "nothing there"),
    DifferenceKind.UNKNOWN_SET: ("warn", "not in the catalogue"),
    DifferenceKind.ORPHAN: ("", "orphan"),
}


def rows_of(environment: Environment, found: Sequence[Disagreement]) -> list[dict[str, Any]]:
    """Return what the lines of an environment show."""
    stores = {one.store for one in found if one.kind == DifferenceKind.UNKNOWN_SET}
    places = places_of_adoption(environment.pk, stores=stores) if stores else {}
    refusals = {store: place for store, place in places.items() if isinstance(place, str)}
    return [_row_of(one, not_from_here=refusals.get(one.store, "")) for one in found]


def _row_of(one: Disagreement, *, not_from_here: str) -> dict[str, Any]:
    """Return what a line shows. `dialog` and `adoption` are where somebody decides on it; empty where nobody can."""
    tone, label = LABELS[DifferenceKind(one.kind)]
    is_unknown = one.kind == DifferenceKind.UNKNOWN_SET
    is_open = is_unknown and one.asked_at is None and one.adoption_asked_at is None
    return {
        "row": one,
        "name": "Lists of attachments" if one.name == LISTS else one.name,
        "tone": tone,
        "label": label,
        "icon": "alert-triangle" if one.kind in LOSSES else "",
        "stays": _stays(one, not_from_here=not_from_here),
        "dialog": f"let-go-{one.pk}" if is_open else "",
        "adoption": f"take-in-{one.pk}" if is_open and not not_from_here else "",
        "not_from_here": not_from_here if is_open else "",
    }


def _stays(one: Disagreement, *, not_from_here: str) -> str:
    """Say what becomes of it, where no time says so."""
    if one.goes_at is not None or one.asked_at is not None:
        return ""
    if one.kind == DifferenceKind.WAL_MISSING:
        return "until the next comparison: it is no longer counted on"
    if one.kind in LOSSES:
        return "until the store holds it again, or nothing names it"
    if one.kind == DifferenceKind.UNKNOWN_SET:
        return "until somebody lets it go" if not_from_here else "until somebody takes it in or lets it go"
    return "with the point that nobody has decided about"


def compared(row: Upkeep | None) -> dict[str, Any]:
    """Return when the stores were last compared, and what has kept that from being done since."""
    if row is None:
        return {"at": None, "trouble": "", "trouble_since": None}
    return {"at": row.done_at, "trouble": row.trouble, "trouble_since": row.trouble_since}
