"""Reads of recovery. What other apps may ask is named here."""

from recovery.queries.freshness import Freshness, freshness_of

__all__ = ["Freshness", "freshness_of"]
