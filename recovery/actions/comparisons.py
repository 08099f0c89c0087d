"""What comes of holding the catalogue against the stores: losses break points, what nobody named is kept or let go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime

from django.db import transaction

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import reason_of
from changecontrol.errors import Conflict
from changecontrol.events import Tag
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.actions.copies import remove_filestore_copy
from recovery.actions.locking import locked_difference
from recovery.actions.points import drop_copy, record_verification
from recovery.actions.refusals import audited
from recovery.actions.upkeep import ensure_upkeep
from recovery.actions.wal import NewSegment, record_segment
from recovery.lifecycles.point import RESTORABLE
from recovery.models import Disagreement, FilestoreCopy, RecoveryPoint, WalSegment
from recovery.models.point import UpkeepKind
from recovery.ports.postgres import format_lsn
from recovery.queries.comparison import WalRecorded, is_held, wal_recorded
from recovery.rules.comparison import GRACE, LISTS, Difference, DifferenceKind, WalSpan, without


@dataclass(frozen=True, slots=True)
class ListedWal:
    """The WAL that a store was seen to hold, and what the catalogue had in it before."""

    listed: tuple[NewSegment, ...]
    recorded: WalRecorded


@dataclass(frozen=True, slots=True)
class ComparedStore:
    """What one listing came to. `lost_lists` are keys of rows, `collected` names of what was removed."""

    store: str
    found: tuple[Difference, ...]
    lost_lists: tuple[int, ...] = ()
    collected: tuple[str, ...] = ()
    wal: ListedWal | None = None


def record_comparison(
    environment: Environment, *, compared: Iterable[ComparedStore], actor: Actor, at: datetime
) -> None:
    """Record what every store of a locked environment holds otherwise than the catalogue says.

    A point of which something is lost is broken, a copy of which something is lost is none. What was found before and
    is found no more is forgotten. Whoever calls this is a workflow.
    """
    stores = list(compared)
    for one in stores:
        # A point may have begun to go since the listing: then nothing of it is lost.
        found = [each for each in one.found if each.point_id is None or _lose(each, one.store, actor=actor, at=at)]
        lists = FilestoreCopy.objects.filter(pk__in=one.lost_lists, environment=environment, removed_at__isnull=True)
        for copy in lists:
            remove_filestore_copy(copy, actor=actor, at=at)
        found += _mend_wal(environment, one.store, one.wal, actor=actor, at=at) if one.wal is not None else []
        _note(environment, replace(one, found=tuple(found)), actor=actor, at=at)
    known = Disagreement.objects.filter(environment=environment)
    known.exclude(store__in=[one.store for one in stores]).delete()


def _mend_wal(environment: Environment, store: str, wal: ListedWal, *, actor: Actor, at: datetime) -> list[Difference]:
    """Record the WAL of a store as it was listed, with what was recorded since; return what is lost.

    Where some was removed meanwhile, the listing says nothing any more.
    """
    now = wal_recorded(environment.pk, store=store)
    if now is None or now.removals != wal.recorded.removals:
        return []
    listed = [WalSpan(one.system_identifier, one.timeline, one.start_lsn, one.end_lsn) for one in wal.listed]
    lost, unknown = without(wal.recorded.spans, listed), without(listed, now.spans)
    if not lost and not unknown:
        return []
    rows = WalSegment.objects.filter(environment=environment, store=store)
    since = [
        replace(_segment_of(row), start_lsn=span.start, end_lsn=span.end)
        for row in rows
        for span in without([_span_of(row)], wal.recorded.spans)
    ]
    rows.delete()
    for segment in (*wal.listed, *since):
        record_segment(environment=environment, segment=segment, actor=actor, at=at)
    return [_lost_wal(one) for one in lost]


def _segment_of(row: WalSegment) -> NewSegment:
    return NewSegment(**{one.name: getattr(row, one.name) for one in fields(NewSegment)})


def _span_of(row: WalSegment) -> WalSpan:
    return WalSpan(row.system_identifier, row.timeline, row.start_lsn, row.end_lsn)


def _lost_wal(span: WalSpan) -> Difference:
    start, end = format_lsn(span.start), format_lsn(span.end)
    return Difference(
        kind=DifferenceKind.WAL_MISSING,
        name=f"WAL {span.system_identifier}, timeline {span.timeline}, {start} to {end}",
        sentence=f"WAL from {start} to {end} is missing: no point before it leads to a time behind it.",
        size=span.end - span.start,
    )


def _lose(loss: Difference, store: str, *, actor: Actor, at: datetime) -> bool:
    """Let a point stand as a loss leaves it, unless it does already; False where it was to go."""
    assert loss.point_id is not None, "a loss is of a point"
    point = RecoveryPoint.objects.select_for_update(of=("self",)).select_related("policy").get(pk=loss.point_id)
    if point.removing_at is not None:
        return False
    if store != point.policy.store:
        drop_copy(point, store=store, sentence=loss.sentence, actor=actor, at=at)
    elif point.state in RESTORABLE:
        sentence = f"The store does not hold what was recorded: {loss.sentence}"
        record_verification(point, level=1, is_passed=False, sentence=sentence, actor=actor, at=at)
    return True


def _note(environment: Environment, compared: ComparedStore, *, actor: Actor, at: datetime) -> None:
    """Bring the rows of a store in line with what was found, and record what is new of it and what went."""
    rows = Disagreement.objects.filter(environment=environment, store=compared.store)
    known = {(one.kind, one.name): one for one in rows}
    keeps_lists = any(one.kind == DifferenceKind.UNKNOWN_SET for one in compared.found)
    new = []
    for one in compared.found:
        row = known.pop((str(one.kind), one.name), None)
        if row is None:
            row = Disagreement(environment=environment, store=compared.store, found_at=at)
            new.append(f"{one.kind}: {one.name}")
        for name, value in asdict(one).items():
            setattr(row, name, value)
        # What may belong to a whole point that nobody has decided about stays with it.
        stays = one.kind != DifferenceKind.ORPHAN or (keeps_lists and one.name == LISTS)
        row.goes_at = None if stays else row.found_at + GRACE
        row.save()
    Disagreement.objects.filter(pk__in=[one.pk for one in known.values()]).delete()
    if new:
        data = {"store": compared.store, "new": new}
        audit.record(
            Tag.STORE_COMPARED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id
        )
    if compared.collected:
        data = {"store": compared.store, "names": list(compared.collected)}
        audit.record(
            Tag.ORPHANS_REMOVED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id
        )


@audited
@transaction.atomic
def ask_unknown_removal(*, actor: Actor, disagreement_id: int, reason: str, at: datetime) -> Disagreement:
    """Let a whole point go that the catalogue does not name: the next comparison removes it.

    Raises `Conflict` for what is none, and while a legal hold keeps everything.
    """
    row = locked_difference(actor, disagreement_id)
    environment = row.environment
    access.require(actor, Ability.RECOVERY_EDIT, environment)
    words = reason_of(reason, field="reason", sentence="Say why it may go: its bytes cannot be brought back.")
    if row.kind != DifferenceKind.UNKNOWN_SET:
        raise Conflict("Only a whole point that the catalogue does not name waits for somebody to decide.")
    if is_held(environment.pk):
        raise Conflict("A legal hold keeps everything of this environment.")
    if row.asked_at is not None:
        raise Conflict("Somebody has let it go already.")
    if row.adoption_asked_at is not None:
        raise Conflict("Somebody has asked that it is taken in: it is being read.")
    row.asked_at, row.asked_by = at, actor.person
    row.save(update_fields=["asked_at", "asked_by"])
    data = {"name": row.name, "store": row.store, "reason": words}
    audit.record(
        Tag.ORPHAN_REMOVAL_ASKED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id
    )
    ensure_upkeep(environment, kind=UpkeepKind.COMPARISON, at=at)
    wiring.nudge("upkeep")
    return row
