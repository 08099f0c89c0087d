"""Odoo's `/json/2` interface on loopback, with a key that lives in a copy for as long as it is asked.

A refusal becomes `OdooRefused` with Odoo's own short message; an answer that does not come becomes one, too.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import requests

from changecontrol.errors import Permanent
from recovery.adapters.odoo.schema import one_transaction, read_schema

CALL_SECONDS = 180.0
KEY_NAME = "changecontrol"
KEY_BYTES = 20
INDEX_DIGITS = 8
ROUNDS = 6000
"""Odoo keeps of a key its first digits and passlib's PBKDF2 of all of it, with as many rounds as it takes itself."""
LONGEST_MESSAGE = 200
GROUPS = (
    ("base", "group_user"),
    ("base", "group_system"),
    ("sales_team", "group_sale_manager"),
    ("stock", "group_stock_manager"),
)


class OdooRefused(Exception):
    """Odoo did not do what it was asked; `sentence` says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class OdooApi:
    """Calls of one copy. Every call ends by `ends_at` (of the monotonic clock) at the latest."""

    def __init__(self, *, address: str, database: str, key: str, ends_at: float) -> None:
        self._address = address
        self._ends_at = ends_at
        self._session = requests.Session()
        # Neither a proxy nor a .netrc of this machine has a say in what is on loopback.
        self._session.trust_env = False
        self._session.headers.update({"Authorization": f"bearer {key}", "X-Odoo-Database": database})

    def __enter__(self) -> OdooApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def call(self, model: str, method: str, **arguments: Any) -> Any:
        """Return what a method returns. Raises `OdooRefused`."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise OdooRefused(f"There was no time left to call {model}/{method}.")
        try:
            answer = self._session.post(
                f"{self._address}/json/2/{model}/{method}",
                json=arguments,
                timeout=min(CALL_SECONDS, left),
                allow_redirects=False,
            )
            content = answer.json()
        except requests.RequestException as error:
            # Its words hold the address alone, never the key.
            raise OdooRefused(f"{model}/{method} was not answered ({type(error).__name__}).") from None
        if answer.status_code != 200:
            raise OdooRefused(f"{model}/{method} was refused: {_message(answer.status_code, content)}")
        return content


def _message(status: int, content: Any) -> str:
    if not isinstance(content, dict):
        return f"HTTP {status}."
    name = str(content.get("name") or "").rsplit(".", 1)[-1]
    words = " ".join(str(content.get("message") or "").split())[:LONGEST_MESSAGE]
    return f"HTTP {status}, {name}: {words}" if name or words else f"HTTP {status}."


@contextmanager
def temporary_key(url: str) -> Iterator[str]:
    """Make a key of the copy's administrator, who may sell and move stock meanwhile; afterwards all is as it was.

    It is written before Odoo starts, so that nothing of it is cached. Raises `Permanent` where there is nobody to act.
    """
    key = secrets.token_hex(KEY_BYTES)
    with one_transaction(url) as connection:
        tables = ("res_users", "res_users_apikeys", "res_groups_users_rel", "ir_model_data")
        schema = read_schema(connection, tables)
        if any(not schema.columns(table) for table in tables):
            raise Permanent("This Odoo database has no users or no keys, so nobody can sign in to its copy.")
        user, was_active = _administrator(connection)
        connection.execute("UPDATE res_users SET active = true WHERE id = %s AND NOT active", [user])
        given = _give_groups(connection, user)
        _remove_keys(connection)
        connection.execute(
            "INSERT INTO res_users_apikeys (name, user_id, scope, index, key, expiration_date)"
            " VALUES (%s, %s, 'rpc', %s, %s, (now() AT TIME ZONE 'utc') + interval '1 day')",
            [KEY_NAME, user, key[:INDEX_DIGITS], hash_of_key(key)],
        )
    try:
        yield key
    finally:
        with one_transaction(url) as connection:
            _remove_keys(connection)
            connection.execute("DELETE FROM res_groups_users_rel WHERE uid = %s AND gid = ANY(%s)", [user, given])
            connection.execute("UPDATE res_users SET active = %s WHERE id = %s", [was_active, user])


def hash_of_key(key: str) -> str:
    """Return what Odoo keeps of a key: passlib's `pbkdf2_sha512` in its own base 64."""
    salt = secrets.token_bytes(16)
    digest = hashlib.pbkdf2_hmac("sha512", key.encode(), salt, ROUNDS)
    return f"$pbkdf2-sha512${ROUNDS}${_base64(salt)}${_base64(digest)}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode().rstrip("=").replace("+", ".")


def _administrator(connection: psycopg.Connection[Any]) -> tuple[int, bool]:
    row = connection.execute(
        "SELECT u.id, u.active FROM ir_model_data d JOIN res_users u ON u.id = d.res_id"
        " WHERE d.model = 'res.users' AND d.module = 'base' AND d.name = 'user_admin'"
    ).fetchone()
    if row is None:
        raise Permanent("This Odoo database has no administrator (base.user_admin), so nobody can sign in to its copy.")
    return int(row[0]), bool(row[1])


def _give_groups(connection: psycopg.Connection[Any], user: int) -> list[int]:
    """Give the groups that a sale needs, and return those that were not there before."""
    rows = connection.execute(
        "INSERT INTO res_groups_users_rel (uid, gid) SELECT %s, d.res_id FROM ir_model_data d"
        " WHERE d.model = 'res.groups' AND (d.module, d.name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
        "   AND NOT EXISTS (SELECT FROM res_groups_users_rel r WHERE r.uid = %s AND r.gid = d.res_id)"
        " RETURNING gid",
        [user, [module for module, _ in GROUPS], [name for _, name in GROUPS], user],
    )
    return [gid for (gid,) in rows]


def _remove_keys(connection: psycopg.Connection[Any]) -> None:
    connection.execute("DELETE FROM res_users_apikeys WHERE name = %s", [KEY_NAME])
