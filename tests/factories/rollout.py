"""A rollout in the middle of its third wave: twelve cohorts of five workloads, measured, logged, with one deferred."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction

from changecontrol import access
from changecontrol.actions import approvals, changes
from changecontrol.actions.locking import locked_change
from changecontrol.models import ChangeRequest, Cohort, Region, Run, RunLog, RunTarget, Store
from deployments.models import Measurement, MeasurementSample
from tests.factories.changes import assess, requirement_named, submitted_change
from tests.factories.estate import SmallEstate, actor

WORKLOADS = ("web", "pos", "bus", "jobs", "cron")
WAVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Pilot", ("hel-p",)),
    ("Wave 1", ("hel-a", "ber-a", "lis-a")),
    ("Wave 2", ("hel-b", "ber-b", "ber-c", "lis-b")),
    ("Wave 3", ("ber-d", "lis-c", "lis-d", "lis-e")),
)
ZONES = {
    "hel": ("Helsinki", "Europe/Helsinki"),
    "ber": ("Berlin", "Europe/Berlin"),
    "lis": ("Lisbon", "Europe/Lisbon"),
}
STORES = 4
SHARE = Decimal("2")
LAST = ("lis-b", ("healthy", "updating", "updating", "pending", "pending"))
DEFERRED = ("ber-c", ("healthy", "updated", "updated", "updated", "deferred"))


@dataclass(frozen=True)
class LiveRun:
    change: ChangeRequest
    run: Run


def live_run(
    estate: SmallEstate, *, at: datetime, title: str = "Odoo image 19.0-20261120: POS session close fix"
) -> LiveRun:
    """Return a run two hours under way at `at`."""
    began = at - timedelta(hours=2)
    cohorts = _cohorts(estate)
    waves = [
        {"name": name, "environments": ["production"], "cohorts": list(slugs), "bake_seconds": 1800}
        for name, slugs in WAVES
    ]
    change = submitted_change(estate, at=began - timedelta(days=1), title=title, waves=waves)
    change = assess(change, at=began - timedelta(days=1), **_document(change, waves))
    for person, role in ((estate.cy, "technical_reviewer"), (estate.ben, "change_manager")):
        approvals.cast_vote(
            actor=actor(person, at=began),
            requirement_id=requirement_named(change, role).pk,
            verdict="approve",
            seen_digest=change.plan.digest,
            at=began,
        )
    with transaction.atomic():
        locked = locked_change(actor(estate.ada), change.pk)
        run = Run.objects.create(
            change=locked,
            revision=locked.revision,
            plan=locked.plan,
            kind="rollout",
            state="running",
            wave=2,
            wave_opened_at=at - timedelta(minutes=26),
            started_at=began,
            created_at=began,
            sentence="Wave 2: 4 targets are being updated.",
        )
        changes.start_change(locked, run=run, actor=access.system_actor("test"), at=began)
    _targets(estate, run, cohorts, at=at)
    _measure(estate, run, at=at)
    _log(run, at=at)
    return LiveRun(change=ChangeRequest.objects.get(pk=change.pk), run=run)


def _cohorts(estate: SmallEstate) -> dict[str, Cohort]:
    regions = {
        slug: Region.objects.create(tenant=estate.tenant, slug=slug, name=name) for slug, (name, _) in ZONES.items()
    }
    found: dict[str, Cohort] = {}
    for _, slugs in WAVES:
        for slug in slugs:
            place = slug.partition("-")[0]
            found[slug] = Cohort.objects.create(
                tenant=estate.tenant, slug=slug, name=f"NW-{slug.upper()}", is_pilot=slug.endswith("-p")
            )
            for number in range(STORES):
                Store.objects.create(
                    tenant=estate.tenant,
                    region=regions[place],
                    cohort=found[slug],
                    code=f"NW-{slug.upper()}-{number}",
                    name=f"{ZONES[place][0]} {number}",
                    zone=ZONES[place][1],
                    opens_at=time(9),
                    closes_at=time(20),
                    sales_share=SHARE,
                )
    estate.production.cohorts.add(*found.values())
    return found


def _document(change: ChangeRequest, waves: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "content": {**change.revision.content, "failure_budget": 2, "max_unavailable": 4},
        "commit_from": "a41c9d2" + "0" * 33,
        "environments": [{"name": "production"}],
        "waves": [{**wave, "promotion": "automatic"} for wave in waves],
        "targets": [
            {
                "environment": "production",
                "cohort": slug,
                "wave": number,
                "workload": f"Deployment/odoo-{workload}-{slug}",
                "stores": STORES,
                "sales_share": float(SHARE * STORES),
            }
            for number, (_, slugs) in enumerate(WAVES)
            for slug in slugs
            for workload in WORKLOADS
        ],
        "rollback": {"class": "R0", "reasons": ["Only images differ."], "plan": "", "how": ""},
    }


def _targets(estate: SmallEstate, run: Run, cohorts: dict[str, Cohort], *, at: datetime) -> None:
    special = dict((LAST, DEFERRED))
    began = run.started_at or at
    for number, (_, slugs) in enumerate(WAVES):
        for slug in slugs:
            default = ("pending",) * 5 if number > 2 else ("healthy",) * 5
            for workload, state in zip(WORKLOADS, special.get(slug, default), strict=True):
                start = None if state == "pending" else began + timedelta(minutes=30 * number)
                RunTarget.objects.create(
                    run=run,
                    environment=estate.production,
                    cohort=cohorts[slug],
                    wave=number,
                    workload=f"Deployment/odoo-{workload}-{slug}",
                    state=state,
                    sentence="Node de-1-w7 does not answer; tried again every minute." if state == "deferred" else "",
                    desired_count=4,
                    ready_count={"healthy": 4, "updated": 3, "updating": 1}.get(state, 0),
                    applied=[] if state == "pending" else [{"object": workload}],
                    started_at=start,
                    finished_at=start + timedelta(minutes=2) if start and state == "healthy" else None,
                )


def _measure(estate: SmallEstate, run: Run, *, at: datetime) -> None:
    rows: tuple[tuple[str, str, float, str, tuple[float | None, ...]], ...] = (
        (
            "pos_orders_unsynchronised",
            "POS orders not synchronised",
            0.01,
            "pass",
            (0.003, 0.004, 0.0035, 0.005, 0.004),
        ),
        ("stock_moves_delayed", "Stock moves delayed", 10, "no_data", ()),
        ("http_errors", "HTTP errors", 0.01, "pass", (0.0012, 0.002, None, 0.0015, 0.0012)),
        ("availability", "Replicas available", 1, "pass", (4, 4, 3, 4, 4)),
    )
    for key, title, threshold, verdict, values in rows:
        one = Measurement.objects.create(
            run=run,
            wave=2,
            environment=estate.production,
            indicator=key,
            title=title,
            query=f"max({key})",
            comparison="at_least" if key == "availability" else "at_most",
            threshold=threshold,
            minimum_samples=3,
            breach_count=2,
            started_at=at - timedelta(minutes=20),
            verdict=verdict,
            sentence=f"{title}: there is no data."
            if verdict == "no_data"
            else f"{title}: {len(values)} samples are well.",
        )
        for number, value in enumerate(values):
            MeasurementSample.objects.create(measurement=one, at=at - timedelta(minutes=20 - number * 4), value=value)


def _log(run: Run, *, at: datetime) -> None:
    lines = (
        (120, "player-play", "Wave 0, Pilot, is open."),
        (90, "player-play", "Wave 1, Wave 1, is open."),
        (26, "player-play", "Wave 2, Wave 2, is open."),
        (20, "player-pause", "Cy asked to pause. “Looking at delayed stock moves in Berlin.”"),
        (14, "clock-pause", "production Deployment/odoo-cron-ber-c: the node does not answer."),
        (13, "player-play", "Cy asked to resume."),
        (1, "circle-check", "production Deployment/odoo-web-lis-b: healthy, 4 of 4 pods."),
    )
    for minutes, icon, sentence in lines:
        RunLog.objects.create(run=run, at=at - timedelta(minutes=minutes), icon=icon, sentence=sentence)
