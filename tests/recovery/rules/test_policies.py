from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from recovery.rules.policies import MOST, REFERENCES, PolicyContent, policy_problems

WHOLE = PolicyContent(
    engine="postgres",
    rrule="FREQ=DAILY",
    starts_local=datetime(2026, 11, 1, 2, 0),  # noqa: DTZ001 - wall-clock time
    zone="Europe/Lisbon",
    source="file:/run/secrets/northwind",
    filestore="s3://attachments/northwind",
    store="s3://points/northwind",
    copy_store="gs://copies/northwind",
    recipients=("age1" + "q" * 58, "age1" + "z" * 58),
    wal_seconds=10,
    filestore_seconds=60,
    restore_credential="file:/run/secrets/northwind-reader",
    identity="file:/run/secrets/northwind-identity",
    index_identity="file:/run/secrets/northwind-index",
    restore_target="file:/run/secrets/northwind-restores",
    restore_filestore="file:///var/lib/restored/northwind",
    rehearsal_cluster="de-2",
    rehearsal_path="rehearsals/northwind",
    rehearsal_target="file:/run/secrets/northwind-de-2",
    rehearsal_database="northwind",
    rehearsal_filestore="file:///srv/de-2/filestore",
)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"incrementals": 6},
        {"filestore": "", "filestore_seconds": None},
        {"engine": "cloudnativepg", "wal_seconds": None},
        {"store": "file:///srv/points", "copy_store": ""},
        {"store_credential": "vault:points#key", "copy_credential": "env:COPIES"},
        {"store": "s3://points/northwind?endpoint=https://objects.example&region=eu-1"},
        {"restore_target": "", "restore_filestore": "", "identity": ""},
        {"filestore": "", "filestore_seconds": None, "index_identity": ""},
        {"engine": "cloudnativepg", "source": ""},
        {"engine": "external", "source": "", "recipients": ()},
        {"engine": "pg_dump", "wal_seconds": None, "filestore_seconds": None},
        {"engine": "pg_dump", "wal_seconds": None, "filestore_seconds": None, "filestore": "", "index_identity": ""},
        {"rehearsal_path": "", "rehearsal_database": "", "rehearsal_filestore": ""},
        {"rehearsal_cluster": "", "rehearsal_target": "", "rehearsal_filestore": ""},
    ],
)
def test_a_policy_that_holds_has_no_problem(words: dict[str, Any]) -> None:
    assert policy_problems(replace(WHOLE, **words)) == {}


@pytest.mark.parametrize("name", MOST)
def test_every_number_has_its_bounds(name: str) -> None:
    least, most, sentence = MOST[name]

    def problems(value: int) -> dict[str, list[str]]:
        words: dict[str, Any] = {name: value}
        return policy_problems(replace(WHOLE, **words))

    assert problems(least) == problems(most) == {}
    assert problems(least - 1) == problems(most + 1) == {name: [sentence]}


def test_a_backup_without_the_wal_that_makes_it_consistent_is_none() -> None:
    assert list(policy_problems(replace(WHOLE, wal_seconds=None))) == ["wal_seconds"]


def test_sentinels_need_the_way_into_a_database_that_an_operator_keeps() -> None:
    operated = replace(WHOLE, engine="cloudnativepg", has_sentinel=True)

    assert policy_problems(operated) == {}
    assert list(policy_problems(replace(operated, source=""))) == ["source"]


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ({"wal_seconds": 10}, ["wal_seconds"]),
        ({"filestore_seconds": 60}, ["filestore_seconds"]),
        ({"filestore_seconds": 60, "filestore": ""}, ["filestore_seconds"]),
        ({"incrementals": 1}, ["incrementals"]),
        ({"source": ""}, ["source"]),
        ({"index_identity": ""}, ["index_identity"]),
    ],
    ids=["WAL", "attachments between", "of none", "incrementals", "no source", "no index key"],
)
def test_a_dump_stands_alone_and_nothing_is_copied_between_two(words: dict[str, Any], fields: list[str]) -> None:
    dumps = replace(WHOLE, engine="pg_dump", wal_seconds=None, filestore_seconds=None)

    assert list(policy_problems(replace(dumps, **words))) == fields


