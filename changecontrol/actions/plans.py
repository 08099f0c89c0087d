"""Assessment: a submitted change is taken up, its plan written down, and it goes on to approval or back to its author.

The app that carries out the change's kind does the resolving and judging; only what comes of it is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Lower

from changecontrol import audit, outbox
from changecontrol.access import Actor
from changecontrol.actions.approvals import open_round
from changecontrol.actions.locking import move, write
from changecontrol.actions.runs import create_run, move_run
from changecontrol.events import Tag
from changecontrol.lifecycles.change import ChangeState
from changecontrol.lifecycles.run import RUN
from changecontrol.models import ChangeRequest, Contributor, Plan, Revision, Run, User
from changecontrol.models.change import Contribution
from changecontrol.models.run import RunKind
from changecontrol.rules.plan import canonical, digest_of

SUPERSEDED = "This assessment ended: the change moved on while it was made."


@transaction.atomic
def begin_assessment(*, change_id: int, kind: str, actor: Actor, at: datetime) -> Run | None:
    """Take up a submitted change of a kind: `submitted → assess`, with a run that resolves and judges it.

    Returns None where somebody else took it up, or it is no longer submitted. Safe to call many times at once.
    """
    change = ChangeRequest.objects.select_for_update(of=("self",)).select_related("revision").get(pk=change_id)
    if change.state != ChangeState.SUBMITTED or change.kind != kind or change.revision is None:
        return None
    for old in Run.objects.select_for_update().filter(change=change, kind=RunKind.ASSESSMENT).active():
        old.change = change
        end_assessment(old, sentence=SUPERSEDED, actor=actor, at=at)
    move(change, "assess", at=at, problem="")
    audit.record(Tag.CHANGE_ASSESSING, subject=change, actor=actor, at=at, data={"revision": change.revision.number})
    return create_run(change, kind=RunKind.ASSESSMENT, revision=change.revision, plan=None, actor=actor, at=at)


def end_assessment(run: Run, *, sentence: str, actor: Actor, at: datetime) -> None:
    """End a locked assessment that came to nothing, whatever it was doing."""
    if RUN.allows("fail", run.state):
        move_run(run, "fail", sentence=sentence, actor=actor, at=at)
    run.next_due_at = None
    run.save(update_fields=["next_due_at"])


def record_plan(
    change: ChangeRequest,
    *,
    revision: Revision,
    document: Mapping[str, Any],
    manifests_sha256: str,
    actor: Actor,
    at: datetime,
) -> Plan:
    """Write down what a locked change's revision resolved to. The same document again is the same plan, and digest."""
    digest = digest_of(document)
    plan, _ = Plan.objects.get_or_create(
        revision=revision,
        digest=digest,
        defaults={
            "document": canonical(document).decode(),
            "manifests_sha256": manifests_sha256,
            "created_at": at,
        },
    )
    write(change, at=at, plan=plan)
    audit.record(
        Tag.PLAN_RESOLVED,
        subject=change,
        actor=actor,
        at=at,
        data={"revision": revision.number, "digest": digest, "manifests": manifests_sha256},
    )
    return plan


def record_authors(change: ChangeRequest, *, emails: Iterable[tuple[str, Contribution]], at: datetime) -> None:
    """Remember who wrote and committed what is deployed: none of them may approve it (APR-1, APR-2).

    Who is known by one of the addresses now is remembered as a person, and stays one whatever their addresses become.
    """
    wanted = {(email.strip().lower(), contribution) for email, contribution in emails if email.strip()}
    people = _people_by_address({email for email, _ in wanted})
    Contributor.objects.bulk_create(
        [
            Contributor(change=change, user_id=person, email=email, contribution=contribution, at=at)
            for email, contribution in sorted(wanted)
            for person in people.get(email) or {None}
        ],
        ignore_conflicts=True,
    )


def _people_by_address(addresses: Set[str]) -> dict[str, set[int | None]]:
    """Return whose each address is, in lower case: that of the account, or another they gave."""
    rows = User.objects.filter(is_system=False).annotate(own=Lower("email"), other=Lower("emailaddress__email"))
    found: dict[str, set[int | None]] = {}
    for person, *given in rows.filter(Q(own__in=addresses) | Q(other__in=addresses)).values_list("pk", "own", "other"):
        for address in addresses & set(given):
            found.setdefault(address, set()).add(person)
    return found


def finish_assessment(change: ChangeRequest, *, run: Run, plan: Plan, actor: Actor, at: datetime) -> None:
    """Every gate passed: `assess → authorize`, and the people of the policy are asked about exactly this plan.

    Raises `Invalid`, having written nothing that the caller's savepoint does not undo, where nobody could approve it.
    """
    move_run(run, "succeed", sentence="Every gate passed; the plan waits for approval.", actor=actor, at=at, plan=plan)
    open_round(change, plan=plan, actor=actor, at=at)


def fail_assessment(change: ChangeRequest, *, run: Run, problem: str, actor: Actor, at: datetime) -> None:
    """A gate or the resolver found something: back to the author with the sentence. Nobody was asked to approve yet."""
    end_assessment(run, sentence=problem, actor=actor, at=at)
    move(change, "fail_assessment", at=at, problem=problem)
    audit.record(
        Tag.CHANGE_ASSESSMENT_FAILED,
        subject=change,
        actor=actor,
        at=at,
        data={"revision": run.revision.number, "problem": problem},
    )
    outbox.post(
        to=[change.requester],
        tag=str(Tag.CHANGE_ASSESSMENT_FAILED),
        subject=f"{change.number} needs a correction",
        text=problem,
        at=at,
        change=change,
    )
