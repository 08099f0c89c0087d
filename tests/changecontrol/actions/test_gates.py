"""Writing down verdicts, and reading which of them count."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, ProgrammingError, transaction

from changecontrol import access, gates
from changecontrol.actions.gates import Judged, record_gate_result
from changecontrol.gates import GateVerdict
from changecontrol.models import ChangeRequest, GateResult
from changecontrol.models.gate import Verdict
from changecontrol.queries.gates import current_results, gate_views, gates_not_passing
from tests.changecontrol.actions.events import events
from tests.factories import NOW, small_estate, submitted_change


@pytest.fixture
def change(db: None) -> ChangeRequest:
    return submitted_change(small_estate())


def record(change: ChangeRequest, verdict: Verdict, *, gate: str = "policy", hours: int = 1) -> GateResult:
    found = GateVerdict(verdict, "Said so.", "ab" * 32, "manifests", tool_version="1.2")
    judged = Judged(gate, "Deployment policy", "CEL", timedelta(hours=hours), found, "cd" * 32, 0.25)
    with transaction.atomic():
        return record_gate_result(
            change, revision=change.revision, judged=judged, actor=access.system_actor("test"), at=NOW
        )


def test_a_result_says_what_was_judged_with_what_and_until_when_it_counts(change: ChangeRequest) -> None:  # GATE-1
    with events() as found:
        result = record(change, Verdict.PASS)

    assert found == ["change:gate:judged"]
    assert (result.judged, result.judged_what, result.tool, result.tool_version) == (
        "ab" * 32,
        "manifests",
        "CEL",
        "1.2",
    )
    assert (result.at, result.expires_at, result.artefact_sha256) == (NOW, NOW + timedelta(hours=1), "cd" * 32)


def test_the_newest_result_of_a_gate_counts(change: ChangeRequest) -> None:
    record(change, Verdict.FAIL)
    newest = record(change, Verdict.PASS)

    assert current_results(change) == {"policy": newest}


def test_missing_stale_and_failed_gates_do_not_pass(change: ChangeRequest) -> None:  # GATE-1
    record(change, Verdict.PASS, gate="policy")
    record(change, Verdict.FAIL, gate="dry_run")

    def verdicts(at: object) -> dict[str, str]:
        return {view.key: view.verdict for view in gate_views(change, at=at)}  # type: ignore[arg-type]

    assert verdicts(NOW) | {"policy": "pass", "dry_run": "fail", "secret_scan": ""} == verdicts(NOW)
    assert verdicts(NOW + timedelta(hours=1))["policy"] == "stale"
    blocking = {view.key for view in gates_not_passing(change, at=NOW)}
    assert "policy" not in blocking
    assert {"dry_run", "secret_scan"} <= blocking


@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_a_pass_or_a_waiver_lets_through(verdict: Verdict) -> None:
    assert bool(gates.blocking([verdict])) is (verdict not in (Verdict.PASS, Verdict.WAIVED))


def test_a_verdict_cannot_be_rewritten(change: ChangeRequest) -> None:
    result = record(change, Verdict.FAIL)

    with pytest.raises((ProgrammingError, IntegrityError)), transaction.atomic():
        GateResult.objects.filter(pk=result.pk).update(verdict="pass")
