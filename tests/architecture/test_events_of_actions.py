"""Every public write of an app leaves an event, or is listed here with the reason why it leaves none (AUD-1)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("changecontrol/actions", "deployments/actions", "recovery/actions")
SILENT: Mapping[str, str] = {
    "changecontrol/actions/estate_file.py:load_estate": "each thing it makes is an event of `save_estate`",
    "changecontrol/actions/evidence.py:key_of": "reads: names an object",
    "changecontrol/actions/evidence.py:observe_artefacts": "reads: `open_artefact` and the export record who asked",
    "changecontrol/actions/inbox.py:read_messages": "changes nothing but what the reader has seen",
    "changecontrol/actions/jobs.py:ask_stop": "the workflow that asks says so in its own event",
    "changecontrol/actions/jobs.py:count_job_failure": "an attempt; the workflow that ordered the job records its end",
    "changecontrol/actions/jobs.py:end_job": "the workflow that ordered the job records what came of it",
    "changecontrol/actions/jobs.py:ensure_job": "in the transaction of the workflow's step, whose event it is",
    "changecontrol/actions/jobs.py:place_job": "where it is done changes nothing of what is done",
    "changecontrol/actions/jobs.py:put_off_job": "says what the row waits for",
    "changecontrol/actions/jobs.py:refuse_job": "the workflow that ordered the job records what came of it",
    "changecontrol/actions/jobs.py:tell_job_trouble": "says what the row waits for",
    "changecontrol/actions/jobs.py:tell_leftover": "the drill's own event says what was left",
    "changecontrol/actions/jobs.py:tell_silence": "says what the row waits for",
    "changecontrol/actions/jobs.py:unplace_job": "where it was done changes nothing of what is done",
    "changecontrol/actions/locking.py:sight_of": "reads",
    "changecontrol/actions/locking.py:locked_change": "locks and reads",
    "changecontrol/actions/locking.py:move": "the caller's event says what moved",
    "changecontrol/actions/locking.py:write": "the caller's event says what was written",
    "changecontrol/actions/locking.py:reason_of": "reads",
    "changecontrol/actions/people.py:username_problem": "reads",
    "changecontrol/actions/places.py:place_of": "reads",
    "changecontrol/actions/plans.py:record_authors": "in the transaction of the plan, whose event it is",
    "changecontrol/actions/rehearsals.py:note_health": "what comes of it is a move, which is an event",
    "changecontrol/actions/rehearsals.py:note_leftovers": "that it was left, and that it is gone, are moves",
    "changecontrol/actions/rounds.py:open_requirements": "reads",
    "changecontrol/actions/rounds.py:planned_end_of": "reads",
    "changecontrol/actions/runs.py:clear_intent": "`ask_run` recorded the intent, and its move is recorded",
    "changecontrol/actions/runs.py:lock_run": "locks and reads",
    "changecontrol/actions/runs.py:people_of": "reads",
    "changecontrol/actions/runs.py:write_log": "the log beside the trail, in the transaction of what it tells",
    "changecontrol/actions/submissions.py:add_contributor": "the caller's event names the actor",
    "changecontrol/actions/windows.py:differences_of": "reads",
    "deployments/actions/rollouts.py:await_restore": "what it waits for is recorded as it begins",
    "deployments/actions/rollouts.py:can": "reads",
    "deployments/actions/rollouts.py:note_time": "the log beside the trail; the moves around it are events",
    "deployments/actions/rollouts.py:obeyed": "`ask_run` recorded the intent, and its move is recorded",
    "deployments/actions/rollouts.py:say": "the moves around it are events",
    "deployments/actions/rollouts.py:where_things_stand": "reads",
    "recovery/actions/alarms.py:ensure_watch": "begins to look; what is found is an event",
    "recovery/actions/alarms.py:note_database": "what it leads to is an alarm, which is an event",
    "recovery/actions/alarms.py:note_stores": "what it leads to is an alarm, which is an event",
    "recovery/actions/backups.py:say_backup": "the moves around it are events",
    "recovery/actions/corrective_changes.py:ask_to_close": "words to people; closing it is an event",
    "recovery/actions/drills.py:note_sentinel": "the moves and checks around it are events",
    "recovery/actions/drills.py:note_trouble": "the move to clear away is an event, and so is the verdict that says it",
    "recovery/actions/drills.py:say_cleared": "words to people; that it was left is an event",
    "recovery/actions/drills.py:say_drill": "the moves and checks around it are events",
    "recovery/actions/locking.py:locked_difference": "locks and reads",
    "recovery/actions/locking.py:locked_environment": "locks and reads",
    "recovery/actions/locking.py:locked_root": "locks and reads",
    "recovery/actions/locking.py:policy_of": "reads",
    "recovery/actions/owners.py:owners_of": "reads",
    "recovery/actions/owners.py:tell_owners": "words to people, in the transaction of the event they tell",
    "recovery/actions/points.py:chain_of": "reads",
    "recovery/actions/points.py:problems_of": "reads",
    "recovery/actions/recoveries.py:forget_cluster": "the end of what was asked for is an event",
    "recovery/actions/recoveries.py:going_since": "reads",
    "recovery/actions/recoveries.py:note_cluster": "in the transaction of the move that asks for it, which is an event",
    "recovery/actions/recoveries.py:note_going": "the moves around it are events",
    "recovery/actions/recoveries.py:say_cluster": "the moves around it are events",
    "recovery/actions/recoveries.py:tell_leftovers": "words to people",
    "recovery/actions/slots.py:forget_slot": "what was seen of a slot that is gone",
    "recovery/actions/slots.py:is_too_much": "reads",
    "recovery/actions/slots.py:note_slot": "what it leads to is an alarm, which is an event",
    "recovery/actions/upkeep.py:end_round": "what the round did is recorded by others, in the same transaction",
    "recovery/actions/upkeep.py:ensure_upkeep": "a place for work that records what it does",
    "recovery/actions/upkeep.py:note_done": "what was done is recorded by others, in the same transaction",
    "recovery/actions/upkeep.py:note_reached": "what was copied is recorded by others, in the same transaction",
}


def functions() -> Iterator[tuple[str, str, ast.FunctionDef]]:
    """Yield every function at the top of a module of actions: its file, its name and itself."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef):
                    yield str(path.relative_to(ROOT)), node.name, node


def calls(node: ast.FunctionDef) -> set[str]:
    """Return the names of what a function calls: `record` for `audit.record`."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            found |= {one.func.attr} if isinstance(one.func, ast.Attribute) else set()
            found |= {one.func.id} if isinstance(one.func, ast.Name) else set()
    return found


def recording() -> set[str]:
    """Return the names of the functions that record an event themselves or through another that does."""
    known = {name: calls(node) for _, name, node in functions()}
    found = {name for name, called in known.items() if "record" in called}
    while more := {name for name, called in known.items() if called & found} - found:
        found |= more
    return found


def test_every_public_action_leaves_an_event_or_says_why_not() -> None:  # AUD-1
    leaving = recording()

    silent = {f"{file}:{name}" for file, name, _ in functions() if not name.startswith("_") and name not in leaving}

    assert silent == SILENT.keys()
