"""Plain functions that make a small estate and a change in any state, by the same actions that people use."""

from tests.factories.changes import (
    CONTENT,
    PLAN_DOCUMENT,
    advance_to,
    assess,
    authorized_change,
    draft_change,
    plan_for,
    requirement_named,
    scheduled_change,
    submitted_change,
)
from tests.factories.estate import (
    NOW,
    SmallEstate,
    actor,
    add_environment,
    add_person,
    grant,
    small_estate,
    stranger_estate,
)

__all__ = [
    "CONTENT",
    "NOW",
    "PLAN_DOCUMENT",
    "SmallEstate",
    "actor",
    "add_environment",
    "add_person",
    "advance_to",
    "assess",
    "authorized_change",
    "draft_change",
    "grant",
    "plan_for",
    "requirement_named",
    "scheduled_change",
    "small_estate",
    "stranger_estate",
    "submitted_change",
]
