from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from changecontrol.errors import Permanent
from recovery.adapters.odoo import ensure_neutralised, observe_neutralised, observe_odoo
from recovery.ports.odoo import NeutralisationFinding, NeutralisedBy
from tests.recovery.adapters.odoo.scene import (
    CANARIES,
    CRONS,
    EVERYTHING,
    MAIL,
    MODULES,
    OUTSIDE,
    PAYMENT,
    Made,
    every_value,
    run,
)


@pytest.fixture(autouse=True)
def no_odoo(settings: Any) -> None:
    settings.ODOO_COMMAND = []


def neutralise(url: str, folder: Path, run_id: str = "run-1") -> NeutralisedBy:
    return ensure_neutralised(url, run_id=run_id, folder=folder)


def test_every_way_out_of_a_source_is_found(made: Made):
    findings = observe_neutralised(made(*EVERYTHING))

    assert {finding.subject for finding in findings} == {
        "base_automation",
        "delivery_carrier",
        "fetchmail_server",
        "iap_account",
        "ir_act_server",
        "ir_config_parameter",
        "ir_cron",
        "ir_mail_server",
        "mail_mail",
        "mail_template",
        "payment_provider",
        "pos_payment_method",
        "queue_job",
        "res_company",
    }
    assert NeutralisationFinding("ir_cron", "ir_cron: scheduled jobs are active (3).") not in findings
    assert NeutralisationFinding("ir_cron", "ir_cron: scheduled jobs are active (2).") in findings


def test_nothing_can_go_out_of_a_neutralised_copy(made: Made, tmp_path: Path):  # ODO-3
    url = made(*EVERYTHING)

    assert neutralise(url, tmp_path) is NeutralisedBy.SQL

    assert observe_neutralised(url) == ()
    assert run(url, "SELECT name, active FROM ir_mail_server WHERE active") == [
        ("neutralization - disable emails", True)
    ]
    assert run(url, "SELECT id FROM ir_cron WHERE active") == [(1,)]
    assert run(url, "SELECT state FROM payment_provider ORDER BY id") == [("disabled",), ("test",), (None,)]
    assert run(url, "SELECT delivery_type FROM delivery_carrier WHERE active") == [("fixed",)]
    assert run(url, "SELECT state FROM mail_mail ORDER BY id") == [("cancel",), ("sent",)]
    assert run(url, "SELECT state FROM queue_job ORDER BY id") == [("cancelled",), ("done",)]
    assert run(url, "SELECT value FROM ir_config_parameter WHERE key = 'auth_signup.reset_password'") == [("True",)]


