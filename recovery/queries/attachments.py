"""Which copy of the attachments goes with a time: the first one taken at it or later, of the place they then lay in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from django.db.models import Exists, Max, OuterRef, Subquery

from changecontrol.errors import Permanent
from recovery.lifecycles.cut_over import CutOverState
from recovery.models import BackupPolicy, CutOver, FilestoreCopy, RecoveryPoint
from recovery.models.backup import BackupKind
from recovery.models.policy import Engine
from recovery.rules.attachments import Place, newest_until, place_at, places_in_turn
from recovery.rules.times import moment


def places_of(environments: Collection[int]) -> Mapping[int, Mapping[str, list[Place]]]:
    """Return where attachments lay, in turn, by environment and store where any are copied: in one statement.

    The versions of a policy tell it, whether something was copied by them yet or not: from when attachments move until
    their first copy, those of the place they left would be taken for theirs. Those of a folder that a restore into
    production had put in their place, and that was taken back, count for nothing: the old one holds every moment.
    """
    kept = FilestoreCopy.objects.filter(policy=OuterRef("pk"), removed_at__isnull=True).order_by()
    newest = kept.values("policy").annotate(newest=Max("taken_at")).values("newest")
    own = CutOver.objects.filter(environment=OuterRef("environment"), restore__target_filestore=OuterRef("filestore"))
    versions = (
        BackupPolicy.objects.filter(environment__in=environments)
        .exclude(filestore="")
        .annotate(
            newest=Subquery(newest),
            is_given_up=Exists(own.filter(state=CutOverState.ABANDONED, in_place_at__isnull=True))
            & ~Exists(own.filter(in_place_at__isnull=False)),
        )
    )
    columns = ("environment_id", "store", "pk", "filestore", "created_at", "newest", "is_given_up")
    found: dict[int, dict[str, list[Place]]] = {key: {} for key in environments}
    for key, store, policy, address, since, newest_at, is_given_up in versions.order_by().values_list(*columns):
        place = Place(address, since, newest_at, frozenset({policy}), is_given_up)
        found[key].setdefault(store, []).append(place)
    in_turn = {key: {store: places_in_turn(rows) for store, rows in stores.items()} for key, stores in found.items()}
    return {
        key: {store: places for store, places in stores.items() if any(one.newest for one in places)}
        for key, stores in in_turn.items()
    }


def copy_for(point: RecoveryPoint, target_at: datetime) -> FilestoreCopy | None:
    """Return the copy of attachments that goes with a time, in the point's store; None where none are copied.

    Odoo only adds files and removes those that nothing names, and a copy holds those a while longer, so a later copy
    holds what an earlier moment needs. With a dump goes the copy that was taken for it: one that began while it was
    dumped may lack what it names. With what another tool made goes none. Raises `Permanent` where attachments are
    copied and none goes with that time, with the last one that has a copy.
    """
    if point.policy.engine == Engine.EXTERNAL:
        return None
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
    safe = newest_until(target_at, places)
    if safe is None or safe < point.consistent_at:
        raise Permanent("No copy of the attachments was taken at that time or after it: choose an earlier time.")
    sentence = "No copy of the attachments was taken at that time or after it, of where they then lay."
    raise Permanent(f"{sentence} The last safe time before it is {moment(safe)}.")
