"""Samples for `components/gallery.html`: one moment of one estate, Monday 23 November 2026, 10:12 in Lisbon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms, template

from changecontrol.templatetags import states

register = template.Library()

NOW = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)
DIGEST = "sha256:7f3ac91e5d02c8f119d0e4aa88e1b3f2c2a94d075be0e07b518a41c9d240b204"
_COMMIT = "e07b518a41c9d2f03a6650cb1f1f1a7d9be177a0"
_TENTH = (
    ("successful",) * 3 + ("successful_with_issues",) + ("successful",) * 2 + ("rolled_back",) + ("successful",) * 3
)


def _at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


class _ChangeForm(forms.Form):
    """A form with every kind of control, two of its answers refused."""

    title = forms.CharField(label="Title", help_text="What will be different afterwards, in a few words.")
    source = forms.ChoiceField(label="Git source", choices=[("shared", "shared/estate"), ("nw", "northwind/estate")])
    why = forms.CharField(label="Why", widget=forms.Textarea(attrs={"rows": 2}))
    strategy = forms.ChoiceField(
        label="Strategy",
        choices=[("rolling", "Rolling"), ("canary", "Canary"), ("blue_green", "Blue-green")],
        widget=forms.RadioSelect,
    )
    processes = forms.MultipleChoiceField(
        label="Business processes",
        choices=[("checkout", "Checkout"), ("sync", "POS synchronisation")],
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )
    is_tested = forms.BooleanField(label="Rehearsed on staging", help_text="Attach what was seen.")

    def clean_strategy(self) -> str:
        raise forms.ValidationError("A canary is not possible over a module update. Choose rolling.")


def _form() -> _ChangeForm:
    words = {
        "title": "",
        "source": "shared",
        "why": "Proposals take 40 min.",
        "strategy": "canary",
        "processes": ["sync"],
    }
    return _ChangeForm({**words, "is_tested": "on"}, auto_id="sample_%s")


def _gates() -> list[dict[str, Any]]:
    def gate(title: str, note: str, verdict: str, minutes: int, **more: Any) -> dict[str, Any]:
        common = {"judged": DIGEST, "judged_kind": "plan", "tool": "policy version 18", "artefact": "report.json"}
        ages = {"age": timedelta(minutes=minutes), "fresh_for": timedelta(hours=21), "artefact_url": "#gates"}
        return {"title": title, "note": note, "verdict": verdict, **common, **ages, **more}

    return [
        gate("Deployment policy", "12 rules, none broken", "pass", 160),
        gate("Manifest validation", "41 objects; 1 refused by the server", "fail", 161),
        gate(
            "Secret scan",
            "0 findings in 4 commits",
            "stale",
            1560,
            judged=_COMMIT,
            judged_kind="commit",
            fresh_for=None,
        ),
        gate("Dependency review", "waived until Wed 25 Nov", "waived", 310),
        gate("Target conflict", "the cluster does not answer", "error", 2, artefact_url=""),
        {"title": "Change window", "verdict": "no_data", "judged": "", "age": None},
    ]


def _approvals() -> dict[str, Any]:
    vote = {
        "person": "Cy",
        "initials": "C",
        "verdict": "approve",
        "digest": DIGEST,
        "at": _at(23, 9, 12),
        "how": "passkey",
        "comment": "Rehearsed on nw-staging: 41 s for 1.2 million rows, row counts match.",
    }
    old = {**vote, "is_stale": True, "comment": "", "acting_for": "Ben"}
    done = {"title": "Technical reviewer", "filled": 1, "quorum": 1, "is_met": True, "votes": [vote]}
    wait = {
        "title": "Change manager",
        "note": "3 people in the group; you can fill this place",
        "filled": 0,
        "quorum": 1,
    }
    return {"met": done, "open": {**wait, "is_open": True, "votes": [old]}}


def _run() -> dict[str, Any]:
    columns = ["web", "pos", "bus", "jobs", "cron"]

    def row(label: str, *cells: str) -> dict[str, Any]:
        made = [
            {"column": column, "state": state, "count": "" if state == "pending" else "4/4", "url": "#run"}
            for column, state in zip(columns, cells, strict=True)
        ]
        return {"label": label, "note": "10 stores, 8 %", "place": "Northwind, Helsinki", "cells": made}

    rows = [
        row("NW-HEL-B", "healthy", "healthy", "updated", "updating", "deferred"),
        row("KO-LIS", "failed", "reverted", "skipped", "pending", "pending"),
    ]
    waves = [
        {"label": "Pilot", "total": 5, "counts": {"healthy": 5}, "note": "5 of 5", "summary": "5 of 5 healthy"},
        {"label": "Wave 1", "total": 15, "counts": {"healthy": 15}, "note": "15 of 15", "summary": "15 of 15 healthy"},
        {
            "label": "Wave 2",
            "total": 20,
            "counts": {"healthy": 11, "updated": 4, "updating": 2, "deferred": 1, "failed": 1},
            "note": "11 of 20, since 09:46 WET",
            "summary": "11 healthy, 4 updated, 2 updating, 1 deferred, 1 failed, 1 pending",
        },
        {"label": "Wave 3", "total": 20, "counts": {"pending": 20}, "note": "0 of 20", "summary": "20 pending"},
    ]
    line = [0.3, 0.4, 0.35, 0.5, None, 0.45, 0.6, 0.4, 0.42, 0.4]
    indicator = {"title": "POS orders not synchronised", "rule": "at most 1.0 %", "period": "last 26 min"}
    return {
        "columns": columns,
        "waves": waves,
        "grid": [
            {
                "label": "Wave 0, pilot",
                "state": "promoted",
                "count": "5 of 5 healthy",
                "rows": [row("NW-HEL-P", *["healthy"] * 5)],
            },
            {"label": "Wave 2", "state": "running", "count": "11 of 20 healthy", "note": "53 stores", "rows": rows},
        ],
        "indicators": [
            {
                **indicator,
                "samples": line,
                "baseline": [0.35] * 10,
                "threshold": 1.0,
                "value": "0.4 %",
                "samples_note": "13 of 10",
                "verdict": "pass",
            },
            {
                **indicator,
                "title": "Stock moves delayed",
                "samples": [],
                "value": "none",
                "samples_note": "0 of 10",
                "verdict": "no_data",
                "silence": "no sample since 09:44 WET",
            },
        ],
        "controls": [
            {
                "verb": "pause",
                "label": "Pause",
                "icon": "player-pause",
                "is_primary": True,
                "url": "#run",
                "consequence": "Targets in work finish; nothing new starts.",
            },
            {"verb": "resume", "label": "Resume", "icon": "player-play", "refusal": "The run is not paused."},
            {
                "verb": "abort",
                "label": "Abort: stop here, leave as is",
                "confirm": "Abort run 1",
                "icon": "hand-stop",
                "url": "#run",
                "reason_label": "Why you abort",
                "strong": "Puts nothing back.",
                "consequence": "35 targets stay on the new image, 23 on the old.",
            },
            {
                "verb": "roll_back",
                "label": "Roll back to the old image",
                "confirm": "Roll back",
                "icon": "arrow-back-up",
                "url": "#run",
                "is_undo": True,
                "reason_label": "Why you roll back",
                "strong": "Puts the old image back",
                "consequence": "on up to 37 targets, in the cluster and in Git. No data is lost (R0).",
                "choices": {
                    "legend": "How far",
                    "name": "scope",
                    "options": [
                        {"value": "wave", "label": "Wave 2 only", "hint": "17 targets, about 9 min", "is_chosen": True},
                        {"value": "all", "label": "All waves", "hint": "37 targets, about 14 min"},
                    ],
                },
            },
        ],
    }


def _calendar() -> dict[str, Any]:
    start = _at(23, 0)
    days = [start + timedelta(days=count) for count in range(14)]
    axis = {
        "start": start,
        "end": start + timedelta(days=14),
        "now": NOW,
        "days": [
            {
                "start": day,
                "label": f"{day:%a} {day.day}",
                "note": "today" if day == start else "",
                "is_today": day == start,
            }
            for day in days
        ],
    }
    nights = [{"start": day + timedelta(hours=2), "end": day + timedelta(hours=5)} for day in days]
    frozen, thawed = _at(25, 0), _at(25, 0) + timedelta(days=7)
    freeze = {"start": frozen, "end": thawed, "kind": "freeze"}
    held = [{**night, "is_held": frozen <= night["start"] < thawed} for night in nights]
    changes = [
        {"label": "CHG-000138", "url": "#cal", "state": "implementing", "start": _at(23, 8), "end": _at(23, 11, 38)},
        {"label": "CHG-000142", "url": "#cal", "state": "authorize", "start": _at(24, 2), "end": _at(24, 5)},
        {"label": "CHG-000144", "url": "#cal", "state": "on_hold", "start": _at(26, 2), "end": _at(26, 4)},
    ]
    blackout = {
        "start": start + timedelta(days=12, hours=18),
        "end": start + timedelta(days=13, hours=12),
        "kind": "blackout",
    }
    lane = {"note": "Lisbon, WET · 34 stores", "windows": held, "blocks": [freeze, blackout], "changes": changes}
    fit_start = _at(24, 0)
    fit = {
        "label": "0 nw-pilot",
        "window": "02:00 to 05:00 EET",
        "window_start": fit_start,
        "window_end": fit_start + timedelta(hours=3),
        "run_start": fit_start,
        "run_end": fit_start + timedelta(minutes=18),
        "bake_end": fit_start + timedelta(minutes=38),
        "back_end": fit_start + timedelta(minutes=73),
        "spare": timedelta(minutes=107),
        "sum": "18 + 20 + 35 min",
        "summary": "Window 00:00 to 03:00 WET; run to 00:18, bake to 00:38, rollback at worst to 01:13",
    }
    ticks = [fit_start + timedelta(hours=count) for count in range(6)]
    return {
        "axis": axis,
        "lanes": [{"title": "Northwind Grocers", **lane}, {"title": "Kite Outlet", **lane}],
        "fit": [fit, {**fit, "label": "1 nw-hel", "spare": timedelta(minutes=-34)}],
        "fit_axis": {"start": ticks[0], "end": ticks[-1], "ticks": ticks},
        "covered": [{"start": start, "end": axis["end"]}],
        "gaps": [{"start": _at(29, 3), "end": _at(29, 5)}],
    }


def _queue() -> list[dict[str, Any]]:
    first = {
        "title": "Raise PostgreSQL connections on nw-ber",
        "url": "#queue",
        "number": "CHG-000147",
        "meta": "emergency · asked by Ada for INC-2291",
        "summary": "max_connections 200 to 260 on de-1; pooler reload, no restart.",
        "store_count": 38,
        "share": 0.27,
        "gate_counts": [{"verdict": "pass", "count": 7}, {"verdict": "stale", "count": 1}],
        "gate_note": "capacity is 26 h old and runs again",
        "results": _TENTH,
        "results_summary": "8 successful, 1 with issues, 1 rolled back",
        "left": timedelta(minutes=48),
        "by": _at(23, 11),
        "is_urgent": True,
        "tag": "R0 · Tier 0",
        "tag_note": "no data at stake",
        "may": True,
        "place": "As change manager, 0 of 2.",
    }
    refusal = {"title": "You edited revision 2.", "text": "Whoever ever owned or edited a change cannot approve it."}
    own = {"title": "Shorter bake", "number": "CHG-000148", "may": False, "is_urgent": False, "refusal": refusal}
    return [first, {**first, **own, "results": ()}]


@register.simple_tag
def gallery_samples() -> dict[str, Any]:
    """Return everything the gallery shows."""
    edited = {
        "kind": "del",
        "old": 21,
        "parts": [{"text": "  image: odoo@sha256:"}, {"text": "88e1b3f2", "is_marked": True}],
    }
    added = {
        "kind": "ins",
        "new": 21,
        "parts": [{"text": "  image: odoo@sha256:"}, {"text": "c2a94d07", "is_marked": True}],
    }
    tables = {
        "Change": states.CHANGE,
        "Close code": states.CLOSE_CODE,
        "Run": states.RUN,
        "Target": states.TARGET,
        "Gate": states.GATE,
        "Vote": states.VOTE,
        "Calendar": states.CALENDAR,
        "Other": states.OTHER,
    }
    return {
        "now": NOW,
        "soon": NOW + timedelta(minutes=48),
        "earlier": NOW - timedelta(hours=2, minutes=41),
        "zone": "Europe/Lisbon",
        "digest": DIGEST,
        "commit": _COMMIT,
        "tables": tables,
        "form": _form(),
        "gates": _gates(),
        "approvals": _approvals(),
        "run": _run(),
        "calendar": _calendar(),
        "coverage_axis": ("14 Nov", "21 Nov", "now"),
        "queue": _queue(),
        "results": _TENTH,
        "facts": [
            {"label": "Healthy on the new image", "value": "31 of 60", "note": "targets; 44 of 150 stores"},
            {"label": "Time left", "value": "1 h 26 min", "note": "ends about 11:38 WET"},
            {"label": "Failure budget", "value": "1 of 2", "state": "warning", "note": "targets failed"},
            {"label": "Drift", "value": "2", "state": "alarm", "note": "environments"},
        ],
        "pairs": [
            {"label": "Why", "value": "Points are lost when two tills close at the same time."},
            {"label": "Source", "digest": _COMMIT, "note": "4 commits by Ada"},
            {"label": "Image", "digest": f"registry.example/odoo@{DIGEST}"},
            {"label": "Environment", "value": "nw-prod", "url": "#facts"},
        ],
        "alarms": [
            {
                "tone": "bad",
                "icon": "git-compare",
                "title": "Unauthorised change on ko-prod",
                "text": "replicas 4, approved 6",
                "url": "#alarms",
                "link": "Drift",
            },
            {"tone": "warn", "icon": "certificate", "title": "Certificate ends inside the freeze"},
        ],
        "diff_fields": [
            {"field": "Bake time", "before": "10 min", "after": "20 min"},
            {"field": "Backup gate", "before": "", "after": "at most 6 h old", "note": "asked by the class"},
            {"field": "Wave 3", "before": "NW-LIS-B", "after": ""},
        ],
        "diff_rows": [
            {"kind": "hunk", "text": "Deployment web, from line 20"},
            {"kind": "same", "old": 20, "new": 20, "text": "  - name: odoo"},
            edited,
            added,
        ],
        "reasons": [
            {"tone": "good", "text": "You hold the open place: change manager, stage 2"},
            {"tone": "good", "text": "8 of 8 gates pass for this digest"},
            {"tone": "warn", "icon": "key", "text": "Tier 1: you confirm with your passkey when you vote"},
        ],
        "why": {"title": "You asked for this change.", "text": "Ben, or another change manager, can decide."},
        "log": [
            {
                "at": _at(23, 10, 11),
                "tone": "good",
                "icon": "circle-check",
                "text": "KO-LIS web: healthy, 4 of 4 pods",
                "note": "new image",
            },
            {
                "at": _at(23, 9, 52),
                "tone": "hold",
                "icon": "player-pause",
                "text": "Cy paused: “Looking at stock moves.”",
            },
            {"day": "Fri 20 Nov"},
            {"at": _at(20, 15, 40), "icon": "send", "text": "Ada submitted revision 3, plan", "digest": DIGEST},
        ],
        "sections": [
            {"label": "Plan", "url": "#facts", "is_current": True},
            {"label": "Gates", "url": "#gates", "count": 6},
            {"label": "Approvals", "url": "#approvals", "count": "1 of 3"},
        ],
        "step": {
            "number": 1,
            "title": "Try a good change",
            "text": "Roll out a new image to a pilot and three waves.",
            "points": [{"icon": "rocket", "text": "Watch 60 targets turn healthy"}],
            "url": "#guide",
            "label": "Start",
        },
        "files": [
            {"name": "report.html", "text": "what a person reads", "size": 48_000, "url": "#files"},
            {"name": "manifest.json", "text": "SHA-256 of every file", "size": 1_920_000, "sha256": DIGEST},
        ],
    }
