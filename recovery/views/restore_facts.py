"""What the pages of restores show, as finished facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse

from changecontrol.templatetags.numbers import size
from changecontrol.templatetags.times import duration, exact_moment, moment, short_moment
from changecontrol.views.wording import counted
from recovery.lifecycles.restore import ACTIVE, RestoreState
from recovery.models import Restore
from recovery.models.restore import RestorePurpose
from recovery.queries.progress import Progress
from recovery.queries.restores import RestorePreview
from recovery.rules.coverage import Coverage
from recovery.rules.objectives import Expectation, Objectives
from recovery.rules.times import length
from recovery.views.step_facts import drawn, steps

SHOWN = 8
"""How many gaps and lone moments are written out."""
NOT_NEUTRALISED = (
    "Nothing is neutralised: as soon as it boots, it sends mail, takes payments, runs its jobs and calls webhooks "
    "as the environment itself does."
)
NEUTRALISED = "Mail, payments, jobs, webhooks and in-app tokens are switched off before anything boots."


KINDS = {
    RestorePurpose.COPY: "copy",
    RestorePurpose.INCIDENT: "incident restore",
    RestorePurpose.PRODUCTION: "restore into place",
}
HEADINGS = {
    RestorePurpose.COPY: "Copy of",
    RestorePurpose.INCIDENT: "Incident restore of",
    RestorePurpose.PRODUCTION: "Restore into place of",
}


@dataclass(frozen=True, slots=True)
class Asking:
    """What the last step of the wizard says: its heading, what comes of the copy, and the button."""

    heading: str
    tone: str
    icon: str
    title: str
    text: str
    button: str


ASKING = {
    RestorePurpose.COPY: Asking(
        "A copy of", "info", "shield-check", "This copy is neutralised.", NEUTRALISED, "Restore this copy"
    ),
    RestorePurpose.INCIDENT: Asking(
        "Bring back", "warn", "shield-off", "This copy is not neutralised.", NOT_NEUTRALISED, "Bring it back now"
    ),
    RestorePurpose.PRODUCTION: Asking(
        "Put back",
        "info",
        "git-commit",
        "It becomes a change.",
        "Nothing is restored before it is approved. Then a safety backup comes first, the new database is made beside "
        "the one in use, and the commit you name puts it in place. The old one is kept for as long as you say.",
        "File the change",
    ),
}


def restore_steps(restore: Restore) -> list[dict[str, Any]]:
    passed = [
        ("provisioning", restore.provisioned_at is not None),
        ("restoring", restore.restored_at is not None),
        ("validating", restore.validated_at is not None),
    ]
    return steps(restore.state, passed=passed, good_end=RestoreState.SUCCEEDED)


def version_of(restore: Restore, progress: Progress | None, *, at: datetime) -> str:
    """Name what the live part shows: while it stays the same there is nothing to draw again."""
    return drawn(restore.state, restore.sentence, restore.trouble, progress=progress, at=at)


def restore_pairs(restore: Restore) -> list[dict[str, Any]]:
    """Return what was asked, as names with values."""
    return [
        {"label": "Data of", "value": restore.environment.name, "note": restore.environment.tenant.name},
        {"label": "As it was at", "value": exact_moment(restore.target_at)},
        {
            "label": "From point",
            "value": restore.point.key,
            "note": point_note(restore),
            "url": reverse("point", args=[restore.point_id]),
        },
        {"label": "Into database", "value": restore.target_database, "is_code": True},
        *([{"label": "Filestore", "value": restore.target_filestore}] if restore.target_filestore else []),
        *_cut_over_pairs(restore),
        {"label": "Asked by", "value": str(restore.asked_by), "note": short_moment(restore.decided_at)},
        {"label": "Why", "value": restore.reason},
    ]


def _cut_over_pairs(restore: Restore) -> list[dict[str, Any]]:
    """Return which change puts it in place, and what becomes of the database that ran before."""
    if restore.purpose != RestorePurpose.PRODUCTION:
        return []
    cut_over = restore.cut_over
    return [
        {
            "label": "For change",
            "value": cut_over.change.number,
            "note": cut_over.change.title,
            "url": cut_over.change.get_absolute_url(),
        },
        {"label": "In place of", "value": cut_over.old_database, "is_code": True, "note": cut_over.sentence},
    ]


def point_note(restore: Restore) -> str:
    return f"{level_words(restore.point.level)} · {size(restore.size)} to restore"


def level_words(level: int) -> str:
    """Say how far a point was proved, without calling copied what is more, or verified what is less."""
    return f"verified at L{level}" if level >= 2 else "only copied, never restored and started"


def expectation_words(expected: Expectation | None) -> str:
    """Say how long it was expected to take, with the error of the guess."""
    if expected is None:
        return "How long it takes was not known beforehand: nothing of this environment had been restored before."
    if expected.error is None:
        return f"Restoring was expected to take about {duration(expected.takes)}, going by a single earlier restore."
    return f"Restoring was expected to take about {duration(expected.takes)}, give or take {duration(expected.error)}."


def expected_of(restore: Restore) -> Expectation | None:
    """Return what was told when it was asked for."""
    if restore.expected_seconds is None:
        return None
    error = restore.expected_error_seconds
    return Expectation(timedelta(seconds=restore.expected_seconds), None if error is None else timedelta(seconds=error))


def preview_facts(preview: RestorePreview, *, purpose: RestorePurpose) -> dict[str, Any]:
    """Return what a person must know before they ask: the point, what it would not bring back, how long it takes."""
    rpo = preview.objectives
    lost = length(preview.lost)
    if purpose != RestorePurpose.COPY:
        head = f"{lost} of work will be lost where this takes the environment's place."
    else:
        head = f"The copy will not hold the last {lost} of work."
    given, mine = exact_moment(preview.target_at, preview.target_at.tzinfo), exact_moment(preview.target_at)
    since = f"Everything written from {given} to now is not in it"
    allowed = f"{rpo.rpo_of} allows to lose {length(rpo.rpo)} at most"
    text = f"{since}; {allowed}." if preview.is_within_rpo else f"{since}. That is more than the RPO: {allowed}."
    return {
        "loss_title": head,
        "loss_text": text,
        "loss_tone": "info" if preview.is_within_rpo else "warn",
        "facts": [
            {"label": "Not brought back", "value": duration(preview.lost), "note": f"RPO {duration(rpo.rpo)}",
             "state": "" if preview.is_within_rpo else "warning"},
            {"label": "Expected to take", "value": _takes(preview.expected), "note": _error(preview.expected)},
            {"label": "To restore", "value": size(preview.size), "note": f"RTO {duration(rpo.rto)}"},
        ],
        "pairs": [
            {"label": "Time", "value": given, "note": f"for you {mine}" if mine != given else ""},
            {"label": "From point", "value": preview.point.key, "is_code": True,
             "note": f"consistent at {moment(preview.point.consistent_at)}"},
            {"label": "Proved", "value": level_words(preview.point.level)},
            *([] if preview.has_attachments else [
                {"label": "Attachments", "value": "none come with it", "note": "another tool made the point"}]),
        ],
    }  # fmt: skip


def _takes(expected: Expectation | None) -> str:
    return "not known" if expected is None else duration(expected.takes)


def _error(expected: Expectation | None) -> str:
    if expected is None:
        return "no earlier restore tells"
    return "from a single earlier one" if expected.error is None else f"± {duration(expected.error)}"


def coverage_facts(coverage: Coverage, *, url_of: Callable[[datetime], str]) -> dict[str, Any] | None:
    """Return which times can be restored as a bar and in words; None where there is none.

    Where no WAL is kept, points stand alone, and the times between them are no holes: nothing promised them. Nobody
    writes such a moment by hand, so each has an address that chooses it.
    """
    if not coverage.spans:
        return None
    first, last = coverage.spans[0].start, coverage.spans[-1].end
    ranges = [one for one in coverage.spans if one.end > one.start]
    alone = [one for one in coverage.spans if one.end == one.start]
    gaps = [{"start": start, "end": end} for start, end in coverage.gaps] if ranges else []
    if ranges:
        holes = f"with {counted(len(gaps), 'gap')}" if gaps else "without a gap"
        summary = f"From {exact_moment(first)} to {exact_moment(last)}, {holes}"
    else:
        summary = f"At {counted(len(alone), 'moment')}, from {exact_moment(first)} to {exact_moment(last)}"
    return {
        "spans": ranges,
        "moments": alone,
        "gaps": gaps,
        "newest_gaps": [f"{exact_moment(one['start'])} to {exact_moment(one['end'])}" for one in gaps[-SHOWN:]][::-1],
        "more_gaps": max(0, len(gaps) - SHOWN),
        "choices": [{"at": one.start, "url": url_of(one.start)} for one in alone[-SHOWN:]][::-1],
        "more_choices": max(0, len(alone) - SHOWN),
        # A lone moment makes no axis.
        "axis": {"start": first, "end": max(last, first + timedelta(seconds=1))},
        "first": first,
        "last": last,
        "has_ranges": bool(ranges),
        "summary": summary,
    }


def rows_of(restores: Sequence[Restore]) -> list[dict[str, Any]]:
    """Return restores as lines of a list."""
    return [
        {
            "restore": one,
            "environment": one.environment,
            "took": duration(one.validated_at - one.declared_at) if one.validated_at else "",
            "kind": KINDS[RestorePurpose(one.purpose)],
            "is_active": one.state in ACTIVE,
        }
        for one in restores
    ]


def result_of(restore: Restore, objectives: Objectives, *, at: datetime) -> dict[str, Any] | None:
    """Return how it ended, in words a person acts on; None while it goes on."""
    if restore.state in ACTIVE:
        return None
    took = length((restore.validated_at or restore.finished_at or at) - restore.declared_at)
    where = f"the database {restore.target_database}"
    if restore.state == RestoreState.SUCCEEDED:
        is_late = restore.validated_at is not None and restore.validated_at - restore.declared_at > objectives.rto
        text = f"{took} after it was declared; {objectives.rto_of} allows {length(objectives.rto)}."
        return {"tone": "warn" if is_late else "good", "title": f"It is ready in {where}.", "text": text}
    if restore.state == RestoreState.CANCELED:
        return {"tone": "info", "title": "It was canceled.", "text": restore.sentence}
    return {"tone": "bad", "title": "It failed.", "text": restore.sentence}
