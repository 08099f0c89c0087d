"""Reads of recovery. What other apps may ask is named here."""

from recovery.queries.cut_overs import (
    PREPARING_STEP,
    Preparation,
    RestorePlan,
    Standing,
    preparation_of,
    restore_plan_of,
)
from recovery.queries.freshness import Freshness, freshness_in, freshness_of
from recovery.queries.promises import DrillStanding, Limit, Promise, promise_of

__all__ = [
    "PREPARING_STEP",
    "DrillStanding",
    "Freshness",
    "Limit",
    "Preparation",
    "Promise",
    "RestorePlan",
    "Standing",
    "freshness_in",
    "freshness_of",
    "preparation_of",
    "promise_of",
    "restore_plan_of",
]
