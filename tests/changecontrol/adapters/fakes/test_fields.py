from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from changecontrol.adapters.fakes.fields import Ownership, leaves_of, words_of
from changecontrol.ports import FieldConflict

KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    st.one_of(st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2)),
    lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3),
    max_leaves=8,
)
MANIFESTS = st.dictionaries(KEYS, TREES, min_size=1, max_size=3)


@given(MANIFESTS)
def test_what_one_manager_applies_is_what_there_is(manifest: dict[str, Any]) -> None:
    ownership = Ownership()

    ownership.apply("one", manifest)

    assert ownership.merged() == manifest
    assert ownership.conflicts_of("one", manifest) == ()


@given(MANIFESTS, MANIFESTS)
def test_the_last_words_of_a_manager_replace_its_earlier_ones(first: dict[str, Any], second: dict[str, Any]) -> None:
    ownership = Ownership()

    ownership.apply("one", first)
    ownership.apply("one", second)

    assert ownership.merged() == second


def test_items_with_names_merge_by_name() -> None:
    ownership = Ownership()
    ownership.apply("one", {"containers": [{"name": "odoo", "image": "x"}]})
    ownership.apply("two", {"containers": [{"name": "odoo", "tty": True}, {"name": "proxy", "image": "y"}]})

    assert ownership.merged() == {
        "containers": [{"name": "odoo", "image": "x", "tty": True}, {"name": "proxy", "image": "y"}]
    }


def test_conflict_is_worded_as_an_api_server_words_it() -> None:
    ownership = Ownership()
    ownership.apply("other", {"spec": {"containers": [{"name": "odoo", "image": "x"}]}})

    conflicts = ownership.conflicts_of("one", {"spec": {"containers": [{"name": "odoo", "image": "y"}]}})

    assert conflicts == (FieldConflict(manager="other", path='.spec.containers[name="odoo"].image'),)


def test_leaves_keep_empty_mappings_and_plain_lists_whole() -> None:
    leaves = {words_of(path): value for path, value in leaves_of({"a": {}, "b": [1, 2], "c": {"d": None}}).items()}

    assert leaves == {".a": {}, ".b": [1, 2], ".c.d": None}
