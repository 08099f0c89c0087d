from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recovery.rules.faults import BrokenPoint, FailedDrill, FaultKind, FoundFacts, OpenAction, faults

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
BROKEN = BrokenPoint(4, "p4", AT - timedelta(hours=1), AT, "A part is gone.")
FAILED = FailedDrill(7, 2, AT, "The sentinel is missing.")
OLDER = OpenAction(5, "Drill 5 failed: a file is gone.", AT - timedelta(days=9))
OF_NEWEST = OpenAction(7, "Drill 7 failed: the sentinel is missing.", AT)
POINT = "The newest point, p4 of 23 Nov 2026 09:00:00 UTC, is broken: A part is gone. "
DRILL = "The newest drill, of level 2, failed at 23 Nov 2026 10:00:00 UTC: The sentinel is missing. "
BACK_UP = "Back up now, and drill the new point."


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (FoundFacts(True), []),
        (FoundFacts(False), []),
        (
            FoundFacts(True, broken=BROKEN),
            [("point_broken", f"{POINT}Restores begin on an older one. {BACK_UP}", AT, False, 4)],
        ),
        (
            FoundFacts(False, broken=BROKEN),
            [("point_broken", f"{POINT}No other one is verified. {BACK_UP}", AT, True, 4)],
        ),
        (
            FoundFacts(True, failed=FAILED),
            [("drill_failed", f"{DRILL}Mend what it names, and drill again.", AT, False, 7)],
        ),
        (
            FoundFacts(True, failed=FAILED, actions=(OF_NEWEST,)),
            [
                (
                    "drill_failed",
                    f"{DRILL}Mend what it names, close its corrective action, and drill again.",
                    AT,
                    False,
                    7,
                )
            ],
        ),
        (
            FoundFacts(True, actions=(OLDER, OF_NEWEST)),
            [
                (
                    "action_open",
                    "Drill 5 failed: a file is gone. And 1 more. Mend it, and say on the drill's page what was done.",
                    AT - timedelta(days=9),
                    False,
                    5,
                )
            ],
        ),
    ],
    ids=["well", "nothing proved", "broken", "broken and nothing proved", "failed", "with its action", "actions"],
)
def test_what_was_found_is_told_with_the_way_out(
    facts: FoundFacts, told: list[tuple[str, str, datetime, bool, int]]
) -> None:
    assert [(str(one.kind), one.sentence, one.since, one.is_bad, one.number) for one in faults(facts)] == told


def test_the_worst_comes_first() -> None:
    found = faults(FoundFacts(False, broken=BROKEN, failed=FAILED, actions=(OLDER, OF_NEWEST)))

    assert [one.kind for one in found] == list(FaultKind)
    assert all(one.is_bad for one in found)
