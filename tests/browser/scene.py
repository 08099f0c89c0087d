"""A retailer at work, as pages show it: changes in every state, one decided in two rounds, one that runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from changecontrol import access, clock, outbox
from changecontrol.actions import changes
from changecontrol.actions.evidence import store_artefact
from changecontrol.actions.gates import Judged, record_gate_result
from changecontrol.events import Tag
from changecontrol.gates import GateVerdict, gates_for
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, Freeze, Run, RunTarget, Window
from changecontrol.models.gate import Verdict
from tests.factories import SmallEstate, actor, advance_to, assess, draft_change, small_estate, submitted_change
from tests.factories.changes import reject

PILOT = {"name": "Pilot", "environments": ["production"], "cohorts": ["pilot"], "promotion": "manual"}
WAVES = [
    {**PILOT, "bake_seconds": 1200},
    {"name": "Everybody else", "environments": ["production"], "cohorts": ["rest"], "bake_seconds": 1200},
]
INDICATOR = {"indicator": "pos_orders_unsynchronised", "threshold": 0.01}


@dataclass(frozen=True)
class Scene:
    """Numbers of what the pages show; `estate` has the people."""

    estate: SmallEstate
    waiting: str
    strict: str
    draft: str
    assessing: str
    running: str
    closed: str
    at: datetime


def build_scene() -> Scene:
    at = clock.now() - timedelta(hours=2)
    estate = small_estate()
    for person, zone in ((estate.ada, "Europe/Helsinki"), (estate.ben, "Europe/Lisbon")):
        person.zone = zone
        person.save()
    _calendar(estate, at)
    closed = advance_to(estate, ChangeState.CLOSED, at=at, title="Shorter bake for image-only rollouts")
    running = _running(estate, at)
    waiting = _second_round(estate, at)
    strict = ChangeRequest.objects.get(pk=_assessed(estate, at, title="Rotate the payment gateway secret").pk)
    ChangeRequest.objects.filter(pk=strict.pk).update(tier=1)
    advance_to(estate, ChangeState.REJECTED, at=at, title="Larger worker pool in Berlin")
    advance_to(estate, ChangeState.ON_HOLD, at=at, title="New printer driver for labels")
    draft = draft_change(estate, at=at, title="Replenishment: faster reorder proposals", commit="", revision_name="")
    assessing = submitted_change(estate, at=at, title="Log level of the job runner")
    with transaction.atomic():
        outbox.post(
            to=[estate.ben],
            tag=Tag.CHANGE_STARTED,
            subject=f"{running.number} has started",
            text=running.title,
            at=at,
            change=running,
        )
    return Scene(
        estate=estate,
        waiting=waiting.number,
        strict=strict.number,
        draft=draft.number,
        assessing=assessing.number,
        running=running.number,
        closed=closed.number,
        at=at,
    )


def _calendar(estate: SmallEstate, at: datetime) -> None:
    Window.objects.create(
        tenant=estate.tenant,
        name="Northwind night",
        stage="production",
        rrule="FREQ=DAILY",
        starts_local=(at - timedelta(days=1)).replace(hour=1, minute=0, second=0, microsecond=0),
        duration_seconds=4 * 3600,
        created_at=at,
    )
    Freeze.objects.create(
        name="Peak trading",
        reason="The busiest week of the year",
        starts_at=at + timedelta(days=3),
        ends_at=at + timedelta(days=9),
        opened_by=estate.ben,
    )


def _document(change: ChangeRequest, *, image: str, manifests: str) -> dict[str, Any]:
    target = {"environment": "production", "workload": "Deployment/odoo-web"}
    return {
        "source": "https://git.retailer.example/estate.git",
        "commit_from": "a41c9d2" + "0" * 33,
        "images": [{"workload": "Deployment/odoo-web", "image": image, "digest": image.rpartition("@")[2]}],
        "targets": [
            {**target, "cohort": "pilot", "wave": 0, "stores": 2, "sales_share": 3.0},
            {**target, "cohort": "rest", "wave": 1, "stores": 2, "sales_share": 7.0},
        ],
        "thresholds": [
            {
                "name": "pos_orders_unsynchronised",
                "comparison": "at_most",
                "threshold": 0.01,
                "minimum_samples": 3,
                "consecutive_breaches": 2,
            }
        ],
        "rollback": {
            "class": "R0",
            "reasons": ["Only images and configuration differ."],
            "how": "Going back applies the commit that runs there now and writes that to Git.",
        },
        "waves": change.revision.content["waves"],
        "manifests_sha256": manifests,
    }


def _manifests(change: ChangeRequest, image: str, at: datetime) -> str:
    def deployment(name: str) -> dict[str, Any]:
        spec = {"replicas": 2, "template": {"spec": {"containers": [{"name": "odoo", "image": name}]}}}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "odoo-web"}, "spec": spec}

    old = "registry.example/odoo@sha256:" + "8" * 64
    stored = {"production": {"new": [deployment(image)], "old": [deployment(old)]}}
    return store_artefact(
        change_id=change.pk,
        name="manifests.json",
        media_type="application/json",
        data=json.dumps(stored).encode(),
        source="assessment",
        actor=access.system_actor("test"),
        at=at,
    ).sha256


def _judge(change: ChangeRequest, at: datetime) -> None:
    system = access.system_actor("test")
    for gate in gates_for(change.kind):
        raw = store_artefact(
            change_id=change.pk,
            name=f"{gate.key}.json",
            media_type="application/json",
            data=json.dumps({"gate": gate.key, "findings": []}).encode(),
            source="gate",
            actor=system,
            at=at,
        )
        found = GateVerdict(Verdict.PASS, "Nothing was found.", "5" * 64, "manifests", tool_version="1.0")
        judged = Judged(gate.key, gate.name, gate.tool, timedelta(hours=12), found, raw.sha256, 1.2)
        with transaction.atomic():
            locked = ChangeRequest.objects.select_for_update().get(pk=change.pk)
            record_gate_result(locked, revision=change.revision, judged=judged, actor=system, at=at)


def _assessed(estate: SmallEstate, at: datetime, *, image: str = "2", **answers: Any) -> ChangeRequest:
    change = submitted_change(estate, at=at, waves=WAVES, indicators=[INDICATOR], **answers)
    return _finish(change, at, image=image)


def _finish(change: ChangeRequest, at: datetime, *, image: str) -> ChangeRequest:
    name = "registry.example/odoo@sha256:" + image * 64
    stored = _manifests(change, name, at)
    _judge(change, at)
    return assess(change, at=at, **_document(change, image=name, manifests=stored))


def _second_round(estate: SmallEstate, at: datetime) -> ChangeRequest:
    """Return a change that Cy rejected, that Ada mended, and that waits for its approvers again."""
    first = _assessed(estate, at - timedelta(hours=3), image="1", title="POS loyalty: move points to a ledger")
    first = reject(estate, first, at=at - timedelta(hours=2))
    ada = actor(estate.ada, at=at)
    content = {**first.draft, "reason": "Points are lost when two tills close at the same time.", "failure_budget": 1}
    changes.save_draft(
        actor=ada, change_id=first.pk, content=content, seen_version=first.draft_version, at=at - timedelta(hours=1)
    )
    again = changes.submit_change(actor=ada, change_id=first.pk, at=at - timedelta(hours=1)).change
    return _finish(again, at - timedelta(minutes=50), image="2")


def _running(estate: SmallEstate, at: datetime) -> ChangeRequest:
    change = advance_to(estate, ChangeState.IMPLEMENTING, at=at, title="Odoo 19.0 of 20 November", waves=WAVES)
    run = Run.objects.get(change=change)
    Run.objects.filter(pk=run.pk).update(state="running", wave=1)
    for number, (workload, state) in enumerate(
        [("web", "healthy"), ("pos", "healthy"), ("bus", "updating"), ("jobs", "pending")]
    ):
        RunTarget.objects.create(
            run=run,
            environment=estate.production,
            wave=number // 2,
            workload=f"Deployment/odoo-{workload}",
            state=state,
        )
    return change
