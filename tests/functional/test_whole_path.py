"""The whole slice by REST alone: a good change, bad ones that take themselves back, and a killed worker."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from changecontrol.models import RunTarget, Vote
from deployments.demo.manifests import BROKEN, GOOD, LEAKING, RUNNING
from tests.scenes import Caller, World, approve, state_of, submitted, vote

pytestmark = pytest.mark.slow

PILOT = {"name": "Pilot", "environments": ["nw-pilot"], "bake_seconds": 3}
OFFICE = {"name": "Back office", "environments": ["nw-warehouse"], "bake_seconds": 1}
ROLLBACK_TIMES = (
    "detected_at",
    "rollback_decided_at",
    "rollback_started_at",
    "rollback_serving_at",
    "rollback_verified_at",
)


@pytest.fixture(autouse=True)
def frozen_time() -> None:
    """Let time pass here: pods start, waves bake."""


def test_good_change_goes_from_a_draft_to_a_pack_that_verifies(world: World, tmp_path: Path) -> None:
    # APR-1, RUN-2, GIT-2, GATE-1, AUD-3, AUD-8
    ada, ben, dee = (world.caller(name) for name in ("ada", "ben", "dee"))
    number = submitted(world, ada, GOOD.summary, waves=[PILOT, OFFICE])
    ran_before = world.ref("nw-pilot").id

    assert_gates_passed(ada, number)
    refused = vote(ada, number, "Technical review")
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "You asked for this change, so others decide on it.",
    )
    approve(world, number)
    world.until(lambda: state_of(ada, number) == "review")

    run = ada.get(f"changes/{number}/run/")
    assert {one["state"] for one in run["targets"]} == {"healthy"}
    assert_second_wave_followed_a_healthy_first(run)
    commit = ada.get(f"changes/{number}/plan/")["document"]["commit"]
    assert commit != str(ran_before)
    assert {str(world.ref(slug).id) for slug in ("nw-pilot", "nw-warehouse")} == {commit}
    assert world.images("nw-pilot") == world.images("nw-warehouse") == {GOOD.image}
    assert world.images("nw-finance") == {RUNNING.image}

    closed = ben.must(f"changes/{number}/close/", close_code="successful", note="The tills close in two seconds.")
    assert (closed["state"], closed["close_code"]) == ("closed", "successful")
    pack = dee.ask(f"changes/{number}/evidence-pack/")
    assert pack.status_code == 200
    assert pack.content == dee.ask(f"changes/{number}/evidence-pack/").content
    assert_pack_verifies_until_a_byte_is_changed(pack.content, world.public_key, tmp_path)


def test_strangers_see_nothing_and_a_vote_on_a_replaced_plan_is_refused(stage: World) -> None:
    # APR-8, BIZ-1
    ada, cy, eve = (stage.caller(name) for name in ("ada", "cy", "eve"))
    number = submitted(stage, ada, GOOD.summary, waves=[PILOT])
    seen = ada.get(f"changes/{number}/")["plan_digest"]
    parts = ("", "plan/", "gates/", "approvals/", "timeline/", "evidence/", "evidence-pack/", "revisions/", "run/")

    assert {eve.ask(f"changes/{number}/{part}").status_code for part in parts} == {404}
    assert eve.get("changes/")["results"] == []
    assert eve.get("changes/", q="19.0")["results"] == []
    assert {one["tenant"] for one in eve.get("environments/")["results"]} == {"kite"}
    assert eve.post(f"changes/{number}/vote/", requirement=1, verdict="approve", seen_digest=seen).status_code == 404

    ada.must(f"changes/{number}/revisions/", reason="Cashiers wait up to a minute when they close a session.")
    stage.until(lambda: state_of(ada, number) == "authorize")
    late = vote(cy, number, "Technical review", seen=seen)
    assert late.status_code == 409
    assert "replaced" in late.json()["detail"]
    assert not Vote.objects.exists()
    assert vote(cy, number, "Technical review").status_code == 201


def test_image_nobody_can_pull_is_taken_back_in_cluster_and_git(stage: World) -> None:
    # RBK-4, RBK-5, GIT-2
    ada = stage.caller("ada")
    number = submitted(stage, ada, BROKEN.summary)
    before = stage.ref("nw-pilot")

    approve(stage, number)
    stage.until(lambda: state_of(ada, number) == "review")

    change, run = ada.get(f"changes/{number}/"), ada.get(f"changes/{number}/run/")
    assert (change["close_code"], run["state"]) == ("rolled_back", "rolled_back")
    assert_rollback_times_follow_each_other(run)
    stage.until(lambda: stage.images("nw-pilot") == {RUNNING.image})
    after = stage.ref("nw-pilot")
    assert number in after.message
    assert [one.id for one in after.parents] == [before.id]
    assert after.tree.id == before.tree.id
    closed = stage.caller("ben").must(f"changes/{number}/close/", close_code="rolled_back", note="Nobody can pull it.")
    assert (closed["state"], closed["close_code"]) == ("closed", "rolled_back")


def test_release_that_loses_orders_is_stopped_by_the_indicator_and_taken_back(stage: World) -> None:
    # ANA-1
    ada = stage.caller("ada")
    number = submitted(stage, ada, LEAKING.summary)

    approve(stage, number)
    stage.until(lambda: state_of(ada, number) == "review")

    run = ada.get(f"changes/{number}/run/")
    assert (run["state"], run["wave"]) == ("rolled_back", 0)
    # Technically it was well: every target of the pilot was healthy, and the back office was never touched.
    log = " ".join(one["sentence"] for one in ada.get(f"runs/{run['id']}/log/", page_size=200)["results"])
    assert log.count("healthy, 2 of 2 pods run the new version") == 5
    assert "POS orders not synchronised" in log
    assert_rollback_times_follow_each_other(run)
    assert stage.images("nw-pilot") == stage.images("nw-warehouse") == {RUNNING.image}


def test_worker_killed_in_the_middle_of_a_wave_changes_nothing_but_time(stage: World) -> None:
    # RUN-1
    first = stage.start_worker()
    ada = stage.caller("ada")
    number = submitted(stage, ada, GOOD.summary, waves=[PILOT])
    stage.ask_cluster("DELETE", "/practice/calls")
    slow = {"kind": "slow", "method": "PATCH", "path": "/apis/apps/", "times": None, "seconds": 0.5}
    stage.ask_cluster("POST", "/practice/faults", slow)
    approve(stage, number)

    # Some of the wave is on the new version and some is not; the worker has settled neither.
    stage.until(lambda: 1 <= len(deployments_changed(stage)) < 5)
    first.kill()
    first.wait()
    assert len(deployments_changed(stage)) < 5
    assert not RunTarget.objects.filter(state__in=["updated", "healthy"], workload__gt="").exists()
    stage.ask_cluster("DELETE", "/practice/faults")
    stage.start_worker()
    stage.until(lambda: state_of(ada, number) == "review")

    run = ada.get(f"changes/{number}/run/")
    assert (run["state"], {one["state"] for one in run["targets"]}) == ("succeeded", {"healthy"})
    effects = stage.effects()
    assert {key: count for key, count in effects.items() if count != 1} == {}
    assert len(deployments_changed(stage)) == 5, effects
    assert stage.images("nw-pilot") == {GOOD.image}
    moves = [
        one
        for one in ada.get(f"runs/{run['id']}/log/", page_size=200)["results"]
        if "nw-pilot: Git names" in one["sentence"]
    ]
    assert len(moves) == 1


def deployments_changed(stage: World) -> list[str]:
    return [key for key in stage.effects() if "deployments" in key and "nw-pilot/" in key]


# What must hold.


def assert_gates_passed(person: Caller, number: str) -> None:
    gates = person.get(f"changes/{number}/gates/", page_size=100)["results"]
    assert {one["gate"]: one["verdict"] for one in gates} == dict.fromkeys({one["gate"] for one in gates}, "pass")
    assert len(gates) >= 6
    assert all(one["judged"] and one["tool"] and one["expires_at"] and one["artefact_sha256"] for one in gates)


def assert_second_wave_followed_a_healthy_first(run: dict[str, Any]) -> None:
    first = max(one["finished_at"] for one in run["targets"] if one["wave"] == 0)
    second = min(one["started_at"] for one in run["targets"] if one["wave"] == 1)
    assert first < second


def assert_rollback_times_follow_each_other(run: dict[str, Any]) -> None:
    times = [run[name] for name in ROLLBACK_TIMES]
    assert None not in times
    assert times == sorted(times)


def assert_pack_verifies_until_a_byte_is_changed(pack: bytes, key: Path, folder: Path) -> None:
    whole, changed, program = folder / "pack.zip", folder / "changed.zip", folder / "verify.py"
    whole.write_bytes(pack)
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    program.write_bytes(files["verify.py"])

    said = verified(program, whole, key)
    assert (said.returncode, said.stdout.splitlines()[0]) == (0, "VERIFIED"), said.stdout

    votes = bytearray(files["votes.json"])
    votes[len(votes) // 2] ^= 1
    with zipfile.ZipFile(changed, "w") as archive:
        for name, data in {**files, "votes.json": bytes(votes)}.items():
            archive.writestr(name, data)
    said = verified(program, changed, key)
    assert (said.returncode, said.stdout.splitlines()[0]) == (1, "NOT VERIFIED: votes.json was changed")
    assert {one["voter"] for one in json.loads(files["votes.json"])} == {"ben", "cy"}


def verified(program: Path, pack: Path, key: Path) -> subprocess.CompletedProcess[str]:
    """Run the pack's own program, as an auditor does."""
    return subprocess.run(
        [sys.executable, "-I", str(program), str(pack), "--key", str(key)], capture_output=True, text=True, check=False
    )
