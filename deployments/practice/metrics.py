"""What a monitored estate would show, derived from the pods that were ready when: series as functions of time.

A pod counts from the moment it became ready until it no longer is. A cohort with nothing ready has no series.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from deployments.practice.behaviour import Behaviour, behaviour_of
from deployments.practice.clock import PracticeClock
from deployments.practice.eviction import is_ready
from deployments.practice.registry import Registry
from deployments.practice.store import Change, Item, Store

COHORT_LABELS = ("changecontrol.io/cohort", "cohort")
SPANS_KEPT = 400
"""Ended spans of readiness kept per cohort; the counters keep what older ones added."""

LEAK_STARTS_AFTER, LEAK_PER_SECOND, LEAK_AT_MOST = 14.0, 0.01, 0.18
"""A slow leak crosses 5 % about 20 s after a pod became ready, in the estate's seconds."""
REQUESTS_PER_SECOND = 12.0

Labels = Mapping[str, str]
Series = tuple[Labels, float]


@dataclass(slots=True)
class _Span:
    uid: str
    since: float
    until: float | None
    is_leaking: bool

    def covers(self, at: float) -> bool:
        return self.since <= at and (self.until is None or at < self.until)

    def seconds(self, at: float) -> float:
        return max(0.0, min(at, self.until if self.until is not None else at) - self.since)


@dataclass(slots=True)
class _Cohort:
    open: dict[str, _Span]
    ended: list[_Span]
    earlier_seconds: float = 0.0

    def covering(self, at: float) -> list[_Span]:
        return [span for span in (*self.open.values(), *self.ended) if span.covers(at)]

    def total_seconds(self, at: float) -> float:
        return self.earlier_seconds + sum(span.seconds(at) for span in (*self.open.values(), *self.ended))


def _noise(*words: object) -> float:
    """Return a number between 0 and 1 that the words decide."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def cohort_of(item: Item) -> str:
    """Name the cohort a pod serves; one without a label is its own workload's."""
    labels = item.labels
    for name in COHORT_LABELS:
        if name in labels:
            return labels[name]
    return str(labels.get("app.kubernetes.io/name") or labels.get("app") or "default")


class Metrics:
    """Watches the pods and answers what each metric was at a time."""

    def __init__(self, store: Store, registry: Registry, clock: PracticeClock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._cohorts: dict[tuple[str, str], _Cohort] = {}
        store.listeners.append(self._hear)
        self._metrics: dict[str, Callable[[float], Iterable[Series]]] = {
            "odoo_pos_orders_unsynchronised_ratio": lambda at: self._gauge(at, self._unsynchronised),
            "odoo_http_request_errors_ratio": lambda at: self._gauge(at, self._errors_ratio),
            "odoo_stock_moves_delayed": lambda at: self._gauge(at, self._stock_moves),
            "odoo_order_import_backlog": lambda at: self._gauge(at, self._backlog),
            "odoo_payment_reconciliation_anomalies": lambda at: self._gauge(at, self._anomalies),
            "odoo_http_requests_total": self._requests,
            "kube_deployment_status_replicas_available": self._available,
            "up": lambda at: [({"job": "odoo", "instance": "practice"}, 1.0)],
        }

    def names(self) -> list[str]:
        return sorted(self._metrics)

    def series(self, name: str, at: float) -> list[Series]:
        """Return every series of a metric as it stood at a time; an unknown metric has none."""
        found = self._metrics.get(name)
        return list(found(at)) if found is not None else []

    def _hear(self, change: Change) -> None:
        item = change.after
        if item.kind.key != ("", "pods") or not _is_workload(item):
            return
        uid = item.metadata["uid"]
        key = (item.namespace, cohort_of(item))
        is_serving = change.verb != "DELETED" and is_ready(item)
        cohort = self._cohorts.get(key)
        if is_serving and (cohort is None or uid not in cohort.open):
            cohort = self._cohorts.setdefault(key, _Cohort({}, []))
            is_leaking = behaviour_of(item.body) is Behaviour.SLOW_LEAK
            cohort.open[uid] = _Span(uid, self._clock.now(), None, is_leaking)
        elif not is_serving and cohort is not None and uid in cohort.open:
            span = cohort.open.pop(uid)
            span.until = self._clock.now()
            cohort.ended.append(span)
            while len(cohort.ended) > SPANS_KEPT:
                cohort.earlier_seconds += cohort.ended[0].seconds(self._clock.now())
                del cohort.ended[0]

    def _gauge(self, at: float, value: Callable[[str, str, list[_Span], float], float]) -> Iterable[Series]:
        for (namespace, name), cohort in sorted(self._cohorts.items()):
            spans = cohort.covering(at)
            if spans:
                yield {"namespace": namespace, "cohort": name}, value(namespace, name, spans, at)

    def _leak(self, spans: list[_Span], at: float) -> float:
        """Return the share of work that is lost to leaks, averaged over the pods."""
        lost = 0.0
        for span in spans:
            age = (at - span.since) * self._clock.speed
            if span.is_leaking and age > LEAK_STARTS_AFTER:
                lost += min(LEAK_AT_MOST, (age - LEAK_STARTS_AFTER) * LEAK_PER_SECOND)
        return lost / len(spans)

    def _unsynchronised(self, namespace: str, name: str, spans: list[_Span], at: float) -> float:
        return round(0.001 + 0.003 * _noise("pos", namespace, name, int(at / 5)) + self._leak(spans, at), 6)

    def _errors_ratio(self, namespace: str, name: str, spans: list[_Span], at: float) -> float:
        return round(0.0005 + 0.001 * _noise("http", namespace, name, int(at / 5)) + self._leak(spans, at) / 10, 6)

    def _stock_moves(self, namespace: str, name: str, spans: list[_Span], at: float) -> float:
        return float(int(4 * _noise("stock", namespace, name, int(at / 15)) + 200 * self._leak(spans, at)))

    def _backlog(self, namespace: str, name: str, spans: list[_Span], at: float) -> float:
        return float(int(6 * _noise("orders", namespace, name, int(at / 10)) + 400 * self._leak(spans, at)))

    def _anomalies(self, namespace: str, name: str, spans: list[_Span], at: float) -> float:
        return float(int(1.5 * _noise("payments", namespace, name, int(at / 60)) + 20 * self._leak(spans, at)))

    def _requests(self, at: float) -> Iterable[Series]:
        for (namespace, name), cohort in sorted(self._cohorts.items()):
            if not cohort.covering(at):
                continue
            total = cohort.total_seconds(at) * REQUESTS_PER_SECOND
            for code, share in (("200", 0.999), ("500", 0.001)):
                yield {"namespace": namespace, "cohort": name, "code": code}, float(int(total * share))

    def _available(self, at: float) -> Iterable[Series]:
        # The store knows only the present; an earlier time gets what is available now.
        for item in self._store.items(self._registry.of("Deployment", "apps")):
            status = item.body.get("status") or {}
            yield {"namespace": item.namespace, "deployment": item.name}, float(status.get("availableReplicas", 0))


def _is_workload(item: Item) -> bool:
    return bool((item.body.get("spec") or {}).get("restartPolicy", "Always") == "Always")
