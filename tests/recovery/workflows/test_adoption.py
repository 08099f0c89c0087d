"""A whole point that the catalogue has lost, as an older copy of our own database has, is taken in from the store."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.errors import Permanent
from changecontrol.models import AuditEvent, Environment, Job, Message, User
from recovery.actions.adoptions import ask_adoption
from recovery.actions.points import NewPoint
from recovery.adapters.postgres.packing import packed, unpacked
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
from tests.recovery.workflows.operated import IN_TREE, OWNER, Scene
from tests.recovery.workflows.test_comparison import HOUR, compared, copy_no_more, later, stranger
from tests.recovery.workflows.test_rehearsed_drill import rolled_out
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
    untold = {"parts", "store", "started_at", "finished_at", "locked_until", "lock"}
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


def forge(scene: Scene, made: RecoveryPoint, /, *, database: dict[str, Any] | None = None, **words: Any) -> None:
    """Put in place of a point's description another one, as who can write backups can: recipients are public."""
    [file] = (scene.folder / "objects").rglob("sets/*.json.zst.age")
    says = json.loads(unpacked(file.read_bytes(), identities=[OWNER.identity], limit=10**6)) | words
    says["database"] |= database or {}
    text = json.dumps(says).encode()
    file.unlink()
    name = f"{made.key}-{hashlib.sha256(text).hexdigest()[:12]}.json.zst.age"
    (file.parent / name).write_bytes(packed(text, recipients=[OWNER.recipient]))


def test_what_a_recovered_cluster_is_made_like_is_told_by_the_operator_alone(scene: Scene) -> None:
    scene.database(**IN_TREE)
    point = scene.pointed()
    needs = {"serviceAccountName": "cluster-admin", "env": [{"name": "X"}]}
    other = {"server_name": "other-shop", "destination": "s3://elsewhere/db", "object_store": "theirs"}

    forge(scene, point, database={"image": "evil.example/own:17", "storage_size": "9Ti", "pod_needs": needs, **other})

    assert read(point).cluster_facts == point.cluster_facts


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"name": "NAMESPACE/ghost"}, "is of NAMESPACE/odoo-db, and its description says NAMESPACE/ghost"),
        ({"name": "elsewhere/odoo-db"}, "is of NAMESPACE/odoo-db, and its description says elsewhere/odoo-db"),
        ({"system_identifier": "7012"}, "It is of the server 7012"),
        ({"stop_lsn": 2**32 + 8}, "Of stop_lsn the operator says"),
        ({"timeline": 2}, "Of timeline the operator says 3 now"),
        ({"stopped_at": "2200-01-01T00:00:00+00:00"}, "Of stopped_at the operator says"),
        ({"backup": ["x"]}, "does not tell which backup the operator has"),
        ({"backup": "other/../backup"}, "A run cannot be named"),
    ],
)
def test_a_description_that_tells_of_a_base_backup_otherwise_than_the_operator_is_refused(
    scene: Scene, told: dict[str, Any], sentence: str
) -> None:
    scene.database(**IN_TREE)
    point = scene.pointed()

    forge(scene, point, database=json.loads(json.dumps(told).replace("NAMESPACE", scene.namespace)))

    with pytest.raises(Permanent, match=re.escape(sentence.replace("NAMESPACE", scene.namespace))):
        read(point)


def test_of_a_cluster_that_is_gone_or_another_by_now_nothing_is_taken_in(scene: Scene) -> None:
    cluster = scene.database(**IN_TREE)
    point = scene.pointed()

    scene.kubernetes.say(cluster, {"systemID": "7099"})
    with pytest.raises(Permanent, match="Of system_identifier the operator says 7099 now"):
        read(point)
    scene.kubernetes.remove(cluster)
    with pytest.raises(Permanent, match=f"^The database cluster {scene.namespace}/odoo-db is gone: nothing proves"):
        read(point)


