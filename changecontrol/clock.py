"""The one clock. Only edges (views, API, tasks, commands) read it; everything below takes `at`.

The database's clock is the authority: edges tell `set_offset` how far it is from this host's, so that hosts with
clocks of their own judge a window alike.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_offset = timedelta()


def now() -> datetime:
    """Return the database's time, timezone-aware in UTC."""
    return datetime.now(UTC) + _offset


def set_offset(offset: timedelta) -> None:
    """Remember how far the database's clock is ahead of this host's."""
    global _offset
    _offset = offset
