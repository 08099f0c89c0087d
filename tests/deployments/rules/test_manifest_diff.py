from __future__ import annotations

import time
from typing import Any

from changecontrol.ports import ObjectRef
from deployments.rules.manifest_diff import ObjectDifference, ObjectFate, diff_rendered

KEY = b"installation key"


def config(name: str, **data: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_difference_is_told_object_by_object() -> None:
    old = [config("gone", a="1"), config("kept", a="1"), config("mended", a="1")]
    new = [config("kept", a="1"), config("mended", a="2"), config("made", a="1")]

    found = diff_rendered(old, new, key=KEY)

    assert [(one.ref.name, one.fate) for one in found] == [
        ("gone", ObjectFate.REMOVED),
        ("made", ObjectFate.ADDED),
        ("mended", ObjectFate.CHANGED),
    ]


def test_text_is_a_unified_diff() -> None:
    (found,) = diff_rendered([config("a", x="1")], [config("a", x="2")], key=KEY)

    assert found == ObjectDifference(
        ObjectRef("v1", "ConfigMap", "", "a"),
        ObjectFate.CHANGED,
        "--- ConfigMap a\n+++ ConfigMap a\n@@ -1,6 +1,6 @@\n apiVersion: v1\n data:\n-  x: '1'\n+  x: '2'\n"
        " kind: ConfigMap\n metadata:\n   name: a\n",
        added_count=1,
        removed_count=1,
    )


def test_order_of_keys_is_no_difference() -> None:
    one = config("a", x="1", y="2")

    assert diff_rendered([one], [dict(reversed(one.items()))], key=KEY) == ()


def test_changed_secret_shows_that_it_changed_and_not_to_what() -> None:  # RUN-9
    old = {"kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": "canary-old"}}
    new = {"kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": "canary-new"}}

    (found,) = diff_rendered([old], [new], key=KEY)

    assert "canary" not in found.text
    assert (found.added_count, found.removed_count) == (1, 1)


def test_long_repetitive_objects_are_compared_quickly() -> None:
    old = config("a", **{f"k{n:05}": "same" for n in range(5000)})
    new = config("a", **{f"k{n:05}": "else" for n in range(5000)})

    begun = time.thread_time()
    (found,) = diff_rendered([old], [new], key=KEY)

    assert (found.added_count, found.removed_count) == (5000, 5000)
    assert "@@ -1,5005 +1,5005 @@" in found.text
    assert time.thread_time() - begun < 5
