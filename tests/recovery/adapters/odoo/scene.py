"""Databases that look like Odoo's to SQL, made of the tables a test names, with secrets never to be seen again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tests.plugin import SERVICES, with_name

CANARIES = {
    "mail password": "canary-mail-7f3a",
    "provider key": "canary-provider-9b21",
    "IAP token": "canary-iap-c4d8",
    "webhook": "https://canary-webhook-55e0.example/",
    "company password": "canary-company-1a2b",
    "parameter": "canary-parameter-3c4d",
}

MODULES: LiteralString = """
CREATE TABLE ir_module_module (id serial PRIMARY KEY, name varchar, latest_version varchar, state varchar);
INSERT INTO ir_module_module (name, latest_version, state) VALUES
  ('base', '19.0.1.3', 'installed'), ('sale', '19.0.1.2', 'installed'), ('point_of_sale', NULL, 'uninstalled');
CREATE TABLE ir_config_parameter (id serial PRIMARY KEY, key varchar UNIQUE NOT NULL, value text NOT NULL);
INSERT INTO ir_config_parameter (key, value) VALUES
  ('database.uuid', 'b7c3c9d0-source'), ('database.secret', 'source-secret'), ('auth_signup.reset_password', 'True'),
  ('web.base.url', 'https://shop.example');
"""

MAIL: LiteralString = """
CREATE TABLE ir_mail_server (id serial PRIMARY KEY, name varchar NOT NULL, smtp_host varchar, smtp_port int,
  smtp_encryption varchar NOT NULL, smtp_authentication varchar NOT NULL, smtp_user varchar, smtp_pass varchar,
  smtp_ssl_private_key bytea, active boolean);
INSERT INTO ir_mail_server (name, smtp_host, smtp_encryption, smtp_authentication, smtp_pass, smtp_ssl_private_key,
  active) VALUES
  (E'shop ''"; DROP TABLE x; --\\n', 'smtp.example', 'ssl', 'login', 'canary-mail-7f3a', 'canary-mail-7f3a', true),
  ('old', 'smtp.example', 'ssl', 'login', '', NULL, NULL);
CREATE TABLE fetchmail_server (id serial PRIMARY KEY, password varchar NOT NULL, active boolean);
INSERT INTO fetchmail_server (password, active) VALUES ('canary-mail-7f3a', true);
CREATE TABLE mail_template (id serial PRIMARY KEY, mail_server_id int REFERENCES ir_mail_server);
INSERT INTO mail_template (mail_server_id) VALUES (1), (NULL);
CREATE TABLE mail_mail (id serial PRIMARY KEY, state varchar);
INSERT INTO mail_mail (state) VALUES ('outgoing'), ('sent');
"""

CRONS: LiteralString = """
CREATE TABLE ir_act_server (id serial PRIMARY KEY, name jsonb, state varchar, code text, webhook_url varchar);
CREATE TABLE ir_cron (id serial PRIMARY KEY, cron_name varchar, ir_actions_server_id int, active boolean);
CREATE TABLE ir_model_data (id serial PRIMARY KEY, module varchar, name varchar, model varchar, res_id int);
INSERT INTO ir_act_server (state, code, webhook_url) VALUES
  ('code', E'model._run_vacuum_cleaner()\n', NULL), ('code', 'model._send_all()', NULL),
  ('code', 'model._push_prices()', NULL), ('webhook', NULL, 'https://canary-webhook-55e0.example/');
INSERT INTO ir_cron (cron_name, ir_actions_server_id, active) VALUES
  ('Nightly tidy', 1, true), ('Base: Auto-vacuum internal data', 2, true), ('autovacuum_job', 3, true);
INSERT INTO ir_model_data (module, name, model, res_id) VALUES
  ('base', 'autovacuum_job', 'ir.cron', 1), ('mail', 'ir_cron_mail', 'ir.cron', 2),
  ('shop', 'autovacuum_job', 'ir.cron', 3), ('base', 'autovacuum_job', 'res.partner', 3);
"""

PAYMENT: LiteralString = """
CREATE TABLE payment_provider (id serial PRIMARY KEY, name jsonb, code varchar, state varchar,
  stripe_secret_key varchar, stripe_account varchar, adyen_api_key varchar NOT NULL DEFAULT '', "odd ""key_secret" text,
  journal_key int);
INSERT INTO payment_provider (code, state, stripe_secret_key, stripe_account, adyen_api_key, "odd ""key_secret") VALUES
  ('stripe', 'enabled', 'canary-provider-9b21', 'canary-provider-9b21', 'canary-provider-9b21', 'canary-provider-9b21'),
  ('demo', 'test', NULL, NULL, '', NULL), (NULL, NULL, NULL, NULL, '', NULL);
CREATE TABLE pos_payment_method (id serial PRIMARY KEY, adyen_test_mode boolean, mp_bearer_token varchar);
INSERT INTO pos_payment_method (adyen_test_mode, mp_bearer_token) VALUES (false, 'canary-provider-9b21'), (NULL, NULL);
"""

OUTSIDE: LiteralString = """
CREATE TABLE iap_account (id serial PRIMARY KEY, account_token varchar);
INSERT INTO iap_account (account_token) VALUES ('canary-iap-c4d8'), ('canary-iap-c4d8+disabled'), (NULL);
CREATE TABLE delivery_carrier (id serial PRIMARY KEY, delivery_type varchar, prod_environment boolean, active boolean);
INSERT INTO delivery_carrier (delivery_type, prod_environment, active) VALUES
  ('fixed', false, true), ('ups_rest', true, true);
CREATE TABLE base_automation (id serial PRIMARY KEY, active boolean);
INSERT INTO base_automation (active) VALUES (true);
CREATE TABLE queue_job (id serial PRIMARY KEY, state varchar);
INSERT INTO queue_job (state) VALUES ('pending'), ('done');
CREATE TABLE res_company (id serial PRIMARY KEY, l10n_xx_password varchar, l10n_xx_production_env boolean,
  l10n_yy_use_test_env boolean);
INSERT INTO res_company (l10n_xx_password, l10n_xx_production_env, l10n_yy_use_test_env) VALUES
  ('canary-company-1a2b', true, false);
INSERT INTO ir_config_parameter (key, value) VALUES ('shop.gateway_secret', 'canary-parameter-3c4d');
"""

EVERYTHING = (MODULES, MAIL, CRONS, PAYMENT, OUTSIDE)


@contextmanager
def made_of(*scripts: LiteralString) -> Iterator[str]:
    """Give the address of a database of these tables, which is dropped with the block."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = with_name(SERVICES.owner_url, name)
    with psycopg.connect(with_name(SERVICES.owner_url, "postgres"), autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            for script in scripts:
                run(url, script)
            yield url
        finally:
            owner.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


Made = Callable[..., str]


def run(url: str, statement: LiteralString) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def every_value(url: str) -> str:
    """Return all that a database holds, as one text: where a secret must not be found."""
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        parts = []
        for (table,) in tables.fetchall():
            rows = connection.execute(sql.SQL("SELECT to_jsonb(t)::text FROM {} t").format(sql.Identifier(table)))
            parts += [f"{table}: {row}" for (row,) in rows]
        return "\n".join(sorted(parts))
