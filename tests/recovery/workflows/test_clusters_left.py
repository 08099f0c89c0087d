"""What an operator recovered is removed in the end, and owners hear of what keeps it there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.adapters.fakes.script import Call
from changecontrol.errors import Transient
from changecontrol.models import Message
from changecontrol.ports import NotAllowed
from recovery.actions.restores import cancel_restore
from recovery.models import BackupPolicy, Restore, Upkeep
from recovery.workflows.cluster_recovery import run_of
from recovery.workflows.steps import UNREMOVED
from tests.factories.estate import actor
from tests.recovery.workflows.test_cluster_recovery import Shop, recovered_server, shop  # noqa: F401  fixtures

AWAY = Transient("The cluster cannot be reached.")
DENIED = NotAllowed("The executor may not delete Cluster.")
LEFT = "left something behind"


def canceled(shop: Shop, restore: Restore) -> Restore:  # noqa: F811
    words: dict[str, Any] = {"actor": actor(shop.scene.rio), "reason": "Not needed.", "at": clock.now()}
    return cancel_restore(restore_id=restore.pk, **words)


def told_of_leftovers() -> list[str]:
    return list(Message.objects.filter(subject__endswith=LEFT).order_by("pk").values_list("text", flat=True))


@pytest.mark.parametrize("trouble", [DENIED, AWAY], ids=["denied", "away"])
def test_owners_hear_of_what_cannot_be_removed_and_it_goes_in_the_end(shop: Shop, trouble: Any) -> None:  # noqa: F811
    restore = shop.ticked(shop.asked(), times=2)
    canceled(shop, restore)
    is_denied = [True]
    shop.scene.kubernetes.script.fail_before("ensure_deleted", trouble, times=10_000, when=lambda call: is_denied[0])

    shop.scene.kept_up(times=3)
    soon = told_of_leftovers()
    shop.scene.kept_up(times=12)
    upkeep = Upkeep.objects.get(kind="clusters")

    assert (soon, told_of_leftovers()) == ([], [f"{UNREMOVED} {trouble.reason}"])
    assert (upkeep.trouble, upkeep.attempts) == (trouble.reason, 0)
    is_denied[0] = False
    shop.scene.kept_up(times=2)
    restore.refresh_from_db()
    upkeep.refresh_from_db()
    assert (restore.data, shop.clusters(), upkeep.trouble) == ({}, [], "")


def test_what_may_not_be_listed_keeps_no_other_from_being_removed(shop: Shop) -> None:  # noqa: F811
    first = shop.ticked(shop.asked(), times=2)
    canceled(shop, first)
    place = {"run": run_of(first), "namespace": "old-namespace", "is_told": False}
    Restore.objects.filter(pk=first.pk).update(data={"cluster": place})
    shop.scene.kubernetes.remove(shop.cluster)

    def is_of_the_old(call: Call) -> bool:
        return str(call.words["namespace"]) == "old-namespace"

    refused = NotAllowed("The executor may not list Cluster.")
    shop.scene.kubernetes.script.fail_before("observe_inventory", refused, times=10_000, when=is_of_the_old)
    second = shop.ticked(shop.asked("northwind_two"), times=2)
    made = shop.clusters()
    canceled(shop, second)

    shop.scene.kept_up(times=10)

    second.refresh_from_db()
    assert (made, second.data, shop.clusters()) == (["changecontrol-restore"], {}, [])
    assert told_of_leftovers() == [f"{UNREMOVED} {refused.reason}"]


def test_cluster_that_does_not_answer_is_asked_once_for_all_that_is_left(shop: Shop) -> None:  # noqa: F811
    rows = [shop.asked(f"northwind_{number}") for number in range(3)]
    for row in rows:
        canceled(shop, row)
        place = {"run": run_of(row), "namespace": shop.scene.namespace, "is_told": False}
        Restore.objects.filter(pk=row.pk).update(data={"cluster": place})
    clock.set_offset(clock.now() + timedelta(minutes=5) - datetime.now(UTC))
    script = shop.scene.kubernetes.script
    script.fail_before("*", AWAY, times=10_000)
    runs = {run_of(row) for row in rows}
    script.calls.clear()

    shop.scene.kept_up(times=1)

    asked = [call for call in script.calls if call.words.get("inventory") in runs]
    assert len(asked) == 1


@pytest.mark.parametrize("is_begun", [True, False], ids=["begun", "not-begun"])
def test_what_was_recovered_goes_though_the_policy_names_another_tool(shop: Shop, is_begun: bool) -> None:  # noqa: F811
    restore = shop.ticked(shop.asked(), times=2)
    if is_begun:
        shop.scene.kept_up(times=1)
    canceled(shop, restore)
    BackupPolicy.objects.update(engine="external")
    if not is_begun:
        Upkeep.objects.filter(kind="clusters").update(next_due_at=None)

    shop.scene.kept_up(times=6)

    restore.refresh_from_db()
    assert (restore.data, shop.clusters()) == ({}, [])
    assert Upkeep.objects.get(kind="clusters").next_due_at is None
