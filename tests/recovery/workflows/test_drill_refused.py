"""Whoever refuses to be asked, for a credential or a key, says nothing of a copy: its point stays what it was."""

from __future__ import annotations

from typing import Any

import pytest

from changecontrol.adapters.fakes.script import Call
from changecontrol.ports import NotAllowed, ObjectRef
from recovery.adapters.encryption import make_key_pair
from recovery.models import Drill
from tests.recovery.workflows.refusing import SENTENCE, refuse
from tests.recovery.workflows.test_cluster_recovery import (  # noqa: F401  fixtures
    Shop,
    answers,
    drilled,
    recovered_server,
    shop,
)

EXPIRED = "It no longer accepts this credential."


def check_proves_nothing(shop: Shop, drill: Drill, reason: str) -> None:  # noqa: F811
    shop.point.refresh_from_db()
    assert (drill.state, drill.sentence) == ("failed", f"It could not be carried out: {reason}")
    assert (shop.point.state, False in answers(drill).values()) == ("copied", False)
    assert shop.asked().state == "queued"


@pytest.mark.parametrize("kind", ["Backup", "Cluster"])
def test_credential_that_expires_while_the_operator_is_asked(shop: Shop, kind: str) -> None:  # noqa: F811
    def is_of_kind(call: Call) -> bool:
        ref: ObjectRef = call.args[0]
        return ref.kind == kind

    shop.scene.kubernetes.script.fail_before("observe_object", NotAllowed(EXPIRED), times=99, when=is_of_kind)

    drill = shop.ticked(drilled(shop, level=1), times=3)

    check_proves_nothing(shop, drill, EXPIRED)


@pytest.mark.parametrize(
    ("part", "sabotage"),
    [("/filestore/", ""), ("/sets/", ""), ("/filestore/", "remove")],
    ids=["attachments", "description", "sabotaged"],
)
def test_store_that_refuses_to_be_read(shop: Shop, settings: Any, part: str, sabotage: str) -> None:  # noqa: F811
    refuse(settings, verb="observe_object", part=part)

    drill = shop.ticked(drilled(shop, level=1, sabotage=sabotage), times=3)

    check_proves_nothing(shop, drill, SENTENCE)


@pytest.mark.parametrize("is_there", [True, False], ids=["another", "gone"])
def test_key_to_the_lists_of_attachments_that_is_another_or_gone(shop: Shop, is_there: bool) -> None:  # noqa: F811
    path = shop.scene.folder / "index"
    path.write_text(make_key_pair().identity) if is_there else path.unlink()

    drill = shop.ticked(drilled(shop, level=1), times=3)

    shop.point.refresh_from_db()
    assert (drill.state, shop.point.state) == ("failed", "copied")
    assert drill.sentence.startswith("It could not be carried out: ")


@pytest.mark.slow
def test_environment_that_names_no_database(shop: Shop) -> None:  # noqa: F811
    drill = shop.ticked(drilled(shop, level=2), times=2)
    shop.recover(kind="drill")
    shop.scene.estate.production.database = ""
    shop.scene.estate.production.save(update_fields=["database"])

    shop.ticked(drill, times=4)

    reason = "The environment names no database: say in the estate which one is its."
    check_proves_nothing(shop, drill, reason)
