"""Says what keeps a row from going on: what is wrong, since when, and when it is tried again."""

from __future__ import annotations

from changecontrol.models.leased import Leased
from changecontrol.workflow.engine import ATTEMPTS_LIMIT


def trouble_of(row: Leased) -> str:
    """Return the sentence for a row whose last step failed, or an empty string."""
    if not row.trouble or row.trouble_since is None:
        return ""
    if not row.attempts or row.next_due_at is None:
        return row.trouble  # under way elsewhere, or about to be taken up
    return (
        f"{row.trouble} Since {row.trouble_since:%H:%M} UTC; tried again at {row.next_due_at:%H:%M:%S} UTC "
        f"(attempt {row.attempts + 1} of {ATTEMPTS_LIMIT})."
    )
