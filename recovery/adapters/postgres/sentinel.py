"""Sentinels: a row each minute in the source, from which is measured what a recovery lost (BCK-6)."""

from __future__ import annotations

from datetime import UTC, datetime

from changecontrol.errors import Permanent
from recovery.adapters.postgres.programs import connected

KEEP = "2 days"
TABLE = "changecontrol_sentinel"


def observe_database(url: str) -> None:
    """Ask a database whether it is there and lets us in."""
    with connected(url) as connection:
        connection.execute("SELECT")


def ensure_sentinel(url: str) -> None:
    """Write the row of this minute into the environment's database, and let old ones go. The table is ours alone."""
    with connected(url) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS changecontrol_sentinel (at timestamptz PRIMARY KEY DEFAULT clock_timestamp())"
        )
        connection.execute("INSERT INTO changecontrol_sentinel DEFAULT VALUES ON CONFLICT DO NOTHING")
        connection.execute("DELETE FROM changecontrol_sentinel WHERE at < clock_timestamp() - %s::interval", [KEEP])


def has_sentinels(url: str) -> bool:
    """Tell whether any was ever written into a database."""
    with connected(url) as connection:
        return connection.execute("SELECT to_regclass('changecontrol_sentinel')").fetchone() != (None,)


def newest_sentinel(url: str) -> datetime:
    """Return the newest row. Raises `Permanent` where there is none."""
    with connected(url) as connection:
        if connection.execute("SELECT to_regclass('changecontrol_sentinel')").fetchone() == (None,):
            raise Permanent("The restored database has no table of sentinels.")
        row = connection.execute("SELECT max(at) FROM changecontrol_sentinel").fetchone()
    if row is None or row[0] is None:
        raise Permanent("The restored database holds no sentinel.")
    newest: datetime = row[0]
    return newest.astimezone(UTC)
