"""The copy of a real shop: neutralised, asked, booted, and sold from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Permanent
from changecontrol.processes import is_same_process, processes_working_in, start_time_of, wait_until
from recovery.adapters.odoo import ensure_neutralised, observe_attachments, observe_neutralised, observe_odoo
from recovery.adapters.odoo.api import OdooApi, temporary_key
from recovery.adapters.odoo.checks import run_odoo_checks
from recovery.adapters.odoo.places import make_place, tear_down_odoo
from recovery.adapters.odoo.sale import REFERENCE, make_synthetic_sale
from recovery.adapters.odoo.server import booted, link_filestore
from recovery.adapters.postgres.archiving import ensure_no_slot
from recovery.adapters.postgres.dumping import take_dump
from recovery.adapters.postgres.programs import Programs, find_programs
from recovery.adapters.postgres.restoring import Restored
from recovery.adapters.postgres.sandbox import make_sandbox
from recovery.adapters.postgres.scratch import start_dump
from recovery.jobs.recovered import begin_altering, server_at
from recovery.ports.odoo import NeutralisedBy, OdooCheck
from tests.odoo import COMMAND, Copy, Shop, running_shop
from tests.plugin import ROOT
from tests.recovery.adapters.odoo.scene import run
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at, runs, ship_until

__all__ = ["runs"]

# The first of them installs the shop.
pytestmark = [pytest.mark.odoo, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with running_shop() as shop:
        yield shop


@pytest.fixture
def copy(shop: Shop) -> Iterator[Copy]:
    with shop.copied() as copy:
        yield copy


@pytest.fixture(autouse=True)
def odoo(settings: Any) -> None:
    settings.ODOO_COMMAND = [COMMAND]


WAYS_OUT = """
INSERT INTO ir_mail_server (name, smtp_host, smtp_port, smtp_encryption, smtp_authentication, smtp_user, smtp_pass,
  active) VALUES ('shop', '127.0.0.1', {port}, 'none', 'login', 'shop', 'canary-mail-7f3a', true);
INSERT INTO fetchmail_server (name, server_type, server, port, "user", password, active, state)
  VALUES ('shop', 'imap', '127.0.0.1', {port}, 'shop', 'canary-mail-7f3a', true, 'done');
UPDATE payment_provider SET state = 'enabled', stripe_secret_key = 'canary-provider-9b21',
  stripe_publishable_key = 'canary-provider-9b21', stripe_webhook_secret = 'canary-provider-9b21' WHERE code = 'stripe';
INSERT INTO iap_account (account_token, service_id) SELECT 'canary-iap-c4d8', min(id) FROM iap_service;
UPDATE ir_act_server SET state = 'webhook', webhook_url = 'http://127.0.0.1:{port}/canary-webhook-55e0'
  WHERE id = (SELECT max(id) FROM ir_act_server);
"""


@pytest.fixture
def trap() -> Iterator[tuple[int, list[str]]]:
    """Listen where mail and webhooks of the source would go, and note who comes."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append("somebody")
                connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)


def neutralise(copy: Copy, *, run_id: str = "run-1") -> NeutralisedBy:
    return ensure_neutralised(copy.url, run_id=run_id, folder=copy.folder)


def check(copy: Copy, *, url: str = "", run_id: str = "run-1") -> tuple[OdooCheck, ...]:
    return run_odoo_checks(database_url=url or copy.url, filestore=copy.filestore, folder=copy.folder, run_id=run_id)


@contextmanager
def asked(copy: Copy) -> Iterator[OdooApi]:
    """Boot a copy and give its interface."""
    database = copy.url.rsplit("/", 1)[1]
    place = make_place(copy.folder, run_id="asked")
    link_filestore(place, database=database, filestore=copy.filestore)
    with (
        temporary_key(copy.url) as key,
        booted(place, url=copy.url, seconds=300) as odoo,
        OdooApi(address=odoo.address, database=database, key=key, ends_at=time.monotonic() + 300) as api,
    ):
        yield api
    tear_down_odoo(copy.folder, run_id="asked")


