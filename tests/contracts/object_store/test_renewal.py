"""A store's credential that ends while work of hours goes on, against a real server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectLock, ObjectStore
from tests.seaweed import READER, WRITER, Seaweed, seaweed


@pytest.fixture(scope="module")
def real_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


def keep_one(server: Seaweed, *, prefix: str) -> None:
    """Store the object that others read."""
    secrets = FakeSecrets({"env:PAIR": ":".join(WRITER)})
    url = f"s3://evidence/{prefix}?endpoint={server.url}"
    open_store(url, credential="env:PAIR", secrets=secrets).ensure_object("a", b"1")


def test_refused_credential_is_read_again_and_the_store_asked_with_what_it_is_now(real_s3: Seaweed) -> None:
    prefix = uuid.uuid4().hex
    keep_one(real_s3, prefix=prefix)
    acts: dict[str, Callable[[ObjectStore], object]] = {
        "store": lambda store: store.ensure_object("b", b"2").size,
        "read": lambda store: store.observe_object("a"),
        "read a range": lambda store: store.observe_range("a", start=0, size=1),
        "tell the lock": lambda store: store.observe_lock("a"),
        "list": lambda store: [one.key for one in store.observe_objects("below")],
        "delete": lambda store: store.ensure_absent("absent"),
        "answer": lambda store: store.observe_reachable(),
    }

    answered = {}
    for name, act in acts.items():
        secrets = FakeSecrets({"env:PAIR": "session:over"})
        url = f"s3://evidence/{prefix}?endpoint={real_s3.url}"
        store = open_store(url, credential="env:PAIR", secrets=secrets)
        secrets.values["env:PAIR"] = ":".join(WRITER)
        answered[name] = (act(store), len(secrets.script.calls))

    assert answered == {
        "store": (1, 2),
        "read": (b"1", 2),
        "read a range": (b"1", 2),
        "tell the lock": (ObjectLock(until=None), 2),
        "list": ([], 2),
        "delete": (None, 2),
        "answer": (None, 2),
    }


def test_credential_that_is_refused_afresh_is_refused_at_once(real_s3: Seaweed) -> None:
    secrets = FakeSecrets({"env:PAIR": "session:over"})
    store = open_store(f"s3://evidence/packs?endpoint={real_s3.url}", credential="env:PAIR", secrets=secrets)

    for pair, reads in (("session:over", 2), ("another:wrong", 3), ("another:wrong", 4)):
        secrets.values["env:PAIR"] = pair
        with pytest.raises(Permanent, match=r"^The object store does not let this credential read a\.$"):
            store.observe_object("a")
        assert len(secrets.script.calls) == reads


def test_of_many_that_are_refused_at_once_one_reads_the_credential_again(real_s3: Seaweed) -> None:
    prefix = uuid.uuid4().hex
    keep_one(real_s3, prefix=prefix)
    secrets = FakeSecrets({"env:PAIR": "session:over"})
    store = open_store(f"s3://evidence/{prefix}?endpoint={real_s3.url}", credential="env:PAIR", secrets=secrets)
    secrets.values["env:PAIR"] = ":".join(READER)
    barrier = threading.Barrier(8)

    def read(_: int) -> bytes | None:
        barrier.wait()
        return store.observe_object("a")

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(read, range(8)))

    assert found == [b"1"] * 8
    assert len(secrets.script.calls) == 2


def test_refusal_is_not_believed_while_nobody_says_what_the_credential_is_now(real_s3: Seaweed) -> None:
    prefix = uuid.uuid4().hex
    keep_one(real_s3, prefix=prefix)
    secrets = FakeSecrets({"env:PAIR": "session:over"})
    store = open_store(f"s3://evidence/{prefix}?endpoint={real_s3.url}", credential="env:PAIR", secrets=secrets)
    secrets.values["env:PAIR"] = ":".join(READER)
    secrets.script.fail_before("read", Transient("The vault did not answer."))

    with pytest.raises(Transient, match="The vault did not answer"):
        store.observe_object("a")
    assert store.observe_object("a") == b"1"