def test_no_secret_is_left_in_a_copy_or_said_of_it(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    url = made(*EVERYTHING)

    said = [repr(observe_neutralised(url)), repr(observe_odoo(url))]
    neutralise(url, tmp_path)
    said += [repr(observe_neutralised(url)), every_value(url), caplog.text, *capfd.readouterr()]

    assert [name for name, canary in CANARIES.items() if any(canary in words for words in said)] == []


def test_neutralising_again_changes_nothing(made: Made, tmp_path: Path):
    url = made(*EVERYTHING)
    neutralise(url, tmp_path)
    before = every_value(url)

    neutralise(url, tmp_path)

    assert every_value(url) == before


def test_each_run_gives_its_copy_an_identity_of_its_own(made: Made, tmp_path: Path):
    url = made(*EVERYTHING)
    source = observe_odoo(url)
    assert source is not None
    seen = [run(url, "SELECT value FROM ir_config_parameter WHERE key IN ('database.uuid', 'database.secret')")]

    for run_id in ("run-1", "run-2"):
        neutralise(url, tmp_path, run_id)
        seen.append(run(url, "SELECT value FROM ir_config_parameter WHERE key IN ('database.uuid', 'database.secret')"))

    assert len({value for rows in seen for (value,) in rows}) == 6
    assert observe_neutralised(url, source_uuid_sha256=source.uuid_sha256) == ()


def test_copy_with_the_identity_of_its_source_is_found(made: Made, tmp_path: Path):
    url = made(*EVERYTHING)
    neutralise(url, tmp_path)
    run(url, "UPDATE ir_config_parameter SET value = 'b7c3c9d0-source' WHERE key = 'database.uuid'")
    facts = observe_odoo(url)
    assert facts is not None

    assert observe_neutralised(url, source_uuid_sha256=facts.uuid_sha256) == (
        NeutralisationFinding("ir_config_parameter", "The copy has the same database.uuid as its source."),
    )


@pytest.mark.parametrize(
    "scripts",
    [(MODULES,), (MODULES, MAIL), (MODULES, CRONS), (MODULES, PAYMENT), (MODULES, OUTSIDE), (MODULES, MAIL, PAYMENT)],
    ids=["modules", "mail", "crons", "payment", "outside", "mail-payment"],
)
def test_any_subset_of_modules_is_neutralised(made: Made, tmp_path: Path, scripts: tuple[Any, ...]):
    url = made(*scripts)

    neutralise(url, tmp_path)

    assert observe_neutralised(url) == ()


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE ir_model_data",
        "ALTER TABLE ir_cron DROP ir_actions_server_id",
        "UPDATE ir_act_server SET code = 'model._run_vacuum_cleaner(); model._send_all()' WHERE id = 1",
        "UPDATE ir_act_server SET code = NULL",
        "DELETE FROM ir_model_data WHERE module = 'base'",
    ],
    ids=["no-names", "no-actions", "other-code", "no-code", "no-name"],
)
def test_cron_that_is_not_surely_the_cleaning_is_stopped(made: Made, tmp_path: Path, change: Any):
    url = made(MODULES, CRONS, change)

    neutralise(url, tmp_path)

    assert run(url, "SELECT count(*) FROM ir_cron WHERE active") == [(0,)]


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ("UPDATE ir_mail_server SET active = true WHERE id = 1", "ir_mail_server"),
        ("DELETE FROM ir_mail_server WHERE smtp_host = 'invalid'", "ir_mail_server"),
        ("UPDATE ir_mail_server SET smtp_pass = 'x' WHERE id = 1", "ir_mail_server"),
        ("UPDATE fetchmail_server SET active = true", "fetchmail_server"),
        ("UPDATE ir_cron SET active = true", "ir_cron"),
        ("UPDATE payment_provider SET state = 'enabled' WHERE id = 2", "payment_provider"),
        ("UPDATE payment_provider SET stripe_account = 'acct'", "payment_provider"),
        ("UPDATE iap_account SET account_token = 'again' WHERE id = 1", "iap_account"),
        ("UPDATE delivery_carrier SET active = true", "delivery_carrier"),
        ("UPDATE ir_act_server SET webhook_url = 'http://x' WHERE id = 4", "ir_act_server"),
        ("UPDATE base_automation SET active = true", "base_automation"),
        ("UPDATE res_company SET l10n_xx_production_env = true", "res_company"),
        ("UPDATE pos_payment_method SET adyen_test_mode = false", "pos_payment_method"),
        ("UPDATE ir_config_parameter SET value = 'false' WHERE key = 'database.is_neutralized'", "ir_config_parameter"),
        ("INSERT INTO ir_config_parameter (key, value) VALUES ('a.api_key', 'abc')", "ir_config_parameter"),
    ],
)
def test_each_way_out_that_is_opened_again_is_found(made: Made, tmp_path: Path, change: Any, subject: str):
    url = made(*EVERYTHING)
    neutralise(url, tmp_path)

    run(url, change)

    assert {finding.subject for finding in observe_neutralised(url)} == {subject}


def test_looking_changes_nothing(made: Made):
    url = made(*EVERYTHING)
    before = every_value(url)

    observe_neutralised(url)

    assert every_value(url) == before


def test_what_the_database_refuses_leaves_the_copy_as_it_was_and_repeats_no_value(made: Made, tmp_path: Path):
    url = made(
        *EVERYTHING,
        "ALTER TABLE fetchmail_server ADD CONSTRAINT must_be_active CHECK (active OR password = '')",
    )
    before = every_value(url)

    with pytest.raises(Permanent) as refused:
        neutralise(url, tmp_path)

    assert refused.value.reason == (
        "The Odoo database refused a statement (23514, table fetchmail_server constraint must_be_active)."
    )
    assert every_value(url) == before


def test_database_of_something_else_is_refused(made: Made, tmp_path: Path):
    with pytest.raises(Permanent, match="not an Odoo database"):
        neutralise(made("CREATE TABLE marks (id int)"), tmp_path)


def test_search_path_of_the_database_leads_nowhere(made: Made, tmp_path: Path):
    url = made(
        *EVERYTHING,
        "CREATE SCHEMA decoy; CREATE TABLE decoy.ir_cron (id int, active boolean)",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = decoy', current_database()); END $$",
    )

    neutralise(url, tmp_path)

    assert observe_neutralised(url) == ()
    assert run(url, "SELECT count(*) FROM public.ir_cron WHERE active") == [(1,)]
