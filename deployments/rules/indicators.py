"""The catalogue of indicators, and how one becomes a query. Metric names and labels are data; no user's text enters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from deployments.rules.analysis import Comparison

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_REGEX_SPECIAL = re.compile(r"([\\.^$|?*+()\[\]{}])")


class Aggregation(StrEnum):
    """How the series of one environment become one value."""

    MAX = "max"
    MIN = "min"
    AVERAGE = "avg"
    SUM = "sum"


class Health(StrEnum):
    BUSINESS = "business"
    TECHNICAL = "technical"


@dataclass(frozen=True, slots=True)
class Indicator:
    """One thing worth watching. `threshold` is the default a person starts from; `unit` is `ratio` or empty.

    Series of some metrics carry no cohort: those are watched for the whole environment.
    """

    key: str
    title: str
    metric: str
    health: Health
    comparison: Comparison
    threshold: float
    aggregation: Aggregation
    unit: str = ""
    is_by_cohort: bool = True

    def __post_init__(self) -> None:
        if not _METRIC.match(self.metric):
            raise ValueError(f"“{self.metric}” is no metric name.")

    def words(self, value: float) -> str:
        """Return a value as a person reads it."""
        return f"{value * 100:.2g} %" if self.unit == "ratio" else f"{value:g}"

    def rule_words(self, threshold: float) -> str:
        return f"{self.comparison.value.replace('_', ' ')} {self.words(threshold)}"


CATALOGUE: Mapping[str, Indicator] = {
    one.key: one
    for one in (
        Indicator(
            "pos_orders_unsynchronised",
            "POS orders not synchronised",
            "odoo_pos_orders_unsynchronised_ratio",
            Health.BUSINESS,
            Comparison.AT_MOST,
            0.01,
            Aggregation.MAX,
            unit="ratio",
        ),
        Indicator(
            "stock_moves_delayed",
            "Stock moves delayed",
            "odoo_stock_moves_delayed",
            Health.BUSINESS,
            Comparison.AT_MOST,
            10,
            Aggregation.MAX,
        ),
        Indicator(
            "order_import_backlog",
            "Order import backlog",
            "odoo_order_import_backlog",
            Health.BUSINESS,
            Comparison.AT_MOST,
            60,
            Aggregation.MAX,
        ),
        Indicator(
            "payment_reconciliation_anomalies",
            "Payment reconciliation anomalies",
            "odoo_payment_reconciliation_anomalies",
            Health.BUSINESS,
            Comparison.AT_MOST,
            5,
            Aggregation.MAX,
        ),
        Indicator(
            "http_errors",
            "HTTP errors",
            "odoo_http_request_errors_ratio",
            Health.TECHNICAL,
            Comparison.AT_MOST,
            0.01,
            Aggregation.MAX,
            unit="ratio",
        ),
        Indicator(
            "availability",
            "Replicas available",
            "kube_deployment_status_replicas_available",
            Health.TECHNICAL,
            Comparison.AT_LEAST,
            1,
            Aggregation.MIN,
            is_by_cohort=False,
        ),
    )
}
"""What ships. A rule of a plan names one of these by its key."""


def query_for(indicator: Indicator, *, namespace: str, cohorts: Sequence[str] = ()) -> str:
    """Return the PromQL of an indicator for an environment, narrowed to cohorts where some are named."""
    matchers = [("namespace", "=", namespace)]
    if cohorts and indicator.is_by_cohort:
        matchers.append(("cohort", "=~", "|".join(_REGEX_SPECIAL.sub(r"\\\1", one) for one in sorted(cohorts))))
    inside = ",".join(f'{label}{operator}"{_escape(value)}"' for label, operator, value in matchers)
    return f"{indicator.aggregation.value}({indicator.metric}{{{inside}}})"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
