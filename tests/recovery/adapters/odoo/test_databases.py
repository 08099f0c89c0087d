from __future__ import annotations

import hashlib
import tracemalloc
from datetime import UTC, datetime

import pytest

from changecontrol.errors import Permanent, Transient
from recovery.adapters.odoo import observe_attachments, observe_odoo
from recovery.ports.odoo import OdooAttachment, OdooFacts, OdooModule
from tests.recovery.adapters.odoo.scene import MODULES, Made, run

ORDERS = """
CREATE TABLE sale_order (id int PRIMARY KEY, create_date timestamp);
INSERT INTO sale_order VALUES (1, '2026-03-01 10:00'), (3, NULL), (2, '2026-03-02 09:30:15.25');
CREATE TABLE pos_order (id int PRIMARY KEY, create_date timestamp);
"""
ATTACHMENTS = """
CREATE TABLE ir_attachment (id serial PRIMARY KEY, store_fname varchar, checksum varchar, file_size int);
"""


def test_database_tells_its_modules_versions_and_newest_orders(made: Made):
    url = made(MODULES, ORDERS)

    facts = observe_odoo(url)

    assert facts == OdooFacts(
        version="19.0.1.3",
        modules=(
            OdooModule("base", "19.0.1.3", "installed"),
            OdooModule("point_of_sale", "", "uninstalled"),
            OdooModule("sale", "19.0.1.2", "installed"),
        ),
        newest_sale_order_at=datetime(2026, 3, 2, 9, 30, 15, 250_000, tzinfo=UTC),
        newest_pos_order_at=None,
        uuid_sha256=hashlib.sha256(b"b7c3c9d0-source").hexdigest(),
    )
    assert facts.installed == (("base", "19.0.1.3"), ("sale", "19.0.1.2"))


def test_modules_alone_make_an_odoo_database(made: Made):
    url = made(MODULES, "DROP TABLE ir_config_parameter")

    facts = observe_odoo(url)

    assert facts is not None
    assert (facts.newest_sale_order_at, facts.newest_pos_order_at, facts.uuid_sha256) == (None, None, "")
    assert list(observe_attachments(url)) == []


@pytest.mark.parametrize(
    "script",
    [
        "SELECT 1",
        "CREATE TABLE ir_module_module (id int, name varchar)",
        "CREATE VIEW ir_module_module AS SELECT 'base' AS name, '19.0' AS latest_version, 'installed' AS state",
        "CREATE TABLE ir_module_module (id int, name varchar, latest_version varchar, state varchar)",
        "CREATE SCHEMA other; CREATE TABLE other.ir_module_module (id int, name text, latest_version text, state text);"
        "INSERT INTO other.ir_module_module VALUES (1, 'base', '19.0', 'installed')",
    ],
    ids=["empty", "columns", "view", "no-base", "other-schema"],
)
def test_what_only_looks_like_odoo_is_no_odoo_database(made: Made, script: str):
    assert observe_odoo(made(script)) is None


def test_hostile_words_of_modules_are_words(made: Made):
    url = made(
        MODULES,
        "INSERT INTO ir_module_module (name, latest_version, state) VALUES"
        " (E'x''); DROP TABLE ir_module_module; --\\n', NULL, NULL), (NULL, '1', 'installed'),"
        " ('left', '1', 'to upgrade')",
    )

    facts = observe_odoo(url)

    assert facts is not None
    assert [module.name for module in facts.modules if module.is_left_over] == ["left"]
    assert OdooModule("x'); DROP TABLE ir_module_module; --\n", "", "uninstalled") in facts.modules
    assert len(facts.modules) == 5


def test_attachments_are_named_once_each(made: Made):
    url = made(
        MODULES,
        ATTACHMENTS,
        "INSERT INTO ir_attachment (store_fname, checksum, file_size) VALUES"
        " ('aa/aa1', 'aa1', 5), ('aa/aa1', 'aa1', 5), ('bb/bb2', NULL, NULL), (NULL, 'cc3', 9), ('', 'dd4', 1),"
        " ('../../etc/passwd', 'x', -1), ('aa/aa1', 'other', 5)",
    )

    assert sorted(observe_attachments(url)) == [
        OdooAttachment("../../etc/passwd", "x", -1),
        OdooAttachment("aa/aa1", "aa1", 5),
        OdooAttachment("aa/aa1", "other", 5),
        OdooAttachment("bb/bb2", "", 0),
    ]


def test_attachments_are_streamed(made: Made):
    url = made(
        MODULES,
        ATTACHMENTS,
        "INSERT INTO ir_attachment (store_fname, checksum, file_size)"
        " SELECT substr(h, 1, 2) || '/' || h, h, n FROM (SELECT n, encode(sha256(n::text::bytea), 'hex') AS h"
        " FROM generate_series(1, 60000) n) AS made",
    )

    tracemalloc.start()
    count = sum(1 for _ in observe_attachments(url))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 60_000
    assert peak < 12_000_000


def test_database_that_is_away_is_transient():
    with pytest.raises(Transient) as refused:
        observe_odoo("postgresql://odoo:canary-password@127.0.0.1:9/shop")

    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("type_name", "value"),
    [("varchar", "canary"), ("timestamp", "infinity"), ("timestamp", "20000-01-01"), ("date", "2026-03-01")],
)
def test_time_of_an_order_that_is_none_is_left_out(made: Made, type_name: str, value: str):
    url = made(MODULES, f"CREATE TABLE sale_order AS SELECT 1 AS id, '{value}'::{type_name} AS create_date")

    facts = observe_odoo(url)

    assert facts is not None
    assert facts.newest_sale_order_at is None


def test_refused_statement_repeats_no_value(made: Made):
    url = made(MODULES, "CREATE TABLE ir_attachment (store_fname varchar, checksum varchar, file_size varchar)")
    run(url, "INSERT INTO ir_attachment VALUES ('aa/aa1', 'aa1', 'canary-size')")

    with pytest.raises(Permanent) as refused:
        list(observe_attachments(url))

    assert refused.value.reason == "The Odoo database refused a statement (42804)."
