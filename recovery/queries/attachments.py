"""Which copy of the attachments goes with a time: the first one taken at it or later, of the place they then lay in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from django.db.models import Max

from changecontrol.errors import Permanent
from recovery.models import FilestoreCopy, RecoveryPoint
from recovery.models.backup import BackupKind
from recovery.rules.attachments import Place, place_at, places_in_turn


def places_of(environments: Collection[int]) -> Mapping[int, Mapping[str, list[Place]]]:
    """Return where attachments lay that were copied, in turn, by environment and store: in one statement."""
    kept = FilestoreCopy.objects.filter(environment__in=environments, removed_at__isnull=True).order_by()
    columns = ("environment_id", "policy__store", "policy", "policy__filestore", "policy__created_at")
    found: dict[int, dict[str, list[Place]]] = {key: {} for key in environments}
    for key, store, policy, address, since, newest in kept.values_list(*columns).annotate(newest=Max("taken_at")):
        found[key].setdefault(store, []).append(Place(address, since, newest, frozenset({policy})))
    return {key: {store: places_in_turn(rows) for store, rows in stores.items()} for key, stores in found.items()}


def copy_for(point: RecoveryPoint, target_at: datetime) -> FilestoreCopy | None:
    """Return the copy of attachments that goes with a time, in the point's store; None where none are copied.

    Odoo only adds files and removes those that nothing names, and a copy holds those a while longer, so a later copy
    holds what an earlier moment needs. With a dump goes the copy that was taken for it: one that began while it was
    dumped may lack what it names. Raises `Permanent` where attachments are copied and none goes with that time.
    """
    if point.kind == BackupKind.DUMP and hasattr(point, "filestore_copy"):
        return point.filestore_copy
    stores = places_of([point.environment_id])[point.environment_id]
    places = stores.get(point.policy.store, [])
    if not places and not (stores and point.filestore_at is not None):
        return None
    rows = FilestoreCopy.objects.filter(environment=point.environment_id, removed_at__isnull=True)
    if (place := place_at(target_at, places)) is not None:
        found = rows.filter(policy__in=place.policies, taken_at__gte=target_at).order_by("taken_at", "pk").first()
        if found is not None:
            return found
    raise Permanent("No copy of the attachments was taken at that time or after it: choose an earlier time.")
