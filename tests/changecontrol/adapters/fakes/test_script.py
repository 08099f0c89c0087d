from __future__ import annotations

from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeObjectStore, FakeSecrets
from changecontrol.adapters.fakes.script import Call, Scripted
from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent, Transient

CUT = Transient("cut")


def test_failure_before_leaves_nothing_and_is_over_after_once() -> None:
    store = FakeObjectStore()
    store.script.fail_before("ensure_object", CUT)

    with pytest.raises(Transient):
        store.ensure_object("a", b"1")
    assert store.objects == {}

    store.ensure_object("a", b"1")
    assert store.objects == {"a": b"1"}
    assert store.script.verbs() == ["ensure_object", "ensure_object"]


def test_failure_after_has_acted() -> None:  # RUN-1
    store = FakeObjectStore()
    store.script.fail_after("ensure_object", CUT)

    with pytest.raises(Transient):
        store.ensure_object("a", b"1")

    assert store.objects == {"a": b"1"}


def test_failures_can_be_bounded_by_number_and_by_call() -> None:
    store = FakeObjectStore()
    store.script.fail_before("*", CUT, times=2, when=lambda call: call.args == ("a",))

    store.observe_object("b")
    for _ in range(2):
        with pytest.raises(Transient):
            store.observe_object("a")

    assert store.observe_object("a") is None


def test_failure_holds_on_to_nothing_that_it_went_through() -> None:
    store = FakeObjectStore()
    store.script.fail_before("ensure_object", CUT)

    with pytest.raises(Transient, match="cut"):
        store.ensure_object("a", b"1")

    assert CUT.__traceback__ is None


def test_real_adapter_fails_and_records_like_a_fake(tmp_path: Path) -> None:
    store = Scripted(open_store(f"file://{tmp_path}/objects"))
    store.script.fail_after("ensure_object", CUT)

    with pytest.raises(Transient):
        store.ensure_object("a", b"1")

    assert store.observe_object("a") == b"1"
    assert store.script.calls == [Call("ensure_object", ("a", b"1")), Call("observe_object", ("a",))]


def test_secrets_change_under_way_and_are_absent_until_then() -> None:
    secrets = FakeSecrets()
    with pytest.raises(Permanent):
        secrets.read("env:X")
    secrets.values["env:X"] = "x"

    assert secrets.read("env:X") == "x"