def failed(checks: tuple[OdooCheck, ...]) -> list[tuple[str, str]]:
    return [(one.name, one.sentence) for one in checks if not one.is_passed]


def counts(url: str) -> dict[str, int]:
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        return {
            table: connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchall()[0][0]
            for (table,) in tables
        }


def test_shop_tells_what_it_is_and_names_the_files_it_has(copy: Copy):
    facts = observe_odoo(copy.url)
    attachments = list(observe_attachments(copy.url))

    assert facts is not None
    assert facts.version.startswith("19.0.")
    assert {"base", "sale", "stock", "point_of_sale"} <= dict(facts.installed).keys()
    assert facts.newest_sale_order_at is not None
    assert len(attachments) > 100
    for attachment in attachments:
        path = copy.filestore / attachment.name
        assert (path.name, path.stat().st_size) == (attachment.sha1, attachment.size)


@pytest.mark.parametrize("way", ["odoo", "sql"])
def test_nothing_goes_out_of_a_copy_neutralised_either_way(  # ODO-3
    copy: Copy, settings: Any, trap: tuple[int, list[str]], way: str
):
    port, came = trap
    with psycopg.connect(copy.url, autocommit=True) as connection:
        connection.execute(WAYS_OUT.format(port=port).encode())
    assert {finding.subject for finding in observe_neutralised(copy.url)} >= {
        "fetchmail_server",
        "iap_account",
        "ir_act_server",
        "ir_cron",
        "ir_mail_server",
        "payment_provider",
    }
    if way == "sql":
        settings.ODOO_COMMAND = []

    assert neutralise(copy) is NeutralisedBy(way)
    neutralise(copy)

    assert observe_neutralised(copy.url) == ()
    assert run(copy.url, "SELECT count(*) FROM ir_mail_server WHERE smtp_host = 'invalid'") == [(1,)]
    settings.ODOO_COMMAND = [COMMAND]
    with asked(copy) as api:
        values = {"subject": "Hello", "body_html": "Hello", "email_to": "ada@shop.example"}
        [mail] = api.call("mail.mail", "create", vals_list=[values])
        api.call("mail.mail", "send", ids=[mail])
        [sent] = api.call("mail.mail", "read", ids=[mail], fields=["state"])
        assert sent["state"] == "exception"
        [action] = api.call("ir.actions.server", "search", domain=[["state", "=", "webhook"]], limit=1, order="id desc")
        api.call("ir.actions.server", "run", ids=[action])
    assert came == []


def test_neutralised_copy_boots_sells_and_is_left_as_it_was(copy: Copy):  # ODO-2, BCK-5
    neutralise(copy)
    before = counts(copy.url)

    checks = check(copy)

    assert failed(checks) == []
    assert [one.name for one in checks] == ["neutralised", "modules", "boot", "code", "synthetic sale"]
    assert {one.level for one in checks} == {4}
    after = counts(copy.url)
    assert {table: (before[table], after[table]) for table in before if before[table] != after[table]} == {}
    assert sorted(path.name for path in copy.folder.iterdir()) == ["files"]


def entered(restored: Restored, database: str, *, programs: Programs) -> str:
    """Return the address by which a drill asks and alters a restored database."""
    server = server_at(restored.url, version="", programs=programs)
    begin_altering(server, database=database)
    return server.url_of(database)


def test_shop_that_was_backed_up_and_restored_boots_and_sells(shop: Shop, copy: Copy, tmp_path: Path, runs: Path):
    programs = find_programs(major=17, folders=[str(shop.server.tool("pg_basebackup").parent)])
    store = open_store(f"file://{tmp_path}/objects")
    source = Source(server=shop.server, programs=programs, store=store, prefix="shop/s", folder=tmp_path, runs=runs)
    archiver = source.archiver()
    archiver.start()
    try:
        base = source.back_up()
        at = now_at(source)
        run(copy.url, "UPDATE ir_cron SET cron_name = 'after'")
        ship_until(archiver, now_at(source))
        with source.restore(base, at=at) as restored:
            url = entered(restored, copy.url.rsplit("/", 1)[1], programs=programs)
            found = observe_odoo(url)
            ensure_neutralised(url, run_id="run-1", folder=restored.sandbox.folder)

            checks = run_odoo_checks(
                database_url=url, filestore=copy.filestore, folder=restored.sandbox.folder, run_id="run-1"
            )

            assert found == observe_odoo(copy.url)
            assert failed(checks) == []
            assert len(checks) == 5
            # Odoo works as the role that asks, and needs none of its own.
            assert run(url, "SELECT count(*) FROM pg_roles WHERE rolname ~ '^changecontrol_[0-9a-f]{12}$'") == [(0,)]
            assert run(url, "SELECT count(*) FROM ir_cron WHERE cron_name = 'after'") == [(0,)]
    finally:
        archiver.stop()
        ensure_no_slot(source.url, slot=source.slot)


