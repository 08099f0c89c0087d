from __future__ import annotations

from typing import Any

import pytest

from deployments.rules.cut_over import Naming, naming_of


def config(text: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "odoo", "labels": {"db": "shop_2"}}, **more,
            "data": {"odoo.conf": text}}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "new", "old"),
    [
        ("db_name = shop_2\n", True, False),
        ("db_name = shop\n", False, True),
        ("db_name = shop_2\ndb_user = shop\n", True, True),
        ("url = postgres://odoo@db.shop.svc/shop_2?x=1", True, True),
        ("db_name = shop_20\nworkshop = 1", False, False),
        ("", False, False),
    ],
    ids=["put in place", "left as it is", "a role of that name", "in a URL", "part of a word", "nothing"],
)
def test_a_name_counts_where_it_is_a_whole_word_of_what_configures(text: str, new: bool, old: bool) -> None:
    found = naming_of([config(text)], new="shop_2", old="shop")

    assert found == Naming(new=("ConfigMap odoo",) if new else (), old=("ConfigMap odoo",) if old else ())


def test_arguments_and_variables_of_a_pod_count_and_its_labels_do_not() -> None:
    container = {"args": ["-d", "shop_2"], "env": [{"name": "OTHER", "value": "shop"}]}
    pod = {"metadata": {"labels": {"app": "shop_2"}}, "spec": {"containers": [container]}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": pod}}
    labelled = {**config(""), "metadata": {"name": "shop_2"}}

    found = naming_of([deployment, labelled], new="shop_2", old="shop")

    assert [bool(found.new), bool(found.old)] == [True, True]
    assert len(found.new) == 1
