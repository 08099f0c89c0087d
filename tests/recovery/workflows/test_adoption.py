"""A whole point that the catalogue has lost, as an older copy of our own database has, is taken in from the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.errors import Permanent
from changecontrol.models import AuditEvent, Environment, Job, Message, User
from recovery.actions.adoptions import ask_adoption
from recovery.actions.points import NewPoint
from recovery.jobs.adopting import adopt
from recovery.models import (
    BackupPolicy,
    Disagreement,
    FilestoreCopy,
    RecoveryPoint,
)
from recovery.queries.points import coverage_of
from recovery.workflows.backup import new_point
from tests.factories.estate import actor
from tests.factories.recovery import recovery_owner
from tests.recovery.workflows.conftest import Shop
from tests.recovery.workflows.operated import IN_TREE, Scene
from tests.recovery.workflows.test_comparison import HOUR, compared, copy_no_more, later, stranger
from tests.recovery.workflows.test_upkeep import back_up

pytestmark = pytest.mark.slow

COLUMNS = (
    *(
        "key",
        "kind",
        "state",
        "level",
        "consistent_at",
        "started_at",
        "system_identifier",
        "server_version",
        "timeline",
    ),
    *("start_lsn", "stop_lsn", "filestore_at", "git_commit", "image", "modules", "size", "policy_id", "parent_id"),
)
PART = ("kind", "key", "size", "sha256")
COPY = ("name", "key", "size", "sha256", "taken_at", "file_count", "byte_count", "policy_id")


@pytest.fixture(autouse=True)
def real_time() -> Iterator[None]:
    yield
    clock.set_offset(timedelta())


def facts_of(key: str) -> tuple[Any, ...]:
    point = RecoveryPoint.objects.get(key=key, environment__slug="production")
    return (
        RecoveryPoint.objects.values_list(*COLUMNS).get(pk=point.pk),
        sorted(point.parts.values_list(*PART)),
        list(FilestoreCopy.objects.filter(point=point).values_list(*COPY)),
    )


def forget(shop: Shop, point: RecoveryPoint) -> None:
    """Let the catalogue of the environment be as it was before a point was made. What was recorded is never deleted."""
    elsewhere = shop.estate.development
    FilestoreCopy.objects.filter(point=point).update(environment=elsewhere)
    RecoveryPoint.objects.filter(pk=point.pk).update(environment=elsewhere)


def asked(shop: Shop, rio: User, name: str) -> Disagreement:
    """Ask that a point is taken in, and let it be read; return its row, without a word where it is gone."""
    row = Disagreement.objects.get(store=shop.policy.store, kind="unknown_set", name=name)
    ask_adoption(actor=actor(rio), disagreement_id=row.pk, reason="Our own database was lost.", at=clock.now())
    shop.work(lambda: not Disagreement.objects.filter(adoption_asked_at__isnull=False).exists())
    return Disagreement.objects.filter(pk=row.pk).first() or Disagreement()


def told(tag: str) -> list[dict[str, Any]]:
    return [json.loads(one.body)["data"] for one in AuditEvent.objects.filter(tag=tag).order_by("pk")]


def test_a_point_that_the_catalogue_has_lost_comes_back_with_what_the_store_tells(shop: Shop, rio: User) -> None:
    back_up(shop, rio)
    shop.sell()
    point = back_up(shop, rio)
    before = facts_of(point.key)
    shop.work(lambda: point.key in coverage_of(shop.estate.production).reaches)
    forget(shop, point)
    later(shop, 2 * HOUR)
    assert compared(shop) == [("unknown_set", point.key)]

    asked(shop, rio, point.key)

    assert facts_of(point.key) == before
    assert coverage_of(shop.estate.production).backup_for(point.consistent_at) == point.key
    assert told("recovery:point:adopted") == [{"key": point.key, "store": shop.policy.store, "asked_by": str(rio)}]
    assert not Job.objects.filter(kind="adopt").exists()
    assert compared(shop) == []


def read(point: RecoveryPoint) -> NewPoint:
    """Read a point in its store, whether the catalogue names it or not, as the job does that takes it in."""
    result = adopt({"policy": point.policy_id, "name": point.key}, lambda _: None)
    return new_point(point.policy, key=point.key, kind=result["kind"], result=result)


def told_of(point: RecoveryPoint) -> dict[str, Any]:
    """Return what the store tells of a point beside its parts and when it was finished, as the catalogue has it."""
    untold = {"parts", "store", "started_at", "finished_at", "locked_until"}
    return {name: getattr(point, name) for name in NewPoint.__dataclass_fields__ if name not in untold}


def parts_of(point: RecoveryPoint) -> list[tuple[Any, ...]]:
    return list(point.parts.order_by("kind").values_list(*PART))


def is_as_recorded(found: NewPoint, point: RecoveryPoint) -> bool:
    parts = [tuple(getattr(one, name) for name in PART) for one in sorted(found.parts, key=lambda one: one.kind)]
    return told_of(point) == {name: getattr(found, name) for name in told_of(point)} and parts == parts_of(point)


def test_a_dump_is_read_from_the_store_as_it_was_recorded_and_one_of_another_database_refused(dumped: Shop) -> None:
    dumped.sell()
    point = back_up(dumped, recovery_owner(dumped.estate))

    assert is_as_recorded(read(point), point)

    Environment.objects.filter(pk=point.environment_id).update(database="another")
    with pytest.raises(Permanent, match=r"^It is a dump of “.*”, and Northwind production has had “another” alone\.$"):
        read(RecoveryPoint.objects.get())


def test_what_an_operator_took_is_read_as_it_was_recorded_while_the_operator_tells_of_it(scene: Scene) -> None:
    scene.database(**IN_TREE)
    point = scene.pointed()
    assert point.run is not None

    assert is_as_recorded(read(point), point)

    scene.complete(point.run, backupId="20261124T101500")
    with pytest.raises(Permanent, match="is not the one that the description names: it is 20261124T101500"):
        read(point)
    scene.kubernetes.remove(scene.backup_of(point.run))
    with pytest.raises(Permanent, match="The operator says nothing of the backup"):
        read(point)
    RecoveryPoint.objects.update(system_identifier="7012")
    with pytest.raises(Permanent, match=r"It is of the server 7412345678901234567, .* It has had 7012\."):
        read(point)


def test_what_is_not_as_it_was_written_or_not_of_this_environment_is_refused_with_the_reason(
    shop: Shop, rio: User
) -> None:
    other = back_up(shop, rio)
    shop.sell()
    point = back_up(shop, rio)
    forget(shop, point)
    strange = stranger(shop, other, folders=("base", "sets", "filestore/points"))
    later(shop, 2 * HOUR)
    compared(shop)
    Message.objects.all().delete()
    place = shop.objects / "northwind/production"

    sentences = [asked(shop, rio, strange).refusal]
    source = shop.policy.source
    shops = RecoveryPoint.objects.filter(environment=shop.estate.production)
    shops.update(system_identifier="7012")
    BackupPolicy.objects.update(source="")
    sentences.append(asked(shop, rio, point.key).refusal)
    shops.update(system_identifier=other.system_identifier)
    BackupPolicy.objects.update(source=source)
    for pattern in (f"base/{point.key}/base.*.parts/*/0*", "filestore/packs/*.tar.zst.age"):
        victim = sorted(place.glob(pattern))[0]
        content = victim.read_bytes()
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        sentences.append(asked(shop, rio, point.key).refusal)
        victim.write_bytes(content)
    copy_no_more()

    assert sentences[0].endswith(f".json.zst.age is of the point {other.key} of northwind/production.")
    assert sentences[1] == (
        f"It is of the server {other.system_identifier}, and nothing here proves that Northwind production ever ran on "
        "that. It has had 7012."
    )
    stream = f"northwind/production/base/{point.key}/base.tar.zst.age"
    assert sentences[2] == f"Part 1 of {stream} was changed: its digest is another."
    assert "northwind/production/filestore/packs/" in sentences[3]
    assert list(RecoveryPoint.objects.filter(environment=shop.estate.production)) == [other]
    assert [one["sentence"] for one in told("recovery:orphan:adoption_refused")] == sentences
    assert Message.objects.filter(recipient=rio, tag="recovery:orphan:adoption_refused").count() == 4
    asked(shop, rio, point.key)
    assert [one.state for one in shops.filter(key=point.key)] == ["copied"]
