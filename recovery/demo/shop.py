"""A database like Odoo's, with attachments beside it, and somebody who sells something every few seconds."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import structlog
from psycopg import sql

from recovery import doors

SELL_SECONDS = 5.0
PRODUCTS = ("Rye bread", "Oat drink", "Coffee", "Tea", "Apples", "Salt", "Butter", "Rice")
TABLES = """
CREATE TABLE IF NOT EXISTS ir_module_module (
    id serial PRIMARY KEY, name text UNIQUE, state text, latest_version text);
INSERT INTO ir_module_module (name, state, latest_version) VALUES
    ('base', 'installed', '19.0.1.3'), ('sale', 'installed', '19.0.1.2'), ('stock', 'installed', '19.0.1.1'),
    ('point_of_sale', 'installed', '19.0.1.0') ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS ir_config_parameter (id serial PRIMARY KEY, key text UNIQUE, value text);
INSERT INTO ir_config_parameter (key, value) VALUES ('database.uuid', gen_random_uuid()::text) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS ir_mail_server (
    id serial PRIMARY KEY, name text UNIQUE, smtp_host text, active boolean DEFAULT true);
INSERT INTO ir_mail_server (name, smtp_host) VALUES ('Receipts', 'mail.northwind.example') ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS ir_attachment (
    id serial PRIMARY KEY, name text, store_fname text, checksum text, file_size integer,
    create_date timestamp DEFAULT (now() AT TIME ZONE 'UTC'));
CREATE TABLE IF NOT EXISTS pos_order (
    id serial PRIMARY KEY, name text, product text, amount_total numeric,
    create_date timestamp DEFAULT (now() AT TIME ZONE 'UTC'));
"""


def ensure_database(server: str, *, name: str) -> str:
    """Make the database where there is none, and its tables; return its address."""
    with psycopg.connect(server, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    address = doors.url_of(server, database=name)
    with psycopg.connect(address) as connection:
        connection.execute(TABLES)
    return address


def sell_until(stop: threading.Event, *, server: str, in_use: Callable[[], tuple[str, Path]]) -> None:
    """Sell something every few seconds, with its receipt as an attachment, until told to stop.

    `in_use` tells the database and the folder of attachments each time: a restore may have put others in place.
    """
    log = structlog.get_logger(__name__)
    while not stop.wait(SELL_SECONDS):
        name, filestore = in_use()
        try:
            with psycopg.connect(doors.url_of(server, database=name)) as connection:
                sell(connection, filestore)
        except psycopg.Error as trouble:
            # Somebody tries what happens when the database is gone: the shop opens again with it.
            log.warning("shop.closed", problem=type(trouble).__name__)


def sell(connection: psycopg.Connection[object], filestore: Path) -> None:
    """Write one order with its receipt: the file first, as Odoo does, then the row that names it."""
    product, amount = secrets.choice(PRODUCTS), secrets.randbelow(2000) / 100
    receipt = f"{product} {amount:.2f}\n{secrets.token_hex(200)}".encode()
    digest = hashlib.sha1(receipt, usedforsecurity=False).hexdigest()
    place = filestore / digest[:2] / digest
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(receipt)
    order = connection.execute(
        "INSERT INTO pos_order (name, product, amount_total) VALUES (%s, %s, %s) RETURNING id",
        [f"Order {secrets.token_hex(4)}", product, amount],
    ).fetchone()
    connection.execute(
        "INSERT INTO ir_attachment (name, store_fname, checksum, file_size) VALUES (%s, %s, %s, %s)",
        [f"Receipt {order}", f"{digest[:2]}/{digest}", digest, len(receipt)],
    )
