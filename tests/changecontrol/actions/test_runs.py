"""What people ask of a run, and the moves that workflows make."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import IntegrityError, transaction

from changecontrol import access
from changecontrol.actions import runs
from changecontrol.actions.runs import ask_run
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.lifecycles.run import HUMAN_VERBS, RUN, RunState
from changecontrol.models import AuditEvent, Run, RunLog, RunTarget
from changecontrol.models.run import RunKind
from changecontrol.rules.roles import ABILITIES, Role
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, add_person, grant, scheduled_change, small_estate, stranger_estate

ROLES = [role for role in Role if role is not Role.PLATFORM_ADMINISTRATOR]


@pytest.fixture
def estate(db: None) -> SmallEstate:
    return small_estate()


@pytest.fixture
def run(estate: SmallEstate) -> Run:
    change = scheduled_change(estate)
    system = access.system_actor("test")
    with transaction.atomic():
        return runs.create_run(
            change,
            kind=RunKind.ROLLOUT,
            revision=change.revision,
            plan=change.plan,
            targets=[runs.NewTarget(environment=estate.production, cohort=estate.pilot, wave=0, workload="")],
            actor=system,
            at=NOW,
        )


def at_state(run: Run, state: str) -> Run:
    Run.objects.filter(pk=run.pk).update(state=state, next_due_at=None, intent="")
    return Run.objects.get(pk=run.pk)


def ask(run: Run, person: object, verb: str, reason: str = "Because.") -> Run:
    return ask_run(actor=actor(person), run_id=run.pk, verb=verb, reason=reason, at=NOW)  # type: ignore[arg-type]


def test_a_token_limited_to_one_verb_finds_the_run_it_is_for(estate: SmallEstate, run: Run) -> None:
    at_state(run, "running")
    grant(estate.cy, Role.RELEASE_OPERATOR, estate.tenant)
    limited = replace(actor(estate.cy), scopes=frozenset({"run.pause"}))

    asked = ask_run(actor=limited, run_id=run.pk, verb="pause", at=NOW)

    assert asked.intent == "pause"
    with pytest.raises(Forbidden, match=r"not scoped for “run\.abort”"):
        ask_run(actor=limited, run_id=run.pk, verb="abort", reason="Because.", at=NOW)


def test_a_second_active_run_of_a_change_is_refused_by_the_database(run: Run) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        runs.create_run(
            run.change,
            kind=RunKind.ROLLOUT,
            revision=run.revision,
            plan=run.plan,
            actor=access.system_actor("test"),
            at=NOW,
        )


def test_a_run_is_asked_exactly_what_its_state_allows(estate: SmallEstate, run: Run) -> None:  # RUN-5
    for state in RunState:
        for verb in HUMAN_VERBS:
            at_state(run, state)
            if RUN.allows(verb, state):
                asked = ask(run, estate.cy, verb)
                found = (asked.intent, asked.intent_by, asked.state, asked.next_due_at)
                assert found == (verb, estate.cy, state, NOW)
            else:
                with pytest.raises(IllegalTransition):
                    ask(run, estate.cy, verb)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_ask_exactly_what_its_abilities_say(estate: SmallEstate, run: Run, role: Role) -> None:
    person = add_person("faye")
    grant(person, role, estate.tenant)

    for verb in HUMAN_VERBS:
        at_state(run, next(state for state in RunState if RUN.allows(verb, state)))
        if runs.ABILITY_OF[verb] in ABILITIES[role]:
            assert ask(run, person, verb).intent == verb
        else:
            with pytest.raises(Forbidden):
                ask(run, person, verb)


def test_what_is_hidden_is_missing(run: Run) -> None:
    _, eve = stranger_estate()

    with pytest.raises(NotFound, match=r"^There is no such run\.$"):
        ask(run, eve, "pause")
    with pytest.raises(NotFound, match=r"^There is no such run\.$"):
        ask_run(actor=actor(eve), run_id=run.pk + 1000, verb="pause", reason="", at=NOW)


@pytest.mark.parametrize("verb", sorted(runs.REASON_REQUIRED))
def test_a_reason_is_asked_for_where_it_will_be_looked_for(estate: SmallEstate, run: Run, verb: str) -> None:
    at_state(run, "baking")

    with pytest.raises(Invalid) as refusal:
        ask(run, estate.cy, verb, reason="  ")

    assert refusal.value.fields == {"reason": ["Say why: it stays in the record."]}


@pytest.mark.parametrize(
    ("verb", "tags"),
    [
        ("skip", ["run:asked"]),
        ("pause", ["run:asked", "run:safety_action"]),
        ("abort", ["run:asked", "run:safety_action"]),
        ("roll_back", ["run:asked", "run:safety_action"]),
    ],
)
def test_asking_leaves_exactly_its_events(estate: SmallEstate, run: Run, verb: str, tags: list[str]) -> None:  # WIN-8
    at_state(run, "baking")

    with events() as found:
        ask(run, estate.cy, verb, "The tills stand still.")

    assert found == tags
    line = RunLog.objects.filter(run=run).latest("pk")
    assert line.sentence == f"Cy asked {runs.ASKED[verb]}. “The tills stand still.”"


def test_a_refused_attempt_is_recorded(estate: SmallEstate, run: Run) -> None:  # AUD-1
    with events() as found, pytest.raises(Forbidden):
        ask(run, estate.dee, "abort")

    assert found == ["refused"]
    assert AuditEvent.objects.get(tag="refused").change_id == run.change_id


def test_what_was_asked_last_is_not_asked_twice_but_safety_comes_first(estate: SmallEstate, run: Run) -> None:
    at_state(run, "baking")
    ask(run, estate.cy, "skip")

    with pytest.raises(Conflict, match="already been asked to skip"):
        ask(run, estate.cy, "skip")
    assert ask(run, estate.ben, "roll_back").intent == "roll_back"


def test_what_others_built_upon_is_not_rolled_back(estate: SmallEstate, run: Run) -> None:
    at_state(run, "aborted")
    later = scheduled_change(estate)
    with transaction.atomic():
        runs.create_run(
            later,
            kind=RunKind.ROLLOUT,
            revision=later.revision,
            plan=later.plan,
            targets=[runs.NewTarget(environment=estate.production, cohort=None, wave=0, workload="")],
            actor=access.system_actor("test"),
            at=NOW,
        )

    with pytest.raises(Conflict, match=f"{later.number} has run in the same environment since"):
        ask(run, estate.cy, "roll_back")


def test_a_move_leaves_state_event_and_line_or_none_of_them(run: Run) -> None:
    system = access.system_actor("test")

    with events() as undone, pytest.raises(RuntimeError), transaction.atomic():
        runs.move_run(Run.objects.get(pk=run.pk), "start", sentence="Begins.", actor=system, at=NOW)
        raise RuntimeError
    assert undone == []
    assert Run.objects.get(pk=run.pk).state == "queued"

    with events() as done, transaction.atomic():
        runs.move_run(run, "start", sentence="Begins.", actor=system, at=NOW)
    assert done == ["run:moved"]
    assert RunLog.objects.get(run=run).sentence == "Begins."
    assert (Run.objects.get(pk=run.pk).state, Run.objects.get(pk=run.pk).started_at) == ("preflight", NOW)


def test_a_target_moves_in_a_chain_of_its_own(run: Run) -> None:
    target = RunTarget.objects.select_related("run__change", "environment").get(run=run)

    with transaction.atomic():
        runs.move_target(target, "update", sentence="Begins.", actor=access.system_actor("test"), at=NOW)

    event = AuditEvent.objects.get(tag="run:target:moved")
    assert (event.subject, event.change_id) == (f"runtarget:{target.pk}", run.change_id)
    assert RunTarget.objects.get(pk=target.pk).started_at == NOW