def test_shop_that_was_dumped_and_brought_back_on_a_server_of_its_own_boots_and_sells(
    shop: Shop, copy: Copy, tmp_path: Path, runs: Path
):
    programs = find_programs(major=17, folders=[str(shop.server.tool("pg_basebackup").parent)])
    store = open_store(f"file://{tmp_path}/objects")
    words: dict[str, Any] = {"store": store, "programs": programs}
    dump = take_dump(url=copy.url, **words, prefix="shop/s", label="only", recipients=[KEY.recipient])
    sandbox = make_sandbox(runs, run_id="scratch")

    with start_dump(sandbox, **words, dump=dump, identities=[KEY.identity], role="postgres") as restored:
        url = entered(restored, dump.database, programs=programs)
        found = observe_odoo(url)
        ensure_neutralised(url, run_id="run-1", folder=sandbox.folder)
        checks = run_odoo_checks(database_url=url, filestore=copy.filestore, folder=sandbox.folder, run_id="run-1")

    assert found == observe_odoo(copy.url)
    assert failed(checks) == []
    assert len(checks) == 5


def test_copy_that_is_not_neutralised_is_never_started(copy: Copy):
    [only] = check(copy)

    assert (only.name, only.is_passed) == ("neutralised", False)
    assert only.sentence.startswith("It was not started.")
    assert sorted(path.name for path in copy.folder.iterdir()) == ["files"]


def test_module_left_to_upgrade_and_module_without_code_are_named(copy: Copy):
    neutralise(copy)
    run(
        copy.url,
        "UPDATE ir_module_module SET state = 'to upgrade' WHERE name = 'delivery';"
        "INSERT INTO ir_module_module (name, state, latest_version) VALUES ('shop_extra', 'installed', '19.0.1.0')",
    )

    assert failed(check(copy)) == [
        ("modules", "These modules were left to be installed, upgraded or removed: delivery."),
        ("code", "Odoo has no code for these modules; ODOO_ADDONS names their folders: shop_extra."),
    ]


def test_database_of_other_code_is_not_what_its_base_says(copy: Copy):
    neutralise(copy)
    run(copy.url, "UPDATE ir_module_module SET latest_version = '18.0.1.3' WHERE name = 'base'")

    with pytest.raises(Permanent) as refused:
        check(copy)

    assert refused.value.reason == "The database is of Odoo 18.0, and ODOO_COMMAND runs Odoo 19.0."


def test_damaged_table_is_found_by_booting_and_its_rows_are_not_repeated(copy: Copy):
    neutralise(copy)
    run(copy.url, "ALTER TABLE res_company RENAME COLUMN partner_id TO lost")

    found = failed(check(copy))

    assert found
    assert "canary" not in json.dumps(found)


LOCKING = """
INSERT INTO res_groups_implied_rel (gid, hid) SELECT everybody.res_id, locking.res_id
  FROM ir_model_data everybody, ir_model_data locking
  WHERE (everybody.module, everybody.name, everybody.model) = ('base', 'group_user', 'res.groups')
    AND (locking.module, locking.name, locking.model) = ('sale', 'group_auto_done_setting', 'res.groups');
"""
"""What “Lock Confirmed Sales” does: every user has its group, by the one they all have."""


