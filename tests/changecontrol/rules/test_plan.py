from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changecontrol.rules.plan import Difference, canonical, differences, digest_of

leaves = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8)
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=5), documents, min_size=1, max_size=5)


def reordered(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: reordered(document[key]) for key in reversed(document)}
    return [reordered(one) for one in document] if isinstance(document, list) else document


def paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(document, dict):
        return [found for key in document for found in paths(document[key], (*path, key))]
    if isinstance(document, list):
        return [found for index, one in enumerate(document) for found in paths(one, (*path, index))]
    return [path]


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


@given(objects)
def test_order_of_keys_is_irrelevant(document: dict[str, Any]) -> None:  # APR-8
    assert digest_of(reordered(document)) == digest_of(document)


@given(objects, st.data())
def test_any_change_of_a_leaf_changes_the_digest_and_shows_as_one_difference(
    document: dict[str, Any], data: st.DataObject
) -> None:  # APR-8, APR-9
    places = paths(document)
    if not places:
        return
    changed = replaced(document, data.draw(st.sampled_from(places)), "a leaf unlike any other")

    assert digest_of(changed) != digest_of(document)
    assert len(differences(document, changed)) >= 1


@given(objects, objects)
def test_plans_differ_exactly_where_their_digests_do(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert (differences(old, new) == ()) is (digest_of(old) == digest_of(new))


@given(objects)
def test_canonical_bytes_read_back_as_the_same_document(document: dict[str, Any]) -> None:
    assert json.loads(canonical(document)) == document


def test_digest_is_the_sha256_of_the_canonical_bytes() -> None:
    assert canonical({"b": [1, 2.0], "a": "é"}) == '{"a":"é","b":[1,2]}'.encode()
    assert digest_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, {1: 2}, object()])
def test_what_canonical_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written as canonical JSON"):
        digest_of({"a": value})


def test_difference_names_path_label_and_both_sides() -> None:
    old = {"commit": "a1", "rollback_class": "R0", "window": {"name": "Night"}, "gone": None}
    new = {"commit": "b2", "rollback_class": "R0", "window": {"name": "Day"}, "planned_start": "now"}

    assert differences(old, new) == (
        Difference("commit", "commit", "a1", "b2"),
        Difference("gone", "gone", None, None, is_there=False),
        Difference("planned_start", "planned start", None, "now", was_there=False),
        Difference("window/name", "window › name", "Night", "Day"),
    )


def test_list_items_are_matched_by_their_identity() -> None:
    old = {"targets": [{"key": "a", "replicas": 1}, {"key": "b", "replicas": 2}]}
    new = {"targets": [{"key": "c", "replicas": 9}, {"key": "b", "replicas": 3}]}

    assert differences(old, new) == (
        Difference("targets/a", "targets › a", {"key": "a", "replicas": 1}, None, is_there=False),
        Difference("targets/b/replicas", "targets › b › replicas", 2, 3),
        Difference("targets/c", "targets › c", None, {"key": "c", "replicas": 9}, was_there=False),
    )


def test_swap_of_two_waves_is_a_difference() -> None:
    assert differences([{"name": "pilot"}, {"name": "rest"}], [{"name": "rest"}, {"name": "pilot"}]) == (
        Difference("order", "order", "pilot, rest", "rest, pilot"),
    )


def test_items_without_identity_are_matched_by_place() -> None:
    assert differences({"images": ["a", "b"]}, {"images": ["a", "c", "d"]}) == (
        Difference("images/2", "images › 2", "b", "c"),
        Difference("images/3", "images › 3", None, "d", was_there=False),
    )


def test_true_is_not_one() -> None:
    assert differences({"prune": 1}, {"prune": True}) == (Difference("prune", "prune", 1, True),)
