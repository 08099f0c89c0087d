from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from changecontrol.access import system_actor
from changecontrol.actions.rehearsals import ask_rehearsal, ask_teardown, move_rehearsal
from changecontrol.errors import Conflict, IllegalTransition, Invalid
from changecontrol.lifecycles.rehearsal import ACTIVE, ENDED, REHEARSAL, RehearsalState
from changecontrol.models import AuditEvent, Cluster, Rehearsal
from tests.factories import NOW, SmallEstate, small_estate

GRID = {
    "asked": {"begin": "bringing_up", "fail": "failed", "tear_down": "tearing_down"},
    "bringing_up": {"confirm": "up", "fail": "failed", "tear_down": "tearing_down"},
    "up": {"tear_down": "tearing_down"},
    "failed": {"tear_down": "tearing_down"},
    "tearing_down": {"finish": "gone", "give_up": "left"},
    "gone": {},
    "left": {"finish": "gone"},
}


@pytest.fixture
def estate(db: None) -> SmallEstate:
    return small_estate()


@pytest.fixture
def falkenstein(db: None) -> Cluster:
    return Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential="env:KUBECONFIG_DE_1")


def ask(estate: SmallEstate, cluster: Cluster, **words: Any) -> Rehearsal:
    asked: dict[str, Any] = {
        "environment": estate.production,
        "cluster": cluster,
        "key": uuid.uuid4(),
        "commit": "c" * 40,
        "path": "environments/production",
        "ends_at": NOW + timedelta(hours=4),
        "actor": system_actor("drill:1"),
        "at": NOW,
    }
    return ask_rehearsal(**{**asked, **words})


def tags() -> list[str]:
    return list(AuditEvent.objects.filter(subject__startswith="rehearsal:").values_list("tag", flat=True))


def test_a_rehearsal_goes_only_where_its_table_says() -> None:
    found = {
        str(state): {verb: str(REHEARSAL.target(verb, state)) for verb in REHEARSAL.verbs(state)}
        for state in RehearsalState
    }

    assert found == GRID
    assert REHEARSAL.final == ENDED - {RehearsalState.LEFT}
    assert frozenset(RehearsalState) == ACTIVE | ENDED


def test_asking_again_under_one_key_is_asking_once(estate: SmallEstate, falkenstein: Cluster) -> None:
    first = ask(estate, falkenstein)

    again = ask(estate, falkenstein, key=first.key)

    assert (again.pk, first.state, first.next_due_at, tags()) == (first.pk, "asked", NOW, ["rehearsal:asked"])


def test_its_own_cluster_is_refused_by_the_action_and_by_the_database(
    estate: SmallEstate, falkenstein: Cluster
) -> None:
    with pytest.raises(Invalid, match="in another cluster than the one it runs in"):
        ask(estate, estate.cluster)
    rehearsal = ask(estate, falkenstein)

    with pytest.raises(IntegrityError, match="never in the cluster of its environment"), transaction.atomic():
        Rehearsal.objects.filter(pk=rehearsal.pk).update(cluster=estate.cluster)

    assert Rehearsal.objects.get().cluster == falkenstein


def test_two_at_a_time_are_refused(estate: SmallEstate, falkenstein: Cluster) -> None:
    ask(estate, falkenstein)

    with pytest.raises(Conflict, match="under way already"):
        ask(estate, falkenstein)
    ask(estate, falkenstein, environment=estate.staging)

    assert tags() == ["rehearsal:asked", "rehearsal:asked"]


def test_taking_down_is_asked_for_once_and_makes_it_due(estate: SmallEstate, falkenstein: Cluster) -> None:
    rehearsal = ask(estate, falkenstein)
    Rehearsal.objects.update(next_due_at=NOW + timedelta(hours=4))

    for minutes in (1, 2):
        ask_teardown(key=rehearsal.key, actor=system_actor("drill:1"), at=NOW + timedelta(minutes=minutes))

    rehearsal.refresh_from_db()
    assert rehearsal.teardown_asked_at == rehearsal.next_due_at == NOW + timedelta(minutes=1)
    assert tags() == ["rehearsal:asked", "rehearsal:teardown_asked"]
    assert ask_teardown(key=uuid.uuid4(), actor=system_actor("drill:1"), at=NOW) is None


def test_what_was_left_is_asked_for_again_and_again(estate: SmallEstate, falkenstein: Cluster) -> None:
    rehearsal = ask(estate, falkenstein)
    ask_teardown(key=rehearsal.key, actor=system_actor("drill:1"), at=NOW)
    move_rehearsal(rehearsal, "tear_down", sentence="Down.", actor=system_actor(), at=NOW)
    move_rehearsal(rehearsal, "give_up", sentence="Left.", leftovers="A volume.", actor=system_actor(), at=NOW)

    for minutes in (1, 2):
        ask_teardown(key=rehearsal.key, actor=system_actor("drill:1"), at=NOW + timedelta(minutes=minutes))

    rehearsal.refresh_from_db()
    assert (rehearsal.state, rehearsal.next_due_at) == ("left", NOW + timedelta(minutes=2))
    assert tags().count("rehearsal:teardown_asked") == 3
    move_rehearsal(rehearsal, "finish", sentence="Gone.", leftovers="", actor=system_actor(), at=NOW)
    ask_teardown(key=rehearsal.key, actor=system_actor("drill:1"), at=NOW)
    assert tags().count("rehearsal:teardown_asked") == 3


def test_what_left_something_behind_is_not_gone(estate: SmallEstate, falkenstein: Cluster) -> None:
    rehearsal = ask(estate, falkenstein)
    move_rehearsal(rehearsal, "tear_down", sentence="Down.", actor=system_actor(), at=NOW)

    with pytest.raises(IntegrityError, match="left_something_behind"), transaction.atomic():
        move_rehearsal(rehearsal, "finish", sentence="Gone.", leftovers="A volume.", actor=system_actor(), at=NOW)
    rehearsal.refresh_from_db()
    move_rehearsal(rehearsal, "give_up", sentence="Left.", leftovers="A volume.", actor=system_actor(), at=NOW)

    with pytest.raises(IllegalTransition):
        move_rehearsal(rehearsal, "tear_down", sentence="Again.", actor=system_actor(), at=NOW)
    assert (rehearsal.state, rehearsal.ended_at) == ("left", NOW)