@pytest.mark.parametrize(
    "words",
    [
        {"commit": "main"},
        {"image": "a\u0000b"},
        {"modules": {"base": 19}},
        {"filestore": {"key": "k", "sha256": "s", "taken_at": "2026-11-24T10:00:00"}},
        {"filestore": {"key": "k", "sha256": "s", "taken_at": "9999-12-31T23:59:59-12:00"}},
        {"point": "a\u0000b"},
    ],
)
def test_a_description_that_no_backup_writes_is_refused(scene: Scene, words: dict[str, Any]) -> None:
    scene.database(**IN_TREE)
    point = scene.pointed()

    forge(scene, point, **words)

    with pytest.raises(Permanent, match="is not one that this program writes"):
        read(point)


def test_a_commit_is_recorded_where_a_rollout_brought_it_here(scene: Scene) -> None:
    scene.database(**IN_TREE)
    point = scene.pointed()
    commit = "c" * 40
    forge(scene, point, commit=commit)

    assert read(point).git_commit == ""

    rolled_out(scene.estate, commit)
    assert read(point).git_commit == commit


def test_a_commit_that_a_point_taken_here_names_is_recorded(scene: Scene) -> None:
    scene.database(**IN_TREE)
    point = scene.pointed()
    forge(scene, point, commit="c" * 40)

    RecoveryPoint.objects.update(git_commit="c" * 40)

    assert read(point).git_commit == "c" * 40


def test_a_point_is_taken_in_under_the_policy_that_it_can_have_been_made_under(scene: Scene) -> None:
    scene.database(**IN_TREE)
    point = scene.pointed()
    was = BackupPolicy.objects.get()
    words: dict[str, Any] = {"version": 2, "is_active": True, "created_at": clock.now(), "engine": "postgres"}
    columns = {one.name: getattr(was, one.name) for one in BackupPolicy._meta.concrete_fields if one.name != "id"}
    BackupPolicy.objects.update(is_active=False)
    newest = BackupPolicy.objects.create(**{**columns, **words})
    order = {"policy": newest.pk, "name": point.key}

    assert adopt(order, lambda _: None)["policy"] == was.pk

    BackupPolicy.objects.update(engine="postgres")
    with pytest.raises(Permanent, match=r"^It was taken with the engine cloudnativepg, and no version"):
        adopt(order, lambda _: None)


def retell(shop: Shop, point: RecoveryPoint, **words: Any) -> None:
    """Let a base backup tell other facts of itself, with the digest that goes with them."""
    file = shop.objects / f"northwind/production/base/{point.key}/facts.json"
    facts = json.loads(file.read_bytes()) | words
    facts.pop("digest")
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    file.write_bytes(json.dumps(facts | {"digest": digest}).encode())


def test_facts_that_no_base_backup_has_are_refused_before_anything_is_done_with_them(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    file = shop.objects / f"northwind/production/base/{point.key}/facts.json"
    written = file.read_bytes()
    stored = json.loads(written)["stored_bytes"]

    for words, sentence in (
        ({"manifest_key": "southwind/production/base/x/backup_manifest.zst.age"}, "not such as this program writes"),
        ({"segment_bytes": 0}, "not such as this program writes"),
        ({"superuser": "a\0b"}, "not such as this program writes"),
        ({"timeline": 2**31}, "not such as this program writes"),
        ({"finished_at": "2199-01-01T00:00:00+00:00"}, "not such as this program writes"),
        ({"stored_bytes": stored + 1}, f"tell of {stored + 1:,} bytes in the store, where there are {stored:,}"),
        ({"server_major": "/tmp/x"}, "were changed"),
    ):
        retell(shop, point, **words)
        with pytest.raises(Permanent, match=sentence):
            read(point)
        file.write_bytes(written)
    assert is_as_recorded(read(point), point)


def test_a_name_that_leads_elsewhere_is_not_looked_for(scene: Scene) -> None:
    with pytest.raises(Permanent, match="not one that this program gives"):
        adopt({"policy": BackupPolicy.objects.get().pk, "name": ".."}, lambda _: None)


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