def test_attachments_are_copied_with_a_key_that_lists_them_and_restored_to_a_folder() -> None:
    assert list(policy_problems(replace(WHOLE, index_identity=""))) == ["index_identity"]
    assert list(policy_problems(replace(WHOLE, restore_filestore="s3://restored"))) == ["restore_filestore"]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = policy_problems(replace(WHOLE, engine="tape", store="ftp://x", keep_last=0, rrule="", recipients=()))

    assert set(found) == {"engine", "store", "keep_last", "rrule", "recipients"}


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ftp://points", "An address begins with s3://, gs://, az:// or file://."),
        ("points", "An address begins with s3://, gs://, az:// or file://."),
        ("s3://[points", "This is not an address."),
        ("s3://key:word@points", "An address carries no user or password, and no option but endpoint and region."),
        ("s3://points?word=1", "An address carries no user or password, and no option but endpoint and region."),
        ("s3://points?region", "This is not an address."),
        ("s3://points#word", "An address carries no user or password, and no option but endpoint and region."),
        ("gs://points?region=here", "An address carries no user or password, and no option but endpoint."),
        ("az://account/points?region=here", "An address carries no user or password, and no option but endpoint."),
        ("file:///points?endpoint=https://x", "An address carries no user or password, and no option."),
        ("az://account", "A container of Azure is named by az://account/container."),
        ("s3://" + "x" * 500, "An address begins with s3://, gs://, az:// or file://."),
    ],
)
def test_an_address_carries_no_secret(address: str, sentence: str) -> None:
    for name in ("store", "copy_store", "filestore"):
        words: dict[str, Any] = {name: address}
        assert policy_problems(replace(WHOLE, **words)) == {name: [sentence]}


@pytest.mark.parametrize(
    "address",
    [
        "s3://points/shop?endpoint=https://s3.corp.example&region=eu-1",
        "gs://points/shop?endpoint=https://storage.corp.example",
        "az://account/points/shop?endpoint=https://account.blob.core.usgovcloudapi.net",
        "file:///srv/points",
    ],
)
def test_an_address_of_each_kind_is_taken(address: str) -> None:
    assert policy_problems(replace(WHOLE, store=address)) == {}


@pytest.mark.parametrize(
    ("store", "copy_store", "fields"),
    [
        ("file:///srv/points", "", ["lock_days"]),
        ("file:///srv/points", "file:///mnt/copies", ["lock_days"]),
        ("file:///srv/points", "s3://copies/northwind", []),
        ("s3://points/northwind", "file:///mnt/copies", []),
        ("gs://points/northwind", "", []),
    ],
)
def test_no_lock_is_promised_where_all_is_kept_in_folders(store: str, copy_store: str, fields: list[str]) -> None:
    found = policy_problems(replace(WHOLE, store=store, copy_store=copy_store, lock_days=30))

    assert list(found) == fields
    assert all(
        one == ["A folder locks nothing: keep points in a bucket with object lock, or promise none."]
        for one in found.values()
    )
    assert policy_problems(replace(WHOLE, store=store, copy_store=copy_store, lock_days=0)) == {}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_secret_is_a_reference_and_never_quoted(name: str) -> None:
    words: dict[str, Any] = {name: "hunter2"}

    found = policy_problems(replace(WHOLE, **words))

    assert list(found) == [name]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "recipient", ["age1", "age1" + "b" * 58, "age1" + "Q" * 58, "AGE1" + "q" * 58, "ssh-ed25519 AA"]
)
def test_a_recipient_is_an_age_key(recipient: str) -> None:
    assert list(policy_problems(replace(WHOLE, recipients=(recipient,)))) == ["recipients"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"rehearsal_target": ""}, "rehearsal_target"),
        ({"rehearsal_cluster": ""}, "rehearsal_cluster"),
        ({"rehearsal_cluster": "", "rehearsal_target": ""}, "rehearsal_cluster"),
        ({"rehearsal_filestore": "s3://files"}, "rehearsal_filestore"),
        ({"rehearsal_path": "/rehearsals"}, "rehearsal_path"),
        ({"rehearsal_path": "rehearsals/../../etc"}, "rehearsal_path"),
        ({"rehearsal_database": "postgres"}, "rehearsal_database"),
        ({"rehearsal_database": "No Name"}, "rehearsal_database"),
    ],
    ids=["no server", "no cluster", "only a folder", "a bucket", "absolute", "upwards", "reserved", "no name"],
)
def test_where_it_is_brought_up_is_said_whole(words: dict[str, Any], field: str) -> None:
    assert list(policy_problems(replace(WHOLE, **words))) == [field]