def test_shop_that_locks_what_it_confirms_sells_and_is_left_as_it_was(copy: Copy):  # ODO-2
    neutralise(copy)
    run(copy.url, LOCKING)
    before = counts(copy.url)

    with asked(copy) as api:
        sentence = make_synthetic_sale(api, url=copy.url)
        [order] = crashed_sale(api)
        [left] = api.call("sale.order", "read", ids=[order], fields=["state", "locked"])
        assert (left["state"], left["locked"]) == ("sale", True)
        again = make_synthetic_sale(api, url=copy.url)
        orders = api.call("sale.order", "search_count", domain=[["client_order_ref", "=", REFERENCE]])

    assert ("taken back" in sentence, "taken back" in again, orders) == (True, True, 0)
    after = counts(copy.url)
    assert {table: (before[table], after[table]) for table in before if before[table] != after[table]} == {}


def crashed_sale(api: OdooApi) -> list[int]:
    """Confirm an order as one that is never taken back."""
    [partner] = api.call("res.partner", "create", vals_list=[{"name": REFERENCE, "ref": REFERENCE}])
    domain = [["is_storable", "=", True], ["qty_available", ">", 5], ["sale_ok", "=", True]]
    [product] = api.call("product.product", "search", domain=domain, limit=1)
    values = {
        "partner_id": partner,
        "client_order_ref": REFERENCE,
        "order_line": [[0, 0, {"product_id": product, "product_uom_qty": 1}]],
    }
    made: list[int] = api.call("sale.order", "create", vals_list=[values])
    api.call("sale.order", "action_confirm", ids=made)
    return made


def test_what_a_crash_left_of_a_sale_is_swept_by_the_next(copy: Copy):
    neutralise(copy)
    before = counts(copy.url)
    with asked(copy) as api:
        order = crashed_sale(api)
        api.call("sale.order", "copy", ids=order, default={"client_order_ref": REFERENCE})

        sentence = make_synthetic_sale(api, url=copy.url)

        assert "taken back" in sentence
        assert api.call("sale.order", "search_count", domain=[["client_order_ref", "=", REFERENCE]]) == 0
    after = counts(copy.url)
    assert {table: (before[table], after[table]) for table in before if before[table] != after[table]} == {}


def test_odoo_ends_with_whoever_started_it_and_its_leftovers_are_torn_down(copy: Copy):
    neutralise(copy)
    code = (
        "import django, sys; django.setup()\n"
        "from pathlib import Path\n"
        "from recovery.adapters.odoo.checks import run_odoo_checks\n"
        "url, filestore, folder = sys.argv[1:]\n"
        "run_odoo_checks(database_url=url, filestore=Path(filestore), folder=Path(folder), run_id='cut')\n"
    )
    command = [sys.executable, "-c", code, copy.url, str(copy.filestore), str(copy.folder)]
    worker = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"ODOO_COMMAND": COMMAND})
    work = copy.folder / "odoo-cut" / "work"
    assert wait_until(lambda: work.is_dir() and bool(processes_working_in(work)), seconds=120)
    [pid, *_] = processes_working_in(work)
    started = start_time_of(pid)
    assert started is not None

    worker.send_signal(signal.SIGKILL)
    worker.wait()

    assert wait_until(lambda: not is_same_process(pid, started=started), seconds=120)
    tear_down_odoo(copy.folder, run_id="cut")
    assert sorted(path.name for path in copy.folder.iterdir()) == ["files"]


def test_folder_of_somebody_else_stays(copy: Copy):
    theirs = copy.folder / "odoo-run-1"
    theirs.mkdir()

    with pytest.raises(Permanent, match="does not carry the run's id"):
        tear_down_odoo(copy.folder, run_id="run-1")

    assert theirs.is_dir()
    shutil.rmtree(theirs)


def test_filestore_that_is_not_there_is_no_verdict_on_the_copy(copy: Copy):
    neutralise(copy)

    with pytest.raises(Permanent, match="is not there"):
        run_odoo_checks(database_url=copy.url, filestore=Path("/nowhere"), folder=copy.folder, run_id="run-1")

    assert sorted(path.name for path in copy.folder.iterdir()) == ["files"]
